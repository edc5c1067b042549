//! `lat --target NAME=KIND:ADDRESS ... --seconds S [--path P] [--body BYTES | --json FILE] [--status N]`: one client, one request
//! at a time.
//!
//! A `keep` target is asked on one kept-alive connection; so is a `quick` one, by a client that acknowledges at once
//! whatever it gets; a `new` one on a new connection for each request, whose time counts. With `--body`, that many
//! bytes are posted to the kept-alive ones, and with `--json`, what the file holds. Each answer has the status 200, or that
//! of `--status`. Targets take turns every few requests, so that whatever disturbs the
//! machine disturbs all alike.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::client::{Acknowledging, Client, Request};
use tools::times::Times;

const TURN: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(10);

struct Target {
    name: String,
    address: SocketAddr,
    connection: Connection,
    times: Times,
}

enum Connection {
    New,
    Kept(Client),
}

/// What all targets are asked.
struct Asked {
    kept: Request,
    new: Request,
}

impl Target {
    fn open(text: &str) -> Result<Self, Box<dyn Error>> {
        let malformed = || format!("{text}: not NAME=KIND:ADDRESS with keep, quick or new as KIND");
        let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
        let (kind, address) = rest.split_once(':').ok_or_else(malformed)?;
        let address = address.parse()?;
        let kept = |acknowledging| {
            let client = Client::connect(address, TIMEOUT)?.acknowledging(acknowledging);
            std::io::Result::Ok(Connection::Kept(client))
        };
        let connection = match kind {
            "keep" => kept(Acknowledging::Delayed)?,
            "quick" => kept(Acknowledging::AtOnce)?,
            "new" => Connection::New,
            _ => return Err(malformed().into()),
        };
        Ok(Self {
            name: name.to_owned(),
            address,
            connection,
            times: Times::default(),
        })
    }

    fn turn(&mut self, asked: &Asked) -> std::io::Result<()> {
        for _ in 0..TURN {
            let start = Instant::now();
            match &mut self.connection {
                Connection::Kept(client) => client.exchange(&asked.kept)?,
                Connection::New => Client::connect(self.address, TIMEOUT)?.exchange(&asked.new)?,
            }
            self.times.push(start.elapsed());
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["target", "seconds", "path", "body", "json", "status"])?;
    let path: String = args.or("path", "/fast".to_owned())?;
    let json: String = args.or("json", String::new())?;
    let kept = match args.or("body", 0)? {
        0 if json.is_empty() => Request::kept_alive(&path),
        0 => Request::posting(&path, "application/json", &std::fs::read(json)?),
        bytes => Request::posting(&path, "application/octet-stream", &vec![b'x'; bytes]),
    };
    let status = args.or("status", 200)?;
    let asked = Asked {
        kept: kept.answered_with(status),
        new: Request::closing(&path).answered_with(status),
    };
    let seconds = Duration::from_secs_f64(args.need("seconds")?);
    let mut targets = args
        .all("target")
        .map(Target::open)
        .collect::<Result<Vec<_>, _>>()?;

    let start = Instant::now();
    while start.elapsed() < seconds {
        for target in &mut targets {
            target
                .turn(&asked)
                .map_err(|error| format!("{}: {error}", target.name))?;
        }
    }

    let fields: Vec<String> = targets
        .iter()
        .map(|target| format!(r#""{}":{}"#, target.name, target.times.to_json()))
        .collect();
    println!("{{{}}}", fields.join(","));
    Ok(())
}

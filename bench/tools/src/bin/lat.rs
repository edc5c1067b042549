//! `lat --target NAME=keep:ADDRESS --target NAME=new:ADDRESS --seconds S [--path P]`: one client, one request at a time.
//!
//! A `keep` target is asked on one kept-alive connection, a `new` one on a new connection for each request, whose
//! time counts. Targets take turns every few requests, so that whatever disturbs the machine disturbs all alike.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::client::{Client, Request};
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

impl Target {
    fn open(text: &str) -> Result<Self, Box<dyn Error>> {
        let malformed = || format!("{text}: not NAME=keep:ADDRESS or NAME=new:ADDRESS");
        let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
        let (kind, address) = rest.split_once(':').ok_or_else(malformed)?;
        let address = address.parse()?;
        let connection = match kind {
            "keep" => Connection::Kept(Client::connect(address, TIMEOUT)?),
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

    fn turn(&mut self, path: &str) -> std::io::Result<()> {
        let request = match self.connection {
            Connection::Kept(_) => Request::kept_alive(path),
            Connection::New => Request::closing(path),
        };
        for _ in 0..TURN {
            let start = Instant::now();
            match &mut self.connection {
                Connection::Kept(client) => client.exchange(&request)?,
                Connection::New => Client::connect(self.address, TIMEOUT)?.exchange(&request)?,
            }
            self.times.push(start.elapsed());
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["target", "seconds", "path"])?;
    let path: String = args.or("path", "/fast".to_owned())?;
    let seconds = Duration::from_secs_f64(args.need("seconds")?);
    let mut targets = args
        .all("target")
        .map(Target::open)
        .collect::<Result<Vec<_>, _>>()?;

    let start = Instant::now();
    while start.elapsed() < seconds {
        for target in &mut targets {
            target
                .turn(&path)
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

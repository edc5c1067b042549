//! `turns --target NAME=KIND:ADDRESS/PATH[,PATH...] ... --clients N --seconds S [--body TEXT] [--type TYPE]`: clients that
//! post the same body to all targets in turns, and must get it back.
//!
//! KIND is `http1` or `http2`, or `grpc`, where PATH is the chain. Several paths are asked one after another. Each client has
//! a connection of its own and sends its next request when it has the answer to its last. A turn is a tenth of a second, so
//! that whatever disturbs the machine disturbs all targets alike.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use tools::args::Args;
use tools::asking::{Asked, Connection, Kind};
use tools::times::Times;

const TURN: Duration = Duration::from_millis(100);
/// Of a turn, once no new request is sent.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Target {
    name: String,
    /// One after another.
    asked: Vec<Asked>,
    connections: Vec<Connection>,
    times: Times,
    /// Of all its turns.
    lasted: Duration,
}

impl Target {
    async fn open(text: &str, clients: usize, args: &Args) -> Result<Self, Box<dyn Error>> {
        let malformed = || format!("{text}: not NAME=KIND:ADDRESS/PATH");
        let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
        let (kind, rest) = rest.split_once(':').ok_or_else(malformed)?;
        let at = rest.find('/').ok_or_else(malformed)?;
        let (address, path) = rest.split_at(at);
        let kind: Kind = kind.parse()?;
        let address: SocketAddr = address.parse()?;
        let paths = path[usize::from(kind == Kind::Grpc)..].split(',');
        let media_type = args.or("type", "application/json".to_owned())?;
        let body = Bytes::from(args.or("body", "42".to_owned())?);
        let asked = paths.map(|path| Asked {
            kind,
            address,
            path: path.to_owned(),
            media_type: media_type.clone(),
            body: body.clone(),
        });
        let asked = asked.collect();
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Connection::open(kind, address).await?);
        }
        Ok(Self {
            name: name.to_owned(),
            asked,
            connections,
            times: Times::default(),
            lasted: Duration::ZERO,
        })
    }

    /// Without `counts`, only for what is slow at first.
    async fn turn(&mut self, counts: bool) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let mut clients = JoinSet::new();
        for connection in self.connections.drain(..) {
            clients.spawn(ask(connection, self.asked.clone(), start));
        }
        let ended = async {
            while let Some(client) = clients.join_next().await {
                let (connection, times) = client.expect("a client does not panic")?;
                self.connections.push(connection);
                if counts {
                    self.times.append(times);
                }
            }
            std::io::Result::Ok(())
        };
        tokio::time::timeout(TURN + TIMEOUT, ended).await??;
        if counts {
            self.lasted += start.elapsed();
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        let times = self.times.to_json();
        let seconds = self.lasted.as_secs_f64();
        let fields = times.trim_end_matches('}');
        format!(r#""{}":{fields},"seconds":{seconds:.3}}}"#, self.name)
    }
}

async fn ask(
    mut connection: Connection,
    asked: Vec<Asked>,
    start: Instant,
) -> std::io::Result<(Connection, Times)> {
    let mut times = Times::default();
    for asked in asked.iter().cycle() {
        if start.elapsed() >= TURN {
            break;
        }
        let sent = Instant::now();
        connection.exchange(asked).await?;
        times.push(sent.elapsed());
    }
    Ok((connection, times))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["target", "clients", "seconds", "body", "type"])?;
    let clients = args.or("clients", 1)?;
    let seconds = Duration::from_secs_f64(args.need("seconds")?);
    let mut targets = Vec::new();
    for text in args.all("target") {
        targets.push(Target::open(text, clients, &args).await?);
    }

    let mut start = Instant::now();
    let mut counts = false;
    while !counts || start.elapsed() < seconds {
        for target in &mut targets {
            let turn = target.turn(counts).await;
            turn.map_err(|error| format!("{}: {error}", target.name))?;
        }
        if !counts {
            start = Instant::now();
            counts = true;
        }
    }

    let fields: Vec<String> = targets.iter().map(Target::to_json).collect();
    println!("{{{}}}", fields.join(","));
    Ok(())
}

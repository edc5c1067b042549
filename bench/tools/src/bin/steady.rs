//! `steady --address A --rate R --seconds S [--clients N]`: well-behaved clients, whose every request must get its answer.
//!
//! Requests are due at a fixed rate, whatever becomes of those before. The clients take turns; each keeps its connection,
//! and now and then comes on a new one. Most requests are `GET /work?id=...`, answered with the id; one in five posts a
//! body to `/echo`, which gives it back. A request's time counts from the moment it was due. Whatever is not a 200 with
//! the right body, to its last byte, is lost: so is a request on a connection that the server closed, for these clients
//! leave no connection idle for long.

use std::error::Error;
use std::io::{Error as IoError, Result as IoResult};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::client::{Client, Request};
use tools::times::Times;

const TIMEOUT: Duration = Duration::from_secs(60);
const STACK: usize = 256 * 1024;
const POSTED_ONE_IN: usize = 5;
const BODY: usize = 20 * 1024;
/// Of a client's own requests, one in so many comes on a new connection, the server having closed the last.
const NEWCOMER_ONE_IN: usize = 10;
/// Why requests were lost, of so many at most.
const REASONS: usize = 5;

#[derive(Default)]
struct Found {
    times: Times,
    lost: Vec<String>,
}

struct Clients {
    address: SocketAddr,
    start: Instant,
    rate: f64,
    requests: usize,
    count: usize,
}

impl Clients {
    /// All that the client with this number does.
    fn run(&self, number: usize) -> Found {
        let mut found = Found::default();
        let mut client = None;
        for (turn, id) in (number..self.requests).step_by(self.count).enumerate() {
            let due = self.start + Duration::from_secs_f64(id as f64 / self.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let last = turn % NEWCOMER_ONE_IN == NEWCOMER_ONE_IN - 1;
            match self.ask(&mut client, id, last) {
                Ok(()) => found.times.push(due.elapsed()),
                Err(error) => {
                    found.lost.push(format!("request {id}: {error}"));
                    client = None;
                }
            }
            if last {
                client = None;
            }
        }
        found
    }

    fn ask(&self, client: &mut Option<Client>, id: usize, last: bool) -> IoResult<()> {
        if client.is_none() {
            *client = Some(Client::connect(self.address, TIMEOUT)?);
        }
        let client = client.as_mut().expect("it is connected");
        let (request, answer) = if id % POSTED_ONE_IN == 0 {
            let body: Vec<u8> = (0..BODY).map(|i| (i + id) as u8).collect();
            (
                Request::posting("/echo", "application/octet-stream", &body),
                body,
            )
        } else {
            let path = format!("/work?id={id}");
            let request = if last {
                Request::closing(&path)
            } else {
                Request::kept_alive(&path)
            };
            (request, id.to_string().into_bytes())
        };
        if client.answer(&request)? == answer {
            Ok(())
        } else {
            Err(IoError::other("the answer is not its own"))
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "rate", "seconds", "clients"])?;
    let rate: f64 = args.need("rate")?;
    let seconds: f64 = args.need("seconds")?;
    let clients = Clients {
        address: args.need("address")?,
        start: Instant::now(),
        rate,
        requests: (rate * seconds) as usize,
        count: args.or("clients", 64)?,
    };

    let found = thread::scope(|scope| {
        let running: Vec<_> = (0..clients.count)
            .map(|number| {
                let clients = &clients;
                thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || clients.run(number))
            })
            .collect::<IoResult<_>>()?;
        let mut all = Found::default();
        for client in running {
            let found = client.join().expect("a client does not panic");
            all.times.append(found.times);
            all.lost.extend(found.lost);
        }
        IoResult::Ok(all)
    })?;

    let reasons: Vec<String> = found
        .lost
        .iter()
        .take(REASONS)
        .map(|reason| format!("{reason:?}"))
        .collect();
    println!(
        r#"{{"answered":{},"lost":{},"reasons":[{}]}}"#,
        found.times.to_json(),
        found.lost.len(),
        reasons.join(",")
    );
    Ok(())
}

//! `openload --address A --rate R --seconds S`: requests that arrive at a fixed rate, however slowly they are answered.
//!
//! One in ten, at places drawn by `--seed`, goes to `--slow`, the others to `--fast`. A request's time counts from the moment it
//! was due, so that a server which holds up the load cannot hide what it cost. Each request is a client of its own,
//! with its own connection.

use std::error::Error;
use std::io::Result as IoResult;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::client::{Client, Request};
use tools::draw::Draw;
use tools::times::Times;

const TIMEOUT: Duration = Duration::from_secs(60);
/// One in this many is slow.
const SLOW_ONE_IN: usize = 10;
const STACK: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fast,
    Slow,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "rate", "seconds", "seed", "fast", "slow"])?;
    let address: SocketAddr = args.need("address")?;
    let rate: f64 = args.need("rate")?;
    let seconds: f64 = args.need("seconds")?;
    let fast = Request::closing(&args.or("fast", "/fast".to_owned())?);
    let slow = Request::closing(&args.or("slow", "/sleep?s=1".to_owned())?);

    let start = Instant::now();
    let mut requests = Vec::new();
    let kinds = kinds((rate * seconds) as usize, args.or("seed", 1)?);
    for (i, kind) in kinds.into_iter().enumerate() {
        let due = start + Duration::from_secs_f64(i as f64 / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = match kind {
            Kind::Fast => fast.clone(),
            Kind::Slow => slow.clone(),
        };
        let sent = thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || send(address, &request, due))?;
        requests.push((kind, sent));
    }

    let (mut fast, mut slow, mut errors) = (Times::default(), Times::default(), 0);
    for (kind, request) in requests {
        match request.join().expect("a request does not panic") {
            Ok(time) if kind == Kind::Fast => fast.push(time),
            Ok(time) => slow.push(time),
            Err(_) => errors += 1,
        }
    }
    println!(
        r#"{{"fast":{},"slow":{},"errors":{errors}}}"#,
        fast.to_json(),
        slow.to_json()
    );
    Ok(())
}

fn send(address: SocketAddr, request: &Request, due: Instant) -> IoResult<Duration> {
    Client::connect(address, TIMEOUT)?.exchange(request)?;
    Ok(due.elapsed())
}

/// Exactly one in ten is slow, at places shuffled over the whole run, so that slow ones also come in clusters.
fn kinds(requests: usize, seed: u64) -> Vec<Kind> {
    let mut kinds = vec![Kind::Fast; requests];
    kinds[..requests / SLOW_ONE_IN].fill(Kind::Slow);
    let mut draw = Draw::seeded(seed);
    for last in (1..requests).rev() {
        kinds.swap(last, draw.below(last as u64 + 1) as usize);
    }
    kinds
}

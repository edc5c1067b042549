//! `leave --address A --times N --path P --mark FILE [--next P]`: clients that leave while R works for them.
//!
//! The handler of `--path` creates the file `--mark` when it begins, and then keeps its worker for long. Each client
//! leaves at a moment drawn by `--seed` from the first 20 ms after that. What is timed is the next request, which a
//! client that is connected already sends at the moment of the leave: until its answer.

use std::error::Error;
use std::fs;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::client::{Acknowledging, Client, Request};
use tools::draw::Draw;
use tools::times::Times;

/// Far less than the handler takes: a worker that works on is an error.
const TIMEOUT: Duration = Duration::from_secs(10);
const LATEST_LEAVE_MICROS: u64 = 20_000;
const LOOK: Duration = Duration::from_micros(200);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "times", "path", "mark", "next", "seed"])?;
    let address: SocketAddr = args.need("address")?;
    let long = Request::kept_alive(&args.need::<String>("path")?);
    let mark: PathBuf = args.need("mark")?;
    let next = Request::kept_alive(&args.or("next", "/fast".to_owned())?);
    let mut draw = Draw::seeded(args.or("seed", 1)?);

    let mut follower = Client::connect(address, TIMEOUT)?.acknowledging(Acknowledging::AtOnce);
    follower.exchange(&next)?;
    let mut times = Times::default();
    for i in 0..args.need("times")? {
        let mut leaving = Client::connect(address, TIMEOUT)?;
        leaving.send(&long)?;
        wait_for(&mark).map_err(|error| format!("request {i} did not reach R: {error}"))?;
        sleep(Duration::from_micros(draw.below(LATEST_LEAVE_MICROS)));
        let start = Instant::now();
        drop(leaving);
        follower
            .exchange(&next)
            .map_err(|error| format!("no answer after leave {i}: {error}"))?;
        times.push(start.elapsed());
    }
    println!("{}", times.to_json());
    Ok(())
}

/// Takes the file away once it is there.
fn wait_for(mark: &Path) -> IoResult<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match fs::remove_file(mark) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        if Instant::now() > deadline {
            return Err(IoError::new(ErrorKind::TimedOut, "no file"));
        }
        sleep(LOOK);
    }
}

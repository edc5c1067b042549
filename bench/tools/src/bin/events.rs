//! `events --address A --times N [--path P]`: how long the first event of a stream is on its way.
//!
//! The handler of `--path` writes as its first event what time it is, in milliseconds since 1970, by the clock of this
//! very machine; then it goes on, so that a server which keeps the events back until the handler is through is late.
//! Each stream is a client of its own, which reads to the stream's end.

use std::error::Error;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tools::args::Args;
use tools::client::{Client, Request};
use tools::times::Times;

const TIMEOUT: Duration = Duration::from_secs(10);
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "times", "path"])?;
    let address: SocketAddr = args.need("address")?;
    let request = Request::kept_alive(&args.or("path", "/events".to_owned())?);

    let mut times = Times::default();
    for i in 0..args.need("times")? {
        let time =
            first_event(address, &request).map_err(|error| format!("stream {i}: {error}"))?;
        times.push(time);
    }
    println!("{}", times.to_json());
    Ok(())
}

fn first_event(address: SocketAddr, request: &Request) -> IoResult<Duration> {
    let mut client = Client::connect(address, TIMEOUT)?;
    client.send(request)?;
    let written = client.read_until(written)?;
    let received = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(IoError::other)?;
    client.read_until(|read| Ok(read.ends_with(LAST_CHUNK).then_some(())))?;
    // The clock that tells R the time may be a little coarser.
    Ok(received.saturating_sub(written))
}

/// The time that the first event holds, once all of it is there.
fn written(read: &[u8]) -> IoResult<Option<Duration>> {
    let text = std::str::from_utf8(read).map_err(IoError::other)?;
    if !text.starts_with(&"HTTP/1.1 200"[..text.len().min(12)]) {
        let status = text.lines().next().unwrap_or_default();
        return Err(IoError::new(ErrorKind::InvalidData, status.to_owned()));
    }
    let Some((_, event)) = text.split_once("data:") else {
        return Ok(None);
    };
    let Some((milliseconds, _)) = event.split_once("\n\n") else {
        return Ok(None);
    };
    let milliseconds: f64 = milliseconds.trim().parse().map_err(IoError::other)?;
    Duration::try_from_secs_f64(milliseconds / 1e3)
        .map(Some)
        .map_err(IoError::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_event_when_it_is_complete() {
        let read = b"HTTP/1.1 200 OK\r\n\r\n16\r\ndata: 1500.25\n\n\r\n";
        assert_eq!(written(&read[..30]).unwrap(), None);
        assert_eq!(
            written(read).unwrap(),
            Some(Duration::from_micros(1_500_250))
        );
    }

    #[test]
    fn takes_no_error_for_a_stream() {
        assert!(written(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").is_err());
    }
}

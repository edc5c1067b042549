//! `idle --address A --clients N [--path P]`: clients that each make one request, then stay connected and ask nothing.
//!
//! Prints `{"open": N}` when the last has its answer, and again, with how many are still connected, for each line on
//! standard input. Ends with its input.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tools::args::Args;
use tools::client::{Client, Request};

const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "clients", "path"])?;
    let address: SocketAddr = args.need("address")?;
    let request = Request::kept_alive(&args.or("path", "/fast".to_owned())?);

    let mut clients = Vec::new();
    for i in 0..args.need("clients")? {
        let client = Client::connect(address, TIMEOUT).and_then(|mut client| {
            client.exchange(&request)?;
            Ok(client)
        });
        clients.push(client.map_err(|error| format!("client {i}: {error}"))?);
    }
    report(&clients)?;
    for line in std::io::stdin().lines() {
        line?;
        report(&clients)?;
    }
    Ok(())
}

fn report(clients: &[Client]) -> std::io::Result<()> {
    let mut open = 0;
    for client in clients {
        open += usize::from(client.is_open()?);
    }
    println!(r#"{{"open":{open}}}"#);
    Ok(())
}

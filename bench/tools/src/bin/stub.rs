//! `stub --ports N [--body BYTES]`: a very cheap upstream on N free ports.
//!
//! Prints its addresses, separated by commas, when it listens. `GET /stats` on any port tells what it has seen since it was
//! last asked.

use std::error::Error;
use std::net::SocketAddr;

use tools::args::Args;
use tools::stub::Stub;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["ports", "body"])?;
    let stub = Stub::bind(args.need("ports")?, args.or("body", 13)?)?;
    let addresses: Vec<String> = stub
        .addresses()?
        .iter()
        .map(SocketAddr::to_string)
        .collect();
    println!("{}", addresses.join(","));
    Ok(stub.run()?)
}

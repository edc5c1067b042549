//! `stub --ports N [--body BYTES]`: a very cheap upstream on N free ports of 127.0.0.1.
//! `stub --hosts N --first 127.1.0.1 ...`: on one port of N addresses that follow each other.
//! `stub --ports 1 --dial ADDRESS --slots N ...`: besides, N slots of a worker that dials in to a hub.
//!
//! Prints its addresses, separated by commas, when it listens. `GET /sleep?s=0.05` takes that long, everything else no
//! time. `GET /stats` on any port tells what it has seen since it was last asked, and `GET /stats/each` of each port.

use std::error::Error;
use std::net::SocketAddr;

use tools::args::Args;
use tools::stub::{places, Stub};

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["ports", "hosts", "first", "body", "dial", "slots"])?;
    let listeners = match args.or("hosts", 0)? {
        0 => places::ports(args.need("ports")?)?,
        hosts => places::hosts(args.need("first")?, hosts)?,
    };
    let mut stub = Stub::new(listeners, args.or("body", 13)?)?;
    if args.all("dial").next().is_some() {
        stub.dial(args.need("dial")?, args.or("slots", 1)?)?;
    }
    let addresses: Vec<String> = stub.addresses().iter().map(SocketAddr::to_string).collect();
    println!("{}", addresses.join(","));
    Ok(stub.run()?)
}

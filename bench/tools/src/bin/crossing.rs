//! `crossing --address A --functions a,b,... --chains N [--clients N] [--seed N]`: chains over some of the functions in drawn
//! orders, many at a time. Every second one is cancelled: its client leaves after a drawn time, whether it has its answer or not.
//!
//! Every other must get what it sent, within a minute; what took longer hangs.

use std::cell::RefCell;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::LocalSet;
use tools::args::Args;
use tools::asking::{Asked, Connection, Kind};
use tools::draw::Draw;
use tools::times::Times;

const HANGS: Duration = Duration::from_secs(60);
/// Of those that are cancelled, in microseconds: from before any worker has them to after their answer.
const LEAVES_WITHIN: u64 = 100_000;
const LEAST: usize = 2;
/// Up to so many bytes are sent.
const BYTES: u64 = 64 * 1024;

struct Crossing {
    address: SocketAddr,
    functions: Vec<String>,
    draw: Draw,
    left: usize,
    told: Told,
}

#[derive(Default)]
struct Told {
    answered: Times,
    cancelled: usize,
    /// Had their answer before their client was to leave.
    early: usize,
    hung: usize,
    failed: usize,
    failure: Option<String>,
}

struct Chain {
    asked: Asked,
    /// None is not at all.
    leaves: Option<Duration>,
}

impl Crossing {
    fn next(&mut self) -> Option<Chain> {
        self.left = self.left.checked_sub(1)?;
        let mut names = self.functions.clone();
        for last in (1..names.len()).rev() {
            names.swap(last, self.draw.below(last as u64 + 1) as usize);
        }
        let orders = (names.len() - LEAST + 1) as u64;
        names.truncate(LEAST + self.draw.below(orders) as usize);
        let body = vec![b'x'; 1 + self.draw.below(BYTES) as usize];
        let leaves = Duration::from_micros(self.draw.below(LEAVES_WITHIN));
        Some(Chain {
            asked: Asked {
                kind: Kind::Http1,
                address: self.address,
                path: format!("/invoke?chain={}", names.join("%7C")),
                media_type: "application/octet-stream".into(),
                body: Bytes::from(body),
            },
            leaves: (self.left % 2 == 0).then_some(leaves),
        })
    }
}

impl Told {
    fn fail(&mut self, error: &std::io::Error, chain: &Chain) {
        self.failed += 1;
        let path = &chain.asked.path;
        self.failure
            .get_or_insert_with(|| format!("{path}: {error}"));
    }

    fn to_json(&self) -> String {
        format!(
            r#"{{"answered":{},"cancelled":{},"early":{},"hung":{},"failed":{},"failure":{:?}}}"#,
            self.answered.to_json(),
            self.cancelled,
            self.early,
            self.hung,
            self.failed,
            self.failure.as_deref().unwrap_or_default(),
        )
    }
}

/// One after another, as long as there are any.
async fn client(crossing: Rc<RefCell<Crossing>>) {
    loop {
        let Some(chain) = crossing.borrow_mut().next() else {
            return;
        };
        let start = Instant::now();
        let limit = chain.leaves.unwrap_or(HANGS);
        let ended = tokio::time::timeout(limit, ask(&chain.asked)).await;
        let told = &mut crossing.borrow_mut().told;
        match (ended, chain.leaves) {
            (Err(_), Some(_)) => told.cancelled += 1,
            (Err(_), None) => told.hung += 1,
            (Ok(Err(error)), _) => told.fail(&error, &chain),
            (Ok(Ok(())), Some(_)) => told.early += 1,
            (Ok(Ok(())), None) => told.answered.push(start.elapsed()),
        }
    }
}

async fn ask(asked: &Asked) -> std::io::Result<()> {
    Connection::open(asked.kind, asked.address)
        .await?
        .exchange(asked)
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["address", "functions", "chains", "clients", "seed"])?;
    let functions: String = args.need("functions")?;
    let functions: Vec<String> = functions.split(',').map(str::to_owned).collect();
    if functions.len() < LEAST {
        return Err("--functions: at least two".into());
    }
    let crossing = Rc::new(RefCell::new(Crossing {
        address: args.need("address")?,
        functions,
        draw: Draw::seeded(args.or("seed", 1)?),
        left: args.need("chains")?,
        told: Told::default(),
    }));
    let clients = LocalSet::new();
    for _ in 0..args.or("clients", 64)? {
        clients.spawn_local(client(Rc::clone(&crossing)));
    }
    clients.await;
    println!("{}", crossing.borrow().told.to_json());
    Ok(())
}

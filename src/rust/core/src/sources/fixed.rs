//! Workers whose addresses are given once, and which are no faucets: someone else starts and stops them. For benchmarks
//! and tests of the front.

use std::net::SocketAddr;
use std::sync::Arc;

use super::members::{Members, Usage};
use super::Roster;
use crate::lock::Table;
use crate::worker::Worker;

/// Adds a worker for each address and looks after those that become unreachable, until dropped.
pub async fn run(
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    addresses: Vec<SocketAddr>,
    slots: u32,
) {
    let usage = Usage {
        slots,
        remote: None,
        peer: None,
        authority: "localhost".into(),
        pool: None,
        ready_path: None,
        exclusive: false,
    };
    let (mut members, mut happened) = Members::new(usage, table, roster);
    for address in addresses {
        members.enter_unseen(address);
    }
    while let Some((key, event)) = happened.recv().await {
        members.handle(key, event);
    }
}

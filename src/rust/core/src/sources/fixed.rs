//! Workers whose addresses are given once: someone else starts and stops them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::roster::{Entry, Roster};
use crate::lock::{MemberId, Table};
use crate::ops::status::State;
use crate::worker::{Address, Connection, Report, Worker};

/// Between two looks at a worker that could not be reached.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// Adds a worker for each address and looks after those that become unreachable, until dropped.
pub async fn run(
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    addresses: Vec<SocketAddr>,
    slots: u32,
) {
    let (sender, mut lost) = mpsc::unbounded_channel::<u64>();
    let mut members: Vec<(MemberId, Arc<Worker>)> = Vec::new();
    let mut entries = Vec::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let sender = sender.clone();
        let worker = Arc::new(Worker::new(
            index as u32 + 1,
            index as u64,
            Address::Tcp(address),
            Box::new(move |worker, report| {
                if report == Report::Unreachable {
                    // Fails only when this source has been dropped.
                    let _ = sender.send(worker.generation);
                }
            }),
        ));
        entries.push(Entry {
            id: worker.id,
            generation: worker.generation,
            pid: None,
            state: State::Ready,
            restarts: 0,
            started: Some(SystemTime::now()),
            boot: None,
            worker: Some(worker.clone()),
        });
        members.push((table.add(worker.clone(), slots), worker));
    }
    roster.set(entries, None);
    while let Some(index) = lost.recv().await {
        let (member, worker) = members[index as usize].clone();
        let table = table.clone();
        tokio::spawn(async move {
            tracing::warn!(worker = worker.id, address = %worker.address, "is unreachable");
            while Connection::open(&worker.address).await.is_err() {
                tokio::time::sleep(PROBE_PAUSE).await;
            }
            tracing::info!(worker = worker.id, "is reachable again");
            table.resume(member);
        });
    }
}

//! The source of one route's pool: takes slots as they come, and looks after them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::names::Names;
use super::Hub;
use crate::clock::until;
use crate::lock::Table;
use crate::sources::members::{Event, Members, Usage};
use crate::sources::{Command, Roster, SourceContext, SourceEvent, SourceHandle, SourceTask};
use crate::worker::{Dialled, Worker};

/// Where the number of workers is changed.
const ELSEWHERE: &str =
    "These workers are not the server's own: start more of them where they run.";

/// Our own requests name no host: a worker that dials in has none.
const AUTHORITY: &str = "localhost";

/// A route's pool before it is started: the slots that come to it.
pub struct HubPool {
    hub: Arc<Hub>,
    offers: mpsc::UnboundedReceiver<Arc<Dialled>>,
}

impl HubPool {
    pub(super) fn new(hub: Arc<Hub>, offers: mpsc::UnboundedReceiver<Arc<Dialled>>) -> Self {
        Self { hub, offers }
    }

    /// The source's work and its handle.
    pub fn start(self, context: SourceContext) -> (SourceTask, SourceHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let handle = SourceHandle::new(move |command| {
            // Fails only when this source is gone.
            let _ = sender.send(command);
        });
        (Box::pin(run(self, context, commands)), handle)
    }
}

/// Runs until it is told to stop. The workers go on without it.
async fn run(
    pool: HubPool,
    context: SourceContext,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let HubPool { hub, mut offers } = pool;
    let SourceContext {
        table,
        roster,
        ops,
        notify,
        // Slots are for requests.
        sessions: _,
    } = context;
    let (mut slots, mut happened) = slots(hub.cancel, table, roster);
    let mut names = Names::default();
    let mut next_look = None;
    let mut unused = Some(Instant::now());
    // The first slot is there already.
    notify.send(SourceEvent::Ready);
    loop {
        let forget = unused.zip(hub.forget_after);
        let forget = forget.and_then(|(since, after)| since.checked_add(after));
        tokio::select! {
            biased;
            command = commands.recv() => {
                if !slots.obey(command, &mut commands, ELSEWHERE).await {
                    return;
                }
            }
            Some((key, event)) = happened.recv() => {
                if let Some(slot) = slots.slot_gone(key, &event) {
                    names.went(&slot.name);
                    next_look = next_look.or_else(|| names.look());
                }
                slots.handle(key, event);
                if slots.is_empty() && unused.is_none() {
                    unused = Some(Instant::now());
                }
            }
            Some(slot) = offers.recv() => {
                names.came(&slot.name, slot.peer.ip());
                slots.take_slot(slot);
                unused = None;
                ops.log.ring();
            }
            () = until(next_look) => next_look = names.look(),
            () = until(forget) => {
                // Whoever comes from now on makes another pool; those that came in this moment dial again.
                hub.forget(&ops.pool);
                unused = None;
            }
        }
    }
}

fn slots(
    cancel: bool,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
) -> (Members, mpsc::UnboundedReceiver<(u64, Event)>) {
    let usage = Usage {
        slots: 1,
        remote: Some(cancel),
        peer: None,
        authority: AUTHORITY.into(),
        pool: None,
        ready_path: None,
        exclusive: false,
    };
    Members::new(usage, table, roster)
}

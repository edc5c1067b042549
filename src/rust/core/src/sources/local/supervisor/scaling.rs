//! A number of workers that follows what there is to do: one more when requests wait, one less when a worker idles.
//!
//! A task of its own waits for the queue, as the supervisor must not, and asks. The supervisor decides, and tells by a
//! [`Window`] when it may be asked again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::member::Member;
use super::{Event, Supervisor};
use crate::lock::Table;
use crate::ops::status::State;
use crate::sources::local::budget::Held;
use crate::sources::local::position::Position;
use crate::worker::Worker;

/// Until a pool that had no room for another worker looks again.
const HELD: Duration = Duration::from_secs(1);

/// Between two times that the same lack of room is said.
const HELD_SAID: Duration = Duration::from_secs(60);

/// Looks at idle workers in the time after which they leave.
const LOOKS: u32 = 4;

/// Between two such looks.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Why there is to be another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// There is none, and a request waits.
    NoWorker,
    /// More requests wait than there are workers.
    Queue,
    /// A request has waited for `grow_after`.
    Wait,
}

impl Demand {
    /// The `reason` label of `faucet_scalings_total`.
    fn name(self) -> &'static str {
        match self {
            Self::NoWorker => "no_worker",
            Self::Queue => "queue",
            Self::Wait => "wait",
        }
    }
}

/// Whether the supervisor wants to know of demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    open: bool,
    /// Workers that there are.
    workers: usize,
    /// How often it was told.
    told: u64,
}

/// What the supervisor knows of its pool's size.
pub(super) struct Scaling {
    window: watch::Sender<Window>,
    told: u64,
    /// No room was found for another worker: none is looked for before this.
    held_until: Option<Instant>,
    /// Why, as it was said last, and when.
    held: Option<(&'static str, Instant)>,
    /// What a worker of this pool needs, in bytes, once one was measured.
    needs: Option<u64>,
    /// Whether a look at idle workers is due.
    looking: bool,
    /// Since when no worker comes up.
    failing_since: Option<Instant>,
}

impl Scaling {
    pub(super) fn new() -> Self {
        Self {
            window: watch::channel(Window::default()).0,
            told: 0,
            held_until: None,
            held: None,
            needs: None,
            looking: false,
            failing_since: None,
        }
    }
}

/// Tells of demand for as long as the supervisor is there.
async fn watch_queue(
    table: Arc<Table<Worker>>,
    grow_after: Option<Duration>,
    mut window: watch::Receiver<Window>,
    events: mpsc::WeakUnboundedSender<Event>,
) {
    loop {
        let Window { open, workers, .. } = *window.borrow_and_update();
        let demand = async {
            if open {
                demand(&table, workers, grow_after).await
            } else {
                pending().await
            }
        };
        tokio::select! {
            changed = window.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            demand = demand => {
                let sent = events.upgrade().map(|events| events.send(Event::Demand(demand)));
                // Whatever is decided, the window changes.
                if !matches!(sent, Some(Ok(()))) || window.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn demand(
    table: &Arc<Table<Worker>>,
    workers: usize,
    grow_after: Option<Duration>,
) -> Demand {
    loop {
        table.longer_than(0).await;
        if workers == 0 {
            return Demand::NoWorker;
        }
        let waited = table.demand().longest;
        let patience = async {
            match grow_after {
                Some(grow_after) => tokio::time::sleep(grow_after.saturating_sub(waited)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = table.longer_than(workers) => return Demand::Queue,
            () = patience => {}
        }
        let longest = table.demand().longest;
        if grow_after.is_some_and(|grow_after| longest >= grow_after) {
            return Demand::Wait;
        }
    }
}

impl Supervisor {
    /// Begins to look at what there is to do.
    pub(super) fn begin_scaling(&mut self) {
        let (table, window) = (self.table.clone(), self.scaling.window.subscribe());
        let (grow_after, events) = (self.settings.grow_after, self.sender.downgrade());
        tokio::spawn(watch_queue(table, grow_after, window, events));
        self.look_at_idle_later();
    }

    /// Tells whether demand is to be told of, after whatever has happened.
    pub(super) fn open_window(&mut self) {
        let most = self.settings.workers.max as usize;
        let window = Window {
            open: self.settings.workers.is_elastic()
                && self.stopping.is_none()
                && self.positions.len() < most
                && self.scaling.held_until.is_none()
                // Those that start may be all that it takes. While one does not come up, more would not either.
                && self.positions.keys().all(|id| !self.of(*id, State::Ready).is_empty()),
            workers: self.positions.len(),
            told: self.scaling.told,
        };
        self.scaling.window.send_if_modified(|known| {
            let changed = *known != window;
            *known = window;
            changed
        });
    }

    /// Workers that take requests.
    fn serving(&self) -> usize {
        let serves = |id: &&u32| !self.of(**id, State::Ready).is_empty();
        self.positions.keys().filter(serves).count()
    }

    /// Requests wait: another worker, or several, if there is room.
    pub(super) async fn grow(&mut self, demand: Demand) {
        self.scaling.told += 1;
        let now = self.table.demand();
        let (before, most) = (self.positions.len(), self.settings.workers.max as usize);
        if self.stopping.is_some() || now.waiting == 0 || before >= most {
            return;
        }
        // At most as many at once as there are: those that start take the processor from those that serve.
        let wanted = now.waiting.min(most - before).min(self.serving().max(1));
        let budget = self.resources.budget.clone();
        let seats = match budget.claim(wanted as u32, self.scaling.needs) {
            Ok(seats) => seats,
            Err(held) => return self.hold(held),
        };
        self.scaling.held = None;
        let why = match demand {
            Demand::NoWorker => "a request has come".to_owned(),
            Demand::Queue => format!("{} requests wait", now.waiting),
            Demand::Wait => format!(
                "a request has waited for {:.1} s",
                now.longest.as_secs_f64()
            ),
        };
        tracing::info!(
            "grows from {} to {}: {why}",
            before,
            workers(before + seats.len())
        );
        self.ops.metrics.scaling("up", demand.name());
        for seat in seats {
            let Some(id) = (1..).find(|id| !self.positions.contains_key(id)) else {
                break;
            };
            self.positions.insert(id, Position::new(seat));
        }
        self.table_admits();
        if self.lacks_template() {
            // They start when it has loaded the app.
            self.start_template().await;
        } else if !self.preload.is_awaited() {
            self.fill().await;
        }
    }

    /// There is no room for another worker: says so once, and looks again in a while.
    fn hold(&mut self, held: Held) {
        self.scaling.held_until = Some(Instant::now() + HELD);
        self.later(HELD, Event::LookForRoom);
        let (name, why) = match held {
            Held::MaxWorkers(most) => (
                "max_workers",
                format!(
                    "all pools together have {} (`max_workers`)",
                    workers(most as usize)
                ),
            ),
            Held::Memory { needs, left } => (
                "memory",
                format!(
                    "a worker needs about {} MB of memory, and {} MB are left",
                    needs.div_ceil(1 << 20),
                    left >> 20
                ),
            ),
        };
        self.ops.metrics.scaling("held", name);
        let known = self.scaling.held.filter(|(said, _)| *said == name);
        if !known.is_some_and(|(_, at)| at.elapsed() < HELD_SAID) {
            self.scaling.held = Some((name, Instant::now()));
            tracing::warn!("requests wait, but there is no room for another worker: {why}");
        }
    }

    pub(super) fn look_for_room(&mut self) {
        self.scaling.held_until = None;
    }

    /// Looks at idle workers from now on, if some may leave.
    pub(super) fn look_at_idle_later(&mut self) {
        if self.settings.workers.is_elastic() && !std::mem::replace(&mut self.scaling.looking, true)
        {
            let pause = self
                .settings
                .shrink_after
                .map_or(LONGEST_LOOK, |shrink_after| {
                    (shrink_after / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK)
                });
            self.later(pause, Event::LookAtIdle);
        }
    }

    /// Lets workers go that have served nobody for `shrink_after`.
    pub(super) fn look_at_idle(&mut self) {
        self.scaling.looking = false;
        self.look_at_idle_later();
        self.weigh_workers();
        let now = Instant::now();
        for member in self.members.values_mut() {
            let (Some(worker), Some(lease_id)) = (&member.worker, member.lease_id) else {
                continue;
            };
            let requests = worker.requests();
            let busy = self.table.in_flight(lease_id) > 0 || worker.tunnels.count() > 0;
            if busy || member.idle_since.is_none() || requests != member.requests_seen {
                member.idle_since = Some(now);
            }
            member.requests_seen = requests;
        }
        if self.stopping.is_some() || self.rollout.is_some() {
            return;
        }
        self.sleep_if_failing();
        self.drop_those_that_do_not_start();
        let replaced = |member: &Member| !self.of(member.id, State::Starting).is_empty();
        let mut idle: Vec<(Instant, u64)> = self
            .members
            .iter()
            .filter(|(_, member)| member.state == State::Ready && !replaced(member))
            .filter_map(|(generation, member)| Some((member.idle_since?, *generation)))
            .collect();
        idle.sort_unstable();
        for (since, generation) in idle {
            self.shrink_if_idle(generation, now.saturating_duration_since(since));
        }
        self.rest();
    }

    /// Lets a worker go that has served nobody for so long, if that is long enough and it need not be there.
    fn shrink_if_idle(&mut self, generation: u64, idled: Duration) {
        let before = self.serving();
        let long = self.settings.shrink_after.is_some_and(|most| idled >= most);
        // Another pool needs its place: it leaves at once.
        let wanted = self.resources.budget.is_wanted();
        // One that does not serve yet is no reason for one that serves to leave.
        let all_serve = before == self.positions.len();
        if idled.is_zero()
            || !(long || wanted)
            || !all_serve
            || before <= self.settings.workers.min as usize
        {
            return;
        }
        let member = self.members.get(&generation);
        let Some((id, lease_id)) = member.and_then(|member| Some((member.id, member.lease_id?)))
        else {
            return;
        };
        // The table may have given it to a request in this very moment.
        if self.table.remove_if_idle(lease_id) {
            self.positions.remove(&id);
            self.retire(generation);
            if !long {
                self.resources.budget.given_way();
            }
            tracing::info!(
                "shrinks from {before} to {}: worker {id} was idle for {:.1} s",
                workers(before - 1),
                idled.as_secs_f64()
            );
            self.ops.metrics.scaling("down", "idle");
        }
    }

    /// Gives up a pool that may be without workers, and has had none that comes up for a while: its next request tries anew.
    fn sleep_if_failing(&mut self) {
        let Some(shrink_after) = self.settings.shrink_after else {
            return;
        };
        if !self.failing || self.settings.workers.min > 0 {
            self.scaling.failing_since = None;
            return;
        }
        let since = *self.scaling.failing_since.get_or_insert_with(Instant::now);
        let starts = self
            .members
            .values()
            .any(|member| member.state == State::Starting);
        if since.elapsed() >= shrink_after && !starts {
            tracing::info!("is given up until the next request: no worker starts");
            self.positions.clear();
            self.ops.metrics.scaling("down", "failing");
            self.table_admits();
        }
    }

    /// Forgets workers that need not be there, do not start, and would serve nobody now if they did.
    fn drop_those_that_do_not_start(&mut self) {
        let least = (self.settings.workers.min as usize).max(self.serving());
        if self.table.demand().waiting > 0 {
            return;
        }
        let idle = |(id, position): (&u32, &Position)| position.due().map(|_| *id);
        let waiting: Vec<u32> = self.positions.iter().filter_map(idle).rev().collect();
        for id in waiting {
            if self.positions.len() <= least || self.serving() == 0 {
                return;
            }
            if self.members.values().all(|member| member.id != id) {
                self.positions.remove(&id);
                tracing::info!(worker = id, "does not start, and is not needed now");
                self.ops.metrics.scaling("down", "failing");
            }
        }
    }

    /// A pool without workers needs no template.
    fn rest(&mut self) {
        if self.positions.is_empty() {
            self.preload.release_all();
        }
    }

    /// Finds out what a worker needs, if their number is limited by that.
    fn weigh_workers(&self) {
        if !self.resources.budget.is_by_memory() {
            return;
        }
        let processes = self
            .members
            .values()
            .filter(|member| member.state == State::Ready);
        let memory: Vec<_> = processes
            .filter_map(|member| Some(member.process.as_ref()?.own_memory()))
            .collect();
        if memory.is_empty() {
            return;
        }
        let events = self.sender.clone();
        tokio::spawn(async move {
            // The system counts the pages of a large process for a while.
            let most =
                tokio::task::spawn_blocking(move || memory.iter().filter_map(|of| of()).max());
            if let Ok(Some(most)) = most.await {
                // Fails only when the supervisor is gone.
                let _ = events.send(Event::Weighed(most));
            }
        });
    }

    pub(super) fn weighed(&mut self, bytes: u64) {
        self.scaling.needs = Some(bytes);
        self.resources.budget.measured(bytes);
    }
}

fn workers(count: usize) -> String {
    match count {
        1 => "1 worker".into(),
        count => format!("{count} workers"),
    }
}

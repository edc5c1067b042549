//! When a slot may be offered: while the machine has what a job needs, and while R says so.

mod cpu;
mod reserved;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::memory;
use reserved::{Began, Reserved};

pub use cpu::is_told as is_cpu_told;

/// From one look at the machine to the next.
const LOOK: Duration = Duration::from_millis(250);

/// A job's load shows within the time that a look goes back (a second): what is reserved for it goes no faster.
const CPU_DECAY: Duration = Duration::from_secs(2);

/// Data takes longer to be read than a processor takes to be busy.
const MEMORY_DECAY: Duration = Duration::from_secs(10);

/// A core counts as idle though somebody uses this much of it: on every machine something runs now and then.
const IDLE_ENOUGH: f64 = 0.1;

/// What has to hold for an offer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateSettings {
    /// All of them have to be open.
    pub gates: Vec<Gate>,
    /// Whether one that is closed keeps a machine from its only job, too.
    pub strict: bool,
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    /// So many idle cores for each offer: more than 0.
    Cpu { idle: f64 },
    /// So many bytes of free memory for each offer: more than 0.
    Memory { free: u64 },
    /// R decides, and tells it by [`Gates::answer`]. Closed until it does.
    Asked,
}

/// Whether this system tells how much memory is free.
pub fn is_memory_told() -> bool {
    memory::available().is_some()
}

/// The gates of a machine. `room` changes with each look at it, each job that begins or ends, and each answer of R's.
pub struct Gates {
    settings: GateSettings,
    /// Where the system's files are: `/`, but for tests.
    root: PathBuf,
    room: AtomicU32,
    changed: Notify,
    state: Mutex<State>,
}

struct State {
    /// `None` while it is not known.
    idle_cores: Option<f64>,
    free_memory: Option<u64>,
    /// For R's gates alone.
    open: Vec<bool>,
    for_cpu: Reserved,
    for_memory: Reserved,
}

/// What a job has reserved: as long as it lives, though ever less of it, as the load of the job comes to show.
#[must_use = "a job that is not held has ended"]
pub struct Job {
    gates: Arc<Gates>,
    for_cpu: Began,
    for_memory: Began,
}

impl Gates {
    pub fn new(settings: GateSettings) -> Arc<Self> {
        Self::of_machine(settings, Path::new("/"))
    }

    fn of_machine(settings: GateSettings, root: &Path) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            idle_cores: None,
            free_memory: None,
            open: vec![false; settings.gates.len()],
            for_cpu: Reserved::new(CPU_DECAY, now),
            for_memory: Reserved::new(MEMORY_DECAY, now),
        };
        Arc::new(Self {
            room: AtomicU32::new(state.room(&settings)),
            settings,
            root: root.to_owned(),
            changed: Notify::new(),
            state: Mutex::new(state),
        })
    }

    /// Whether no job is allowed while a gate is closed, not even the only one.
    pub fn strict(&self) -> bool {
        self.settings.strict
    }

    /// How many jobs may be offered now, beside those that run; `u32::MAX` where nothing bounds them.
    pub fn room(&self) -> u32 {
        self.room.load(Ordering::Acquire)
    }

    /// Done when `room` has changed since this call: to be called before `room` is read.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// A job has begun. It has ended when what is returned is dropped.
    pub fn took(self: &Arc<Self>) -> Job {
        let (for_cpu, for_memory) = self.change(|state| {
            let now = Instant::now();
            (state.for_cpu.add(now), state.for_memory.add(now))
        });
        Job {
            gates: self.clone(),
            for_cpu,
            for_memory,
        }
    }

    /// What R says of one of its gates: `gate` is its place among all. It holds until R says something else.
    pub fn answer(&self, gate: usize, open: bool) {
        self.change(|state| {
            if let Some(known) = state.open.get_mut(gate) {
                *known = open;
            }
        });
    }

    /// Looks at the machine again and again, until dropped; never if no gate is about it.
    pub async fn run(self: Arc<Self>) {
        let of_cpu = self.has(|gate| matches!(gate, Gate::Cpu { .. }));
        let of_memory = self.has(|gate| matches!(gate, Gate::Memory { .. }));
        if !of_cpu && !of_memory {
            return std::future::pending().await;
        }
        let mut meter = cpu::Meter::new(&self.root);
        let mut looks = 0_u64;
        let mut trouble = Trouble::default();
        loop {
            let root = self.root.clone();
            let now = Instant::now();
            // The kernel may have much to add up for a file of few lines.
            let look = tokio::task::spawn_blocking(move || {
                let idle = of_cpu.then(|| meter.idle(now)).flatten();
                let free = of_memory.then(|| memory::available_in(&root)).flatten();
                (meter, idle, free)
            });
            let (cores, bytes) = match look.await {
                Ok((same, cores, bytes)) => {
                    meter = same;
                    (cores, bytes)
                }
                // Without threads, or at the runtime's end.
                Err(_) => {
                    meter = cpu::Meter::new(&self.root);
                    (None, None)
                }
            };
            looks += 1;
            trouble.report(
                "how many cores are idle",
                looks > 2 && of_cpu && cores.is_none(),
            );
            trouble.report("how much memory is free", of_memory && bytes.is_none());
            self.change(|state| {
                state.idle_cores = cores;
                state.free_memory = bytes;
                let now = Instant::now();
                state.for_cpu.decay(now);
                state.for_memory.decay(now);
            });
            tokio::time::sleep(LOOK).await;
        }
    }

    fn has(&self, is: impl Fn(&Gate) -> bool) -> bool {
        self.settings.gates.iter().any(is)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state);
        let room = state.room(&self.settings);
        // Under the lock, so that the last change is the last to be told.
        let before = self.room.swap(room, Ordering::AcqRel);
        drop(state);
        if before != room {
            self.changed.notify_waiters();
        }
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers alone: no panic leaves them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The least that a gate leaves.
    fn room(&self, settings: &GateSettings) -> u32 {
        let gates = settings.gates.iter().enumerate();
        let rooms = gates.map(|(number, gate)| match *gate {
            Gate::Cpu { idle } => self.idle_cores.map_or(0, |cores| {
                whole((cores + IDLE_ENOUGH) / idle - self.for_cpu.jobs())
            }),
            Gate::Memory { free } => self.free_memory.map_or(0, |bytes| {
                whole(bytes as f64 / free as f64 - self.for_memory.jobs())
            }),
            Gate::Asked if self.open[number] => u32::MAX,
            Gate::Asked => 0,
        });
        rooms.min().unwrap_or(u32::MAX)
    }
}

/// The whole part of a number that may be below 0, or beyond all counts.
fn whole(number: f64) -> u32 {
    number as u32
}

impl Drop for Job {
    fn drop(&mut self) {
        self.gates.change(|state| {
            state.for_cpu.remove(&self.for_cpu);
            state.for_memory.remove(&self.for_memory);
        });
    }
}

/// What the system does not tell any more, said once.
#[derive(Default)]
struct Trouble(Vec<&'static str>);

impl Trouble {
    fn report(&mut self, what: &'static str, is_untold: bool) {
        let known = self.0.iter().position(|told| *told == what);
        match (known, is_untold) {
            (None, true) => {
                tracing::warn!("the system does not tell {what}: the gate is closed");
                self.0.push(what);
            }
            (Some(known), false) => {
                tracing::info!("the system tells again {what}");
                self.0.swap_remove(known);
            }
            _ => {}
        }
    }
}

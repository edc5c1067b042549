//! How many workers the pools of a server may have together: a number, or what memory allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::memory;

/// What a worker is taken to need while none was measured, in bytes.
const UNMEASURED: u64 = 128 * 1024 * 1024;

/// Part of all memory (1 / n) that workers leave to others.
const SPARED: u64 = 20;

/// For how long a pool counts as held that found no room for a worker: it asks again before that.
const HELD: Duration = Duration::from_secs(3);

/// How much memory is left, in bytes; `None` if the system does not say.
type Left = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// One for a server, shared by its pools of processes.
pub struct Budget {
    max_workers: Option<u32>,
    left: Left,
    taken: Mutex<Taken>,
    /// What the last worker that was measured needs, in bytes; 0 before that.
    measured: AtomicU64,
}

#[derive(Default)]
struct Taken {
    workers: u32,
    /// Memory that workers will have which are starting, in bytes.
    promised: u64,
    /// When a pool found no room.
    held: Option<Instant>,
}

/// Why there is no room for another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// There are as many as there may be.
    MaxWorkers(u32),
    /// A worker needs more than is left, both in bytes.
    Memory { needs: u64, left: u64 },
}

impl Budget {
    /// At most `max_workers`; with `None`, as many as memory allows.
    pub fn new(max_workers: Option<u32>) -> Arc<Self> {
        Self::with(
            max_workers,
            Box::new(|| {
                let spared = memory::total().unwrap_or_default() / SPARED;
                Some(memory::available()?.saturating_sub(spared))
            }),
        )
    }

    fn with(max_workers: Option<u32>, left: Left) -> Arc<Self> {
        Arc::new(Self {
            max_workers,
            left,
            taken: Mutex::default(),
            measured: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a worker that there must be.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.lock().workers += 1;
        Seat {
            budget: self.clone(),
            promised: 0,
        }
    }

    /// Places for workers that there may be: `wanted` of them, or as many as there is room for. `needs` is the memory of
    /// such a worker in bytes, if one was measured.
    ///
    /// # Errors
    /// There is no room for a single one.
    pub fn claim(self: &Arc<Self>, wanted: u32, needs: Option<u64>) -> Result<Vec<Seat>, Held> {
        let claimed = self.try_claim(wanted, needs);
        if claimed.is_err() {
            self.lock().held = Some(Instant::now());
        }
        claimed
    }

    fn try_claim(self: &Arc<Self>, wanted: u32, needs: Option<u64>) -> Result<Vec<Seat>, Held> {
        let mut taken = self.lock();
        let (room, promised) = match self.max_workers {
            Some(most) => match most.saturating_sub(taken.workers) {
                0 => return Err(Held::MaxWorkers(most)),
                room => (room, 0),
            },
            None => {
                let needs = needs.unwrap_or_else(|| self.typical()).max(1);
                match (self.left)() {
                    None => (wanted, 0),
                    Some(left) => {
                        let left = left.saturating_sub(taken.promised);
                        // Where there is none, waiting would not help.
                        if left < needs && taken.workers == 0 {
                            (1, needs)
                        } else if left < needs {
                            return Err(Held::Memory { needs, left });
                        } else {
                            (u32::try_from(left / needs).unwrap_or(u32::MAX), needs)
                        }
                    }
                }
            }
        };
        let count = wanted.min(room);
        taken.workers += count;
        taken.promised += u64::from(count) * promised;
        drop(taken);
        let seat = |_| Seat {
            budget: self.clone(),
            promised,
        };
        Ok((0..count).map(seat).collect())
    }

    /// Whether idle workers that need not be there should leave: there are more than there may be, or a pool has found no
    /// room for one.
    pub fn is_wanted(&self) -> bool {
        let taken = self.lock();
        self.max_workers.is_some_and(|most| taken.workers > most)
            || taken.held.is_some_and(|held| held.elapsed() < HELD)
    }

    /// One has left for that.
    pub fn given_way(&self) {
        self.lock().held = None;
    }

    /// Whether what a worker needs is asked for.
    pub fn is_by_memory(&self) -> bool {
        self.max_workers.is_none()
    }

    /// A worker of some pool was found to need so many bytes.
    pub fn measured(&self, bytes: u64) {
        self.measured.store(bytes, Ordering::Relaxed);
    }

    fn typical(&self) -> u64 {
        match self.measured.load(Ordering::Relaxed) {
            0 => UNMEASURED,
            bytes => bytes,
        }
    }
}

/// A worker's place among all workers of a server, given back when it is dropped.
pub struct Seat {
    budget: Arc<Budget>,
    promised: u64,
}

impl Seat {
    /// Its worker has started: what it needs shows in what is left.
    pub fn started(&mut self) {
        let promised = std::mem::take(&mut self.promised);
        self.budget.lock().promised -= promised;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.started();
        self.budget.lock().workers -= 1;
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("promised", &self.promised)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_passed_but_by_those_that_must_be() {
        let budget = Budget::with(Some(3), Box::new(|| Some(0)));
        let must = budget.seat();
        let may = budget.claim(5, None).expect("room for two");
        assert_eq!(may.len(), 2);
        assert_eq!(budget.claim(1, None).err(), Some(Held::MaxWorkers(3)));
        assert!(budget.is_wanted(), "someone was held");
        budget.given_way();
        assert!(!budget.is_wanted());
        let another = budget.seat();
        assert!(budget.is_wanted());
        drop((must, another));
        assert_eq!(budget.claim(5, None).expect("room for one").len(), 1);
        drop(may);
        assert_eq!(budget.claim(5, None).expect("room for three").len(), 3);
    }

    #[test]
    fn memory_that_starting_workers_will_have_is_not_given_twice() {
        let budget = Budget::with(None, Box::new(|| Some(1000)));
        let mut first = budget.claim(2, Some(300)).expect("room");
        assert_eq!(first.len(), 2);
        let second = budget.claim(9, Some(300)).expect("room for one");
        assert_eq!(second.len(), 1);
        let held = Held::Memory {
            needs: 300,
            left: 100,
        };
        assert_eq!(budget.claim(1, Some(300)).err(), Some(held));
        first.iter_mut().for_each(Seat::started);
        drop(first);
        drop(second);
        assert_eq!(budget.claim(9, Some(300)).expect("room").len(), 3);
    }

    #[test]
    fn without_a_measure_a_worker_is_taken_to_be_like_others() {
        let budget = Budget::with(None, Box::new(|| Some(UNMEASURED * 2)));
        assert_eq!(budget.claim(9, None).expect("room").len(), 2);
        let _first = budget.seat();
        budget.measured(UNMEASURED * 3);
        assert!(budget.claim(9, None).is_err());
        let full = Budget::with(None, Box::new(|| Some(0)));
        let first = full.claim(9, None).expect("the very first");
        assert_eq!(first.len(), 1);
        assert!(full.claim(1, None).is_err());
        let unknown = Budget::with(None, Box::new(|| None));
        assert_eq!(unknown.claim(9, None).expect("room").len(), 9);
    }
}

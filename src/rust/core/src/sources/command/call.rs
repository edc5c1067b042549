//! One request while its program may run, and how it is ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::sources::local::process::Ender;

/// How long a program that was told to end (SIGTERM) may take to do so, before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// `Starting -> Running`, and from either to `Ending`.
enum Stage {
    Starting,
    Running(Ender),
    /// Nobody wants its answer. Without a process, that is killed as soon as there is one.
    Ending(Option<Ender>),
}

/// One request.
pub struct Call {
    stage: Mutex<Stage>,
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process is there.
    pub fn started(&self, ender: Ender) {
        let mut stage = self.lock();
        *stage = match &*stage {
            Stage::Starting | Stage::Running(_) => Stage::Running(ender),
            Stage::Ending(_) => {
                ender.kill();
                Stage::Ending(Some(ender))
            }
        };
    }

    /// Tells its process group to end, which it does within [`GRACE`].
    pub fn end(&self) {
        let mut stage = self.lock();
        match &*stage {
            Stage::Starting => *stage = Stage::Ending(None),
            Stage::Running(ender) => {
                tokio::spawn(ender.clone().terminate(GRACE));
                *stage = Stage::Ending(Some(ender.clone()));
            }
            Stage::Ending(_) => {}
        }
    }

    /// Ends its process group at once.
    pub fn kill(&self) {
        let mut stage = self.lock();
        let ender = match &*stage {
            Stage::Starting => None,
            Stage::Running(ender) => Some(ender.clone()),
            Stage::Ending(ender) => ender.clone(),
        };
        if let Some(ender) = &ender {
            ender.kill();
        }
        *stage = Stage::Ending(ender);
    }

    /// Whether it was told to end.
    pub fn is_ending(&self) -> bool {
        matches!(*self.lock(), Stage::Ending(_))
    }
}

/// All requests whose program may run, by their number.
#[derive(Default)]
pub struct Calls {
    running: Mutex<HashMap<u64, Arc<Call>>>,
    /// One has ended.
    ended: Notify,
}

/// The place of a request there. It is over once this is dropped, and not before its process is gone.
pub struct Place {
    number: u64,
    calls: Arc<Calls>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.number);
        self.calls.ended.notify_waiters();
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Call>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub fn begin(self: &Arc<Self>, number: u64) -> (Arc<Call>, Place) {
        let call = Arc::new(Call {
            stage: Mutex::new(Stage::Starting),
        });
        self.lock().insert(number, call.clone());
        let calls = self.clone();
        (call, Place { number, calls })
    }

    pub fn get(&self, number: u64) -> Option<Arc<Call>> {
        self.lock().get(&number).cloned()
    }

    /// Does something to all whose numbers are such.
    pub fn each(&self, which: impl Fn(u64) -> bool, act: impl Fn(&Call)) {
        let running = self.lock();
        let chosen = running.iter().filter(|(number, _)| which(**number));
        chosen.for_each(|(_, call)| act(call));
    }

    /// Resolves when there are none whose numbers are such.
    pub async fn over(&self, which: impl Fn(u64) -> bool) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Before the look, so that an end between look and wait is not missed.
            ended.as_mut().enable();
            if !self.lock().keys().any(|number| which(*number)) {
                return;
            }
            ended.await;
        }
    }
}

//! What becomes of panics: said once on standard error by R's own means, never silence.

use std::io::Write;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use faucet_core::ops::log::{Kind, Log, ERROR};

static HOOK: Once = Once::new();
static LOGS: Mutex<Vec<Weak<Log>>> = Mutex::new(Vec::new());

/// From now on panics on any thread become an error in the log of every running server, or a line on standard error where
/// there is none: in workers, whose output their front reads. extendr turns those on R's thread into R errors besides. To
/// be called before a thread is started: the hooks of extendr and of the standard library read the environment.
pub fn install() {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = format!("internal error, please report it: {info}");
            let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
            let logs: Vec<Arc<Log>> = logs.iter().filter_map(Weak::upgrade).collect();
            if logs.is_empty() {
                // Where else could it be said?
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            for log in logs {
                log.push(Kind::Event, ERROR, text.clone());
            }
        }));
    });
}

/// Panics are told to this log, too.
pub fn report_to(log: &Arc<Log>) {
    let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.retain(|known| known.strong_count() > 0);
    logs.push(Arc::downgrade(log));
}

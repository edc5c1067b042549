//! What becomes of panics: said once on standard error by R's own means, never silence.

use std::sync::Once;

use faucet_core::ops::log::{Kind, Log};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static HOOK: Once = Once::new();
static LOGS: Mutex<Vec<Weak<Log>>> = Mutex::new(Vec::new());

/// Panics on any thread become an error in the log of every running server from now on. extendr turns
/// those on R's thread into R errors besides.
pub fn report_to(log: &Arc<Log>) {
    let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.retain(|known| known.strong_count() > 0);
    logs.push(Arc::downgrade(log));
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
            for log in logs.iter().filter_map(Weak::upgrade) {
                log.push(
                    Kind::Event,
                    faucet_core::ops::log::ERROR,
                    format!("internal error, please report it: {info}"),
                );
            }
        }));
    });
}

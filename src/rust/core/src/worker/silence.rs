//! How long a worker may leave what it has begun, without a byte either way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::clock::coarse_millis;

/// The time since bytes moved last. It costs a timer only where someone has to wait in the middle of something.
#[derive(Default)]
pub(super) struct Silence {
    /// What had moved when it was looked at last, and when that had changed. None if nobody waits.
    since: Option<(u64, u64)>,
    /// Kept for the next time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// Nobody waits now.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// Ready when nothing has moved for `patience`. `moved` counts what has.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        moved: u64,
        patience: Duration,
    ) -> Poll<()> {
        let now = coarse_millis();
        let (since, armed) = match self.since {
            Some((before, since)) if before == moved => (since, true),
            before => (now, before.is_some()),
        };
        self.since = Some((moved, since));
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !armed {
            timer.as_mut().reset(Instant::now() + patience);
        }
        // It is not set anew whenever something moves, but when it has run down.
        while timer.as_mut().poll(cx).is_ready() {
            let quiet = Duration::from_millis(now.saturating_sub(since));
            match patience.checked_sub(quiet) {
                Some(rest) if !rest.is_zero() => timer.as_mut().reset(Instant::now() + rest),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

//! The end of results and of what is known of calls, by one timer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::call::State;
use super::{blocking, CallId, Calls, Ending};
use crate::environment::SystemError;

/// Between two looks, at most: the system's clock may be set.
const LONGEST: Duration = Duration::from_secs(60);

/// Between two looks, at least.
const SHORTEST: Duration = Duration::from_millis(10);

/// What is due.
#[derive(Default)]
struct Due {
    expired: Vec<CallId>,
    forgotten: Vec<CallId>,
    /// When to look again.
    next: Option<SystemTime>,
}

impl Calls {
    pub(super) async fn expire(self: Arc<Self>) {
        let mut closed = std::pin::pin!(self.until(Ending::Closing));
        loop {
            let news = self.news.notified();
            let now = SystemTime::now();
            let due = self.due(now);
            for id in due.forgotten {
                self.clone().forget(id).await;
            }
            if !due.expired.is_empty() {
                for id in due.expired {
                    self.drop_result(id).await;
                }
                // They are to be forgotten some time.
                continue;
            }
            let pause = due
                .next
                .map_or(LONGEST, |next| next.duration_since(now).unwrap_or_default());
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(pause.clamp(SHORTEST, LONGEST)) => {}
                () = closed.as_mut() => return,
            }
        }
    }

    fn due(&self, now: SystemTime) -> Due {
        let mut due = Due::default();
        let mut held = Vec::new();
        let known = self.known();
        for (id, kept) in &known.calls {
            let call = &kept.call;
            // A time beyond all times never comes.
            let (expires, forgotten) = (call.expires(), call.is_forgotten());
            let next = if call.expired { forgotten } else { expires };
            match next {
                Some(time) if time <= now && call.expired => due.forgotten.push(*id),
                Some(time) if time <= now => due.expired.push(*id),
                Some(time) => due.next = Some(due.next.map_or(time, |next| next.min(time))),
                None => {}
            }
            if call.expired {
                held.push((call.ended, *id));
            }
        }
        drop(known);
        // Of those whose results are gone no more are known than there may be with results.
        held.sort_unstable();
        let beyond = held.len().saturating_sub(self.settings.max_calls);
        due.forgotten
            .extend(held.into_iter().take(beyond).map(|(_, id)| id));
        due
    }

    async fn drop_result(self: &Arc<Self>, id: CallId) {
        {
            let mut known = self.known();
            if let Some(kept) = known.calls.get_mut(&id) {
                kept.call.expired = true;
                if let State::Done(done) = &mut kept.call.state {
                    done.length = 0;
                    done.content_type = None;
                }
            }
            known.set_bytes(id, 0);
        }
        if let Err(error) = self.save(id).await {
            let why = SystemError(&error);
            tracing::error!("the end of a result cannot be written down: {why}");
        }
        let calls = self.clone();
        let _ = blocking(move || {
            calls.store.remove_result(id);
            Ok(())
        })
        .await;
    }
}

//! The last lines of one pool's log, for those who ask for them, and for those who follow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

/// Lines kept, at most.
const LINES: usize = 1000;

/// Bytes of text kept, at most: of hundreds of pools together some tens of megabytes.
const BYTES: usize = 128 * 1024;

#[derive(Default)]
struct State {
    lines: VecDeque<(SystemTime, String)>,
    bytes: usize,
    /// The number of the first line that is kept, counted from the first that there ever was.
    first: u64,
    closed: bool,
}

/// The last lines of a pool.
#[derive(Default)]
pub struct History {
    state: Mutex<State>,
    news: Notify,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        state.bytes += line.len();
        state.lines.push_back((SystemTime::now(), line.to_owned()));
        while state.lines.len() > LINES || state.bytes > BYTES {
            let Some((_, line)) = state.lines.pop_front() else {
                break;
            };
            state.bytes -= line.len();
            state.first += 1;
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// The last `count` lines, each with its time (RFC 3339) and a line end; and the number of the next one.
    pub fn last(&self, count: usize) -> (String, u64) {
        let state = self.lock();
        let skipped = state.lines.len().saturating_sub(count);
        (
            render(state.lines.iter().skip(skipped)),
            state.first + state.lines.len() as u64,
        )
    }

    /// No more lines come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_waiters();
    }

    /// Waits for lines from that number on; these, and the number of the next one. What is not kept any more is left out. `None`
    /// if there are none, and none will come.
    pub async fn since(&self, number: u64) -> Option<(String, u64)> {
        loop {
            let told = self.news.notified();
            tokio::pin!(told);
            // Before the look, so that nothing is missed between look and wait.
            told.as_mut().enable();
            {
                let state = self.lock();
                let next = state.first + state.lines.len() as u64;
                if next > number {
                    let skipped = number.saturating_sub(state.first) as usize;
                    return Some((render(state.lines.iter().skip(skipped)), next));
                }
                if state.closed {
                    return None;
                }
            }
            told.await;
        }
    }
}

fn render<'a>(lines: impl Iterator<Item = &'a (SystemTime, String)>) -> String {
    lines
        .map(|(time, line)| format!("{} {line}\n", humantime::format_rfc3339_millis(*time)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rendered: &str) -> Vec<&str> {
        let lines = rendered.lines();
        lines
            .map(|line| line.split_once(' ').expect("a time").1)
            .collect()
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let history = History::default();
        for number in 0..LINES + 5 {
            history.push(&number.to_string());
        }
        let (rendered, next) = history.last(2);
        assert_eq!(texts(&rendered), ["1003", "1004"]);
        assert_eq!(next, 1005);
        assert_eq!(texts(&history.last(usize::MAX).0).len(), LINES);
        history.push(&"x".repeat(BYTES - 4));
        assert_eq!(texts(&history.last(usize::MAX).0).len(), 2);
        history.push(&"x".repeat(BYTES + 1));
        assert_eq!(history.last(usize::MAX).0, "");
    }

    #[tokio::test]
    async fn who_follows_misses_nothing() {
        let history = std::sync::Arc::new(History::default());
        history.push("a");
        let (_, next) = history.last(10);
        let follower = {
            let history = history.clone();
            tokio::spawn(async move { history.since(next).await })
        };
        tokio::task::yield_now().await;
        history.push("b");
        let more = follower.await.expect("no panic");
        let (rendered, next) = more.expect("a line");
        assert_eq!((texts(&rendered), next), (vec!["b"], 2));
        let all = history.since(0).await.expect("two lines");
        assert_eq!(texts(&all.0), ["a", "b"]);
        history.close();
        assert_eq!(history.since(next).await, None);
    }
}

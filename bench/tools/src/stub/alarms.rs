//! When which connection has an answer that is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Alarms(BinaryHeap<Reverse<(Instant, usize)>>);

impl Alarms {
    pub fn set(&mut self, due: Instant, token: usize) {
        self.0.push(Reverse((due, token)));
    }

    /// How long until the next; none if none is set.
    pub fn wait(&self) -> Option<Duration> {
        let Reverse((due, _)) = self.0.peek()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// The connection of the earliest, if it is due.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        let Reverse((due, _)) = self.0.peek()?;
        if *due > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, token))| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_none_before_its_time() {
        let now = Instant::now();
        let mut alarms = Alarms::default();
        alarms.set(now + Duration::from_secs(60), 1);
        alarms.set(now, 2);
        assert_eq!(alarms.pop(now), Some(2));
        assert_eq!(alarms.pop(now), None);
        assert!(alarms.wait().unwrap() > Duration::ZERO);
    }
}

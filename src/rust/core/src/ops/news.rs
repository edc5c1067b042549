//! Something that may happen again and again, and that the log tells of only once in a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(10);

/// One kind of news.
#[derive(Default)]
pub struct News(Mutex<Told>);

#[derive(Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl News {
    /// It has happened. If the log is to tell: how often it has since the last line, without this time.
    pub fn due(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| last.elapsed() < PAUSE) {
            told.untold += 1;
            return None;
        }
        told.last = Some(Instant::now());
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_others_are_counted() {
        let news = News::default();
        assert_eq!(news.due(), Some(0));
        assert_eq!((news.due(), news.due()), (None, None));
        // As after a long time.
        news.0.lock().expect("no panic").last = None;
        assert_eq!(news.due(), Some(2));
        assert_eq!(news.due(), None);
    }
}

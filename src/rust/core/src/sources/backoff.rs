//! How long to wait before what failed is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// The pause before the attempt that follows `failures` failures in a row: none after the first, then
/// doubling, up to `longest`. `jitter` (0 to 1) shortens it by up to a quarter, so that workers that
/// failed together are not tried together.
pub fn pause(failures: u32, longest: Duration, jitter: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let pause = FIRST.saturating_mul(1 << doublings.min(16)).min(longest);
    pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}

/// A number between 0 and 1.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the operating system; nothing here needs better.
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_later_ones_are_bounded() {
        const LONGEST: Duration = Duration::from_secs(30);
        assert_eq!(pause(0, LONGEST, 0.5), Duration::ZERO);
        assert_eq!(pause(1, LONGEST, 0.5), Duration::ZERO);
        assert_eq!(pause(2, LONGEST, 0.0), FIRST);
        assert_eq!(pause(3, LONGEST, 0.0), FIRST * 2);
        assert_eq!(pause(1000, LONGEST, 0.0), LONGEST);
        assert!(pause(5, LONGEST, 1.0) < pause(5, LONGEST, 0.0));
    }

    #[test]
    fn jitter_is_a_fraction() {
        assert!((0..100).map(|_| jitter()).all(|x| (0.0..1.0).contains(&x)));
    }
}

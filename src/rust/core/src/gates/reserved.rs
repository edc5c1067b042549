//! What jobs have reserved whose load does not show yet.

use std::time::Duration;

use tokio::time::Instant;

/// In jobs: each is 1 at its beginning, and decays exponentially. It does so with each look at the machine, not in between:
/// what a job takes shows then, and no earlier.
pub struct Reserved {
    /// The time in which it falls to 1 / e.
    decay: Duration,
    /// The last look, and how many there were.
    looked: Instant,
    looks: u64,
    /// What jobs that began before it have reserved, as of then, and how many they are.
    old: f64,
    old_jobs: u64,
    /// Jobs that began after it.
    new_jobs: u64,
    /// What they would have reserved as of then, had they begun as they did: more than 1 each.
    new: f64,
}

/// When a job began.
pub struct Began {
    at: Instant,
    looks: u64,
}

impl Reserved {
    pub fn new(decay: Duration, now: Instant) -> Self {
        Self {
            decay,
            looked: now,
            looks: 0,
            old: 0.0,
            old_jobs: 0,
            new_jobs: 0,
            new: 0.0,
        }
    }

    /// How often the machine was looked at.
    #[cfg(test)]
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Of all jobs together.
    pub fn jobs(&self) -> f64 {
        self.old + self.new_jobs as f64
    }

    pub fn add(&mut self, now: Instant) -> Began {
        self.new_jobs += 1;
        self.new += self.share(now);
        Began {
            at: now,
            looks: self.looks,
        }
    }

    /// A job has ended.
    pub fn remove(&mut self, began: &Began) {
        let share = self.share(began.at);
        if began.looks == self.looks {
            self.new_jobs = self.new_jobs.saturating_sub(1);
            self.new -= share;
        } else {
            self.old_jobs = self.old_jobs.saturating_sub(1);
            self.old -= share;
        }
        self.forget_roundings();
    }

    /// At a look at the machine.
    pub fn decay(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.looked);
        self.old = (self.old + self.new) * self.left_after(since);
        self.old_jobs += self.new_jobs;
        self.new_jobs = 0;
        self.new = 0.0;
        self.looked = now;
        self.looks += 1;
        self.forget_roundings();
    }

    /// Of a job that began then, as of the last look.
    fn share(&self, began: Instant) -> f64 {
        if began <= self.looked {
            self.left_after(self.looked - began)
        } else {
            1.0 / self.left_after(began - self.looked)
        }
    }

    fn left_after(&self, time: Duration) -> f64 {
        // Beyond that, it is nothing anyhow; what is divided by it has to be finite.
        (-time.as_secs_f64() / self.decay.as_secs_f64())
            .exp()
            .max(1e-9)
    }

    fn forget_roundings(&mut self) {
        if self.old_jobs == 0 || self.old < 0.0 {
            self.old = 0.0;
        }
        if self.new_jobs == 0 || self.new < 0.0 {
            self.new = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_decays_with_each_look_and_goes_with_its_job() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut reserved = Reserved::new(Duration::from_secs(2), start);
        let first = reserved.add(at(0.0));
        let second = reserved.add(at(1.0));
        assert_eq!(reserved.jobs(), 2.0, "nothing is seen yet");
        reserved.decay(at(2.0));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(reserved.jobs(), (-1.0_f64).exp() + (-0.5_f64).exp()));
        let third = reserved.add(at(2.0));
        reserved.remove(&first);
        assert!(near(reserved.jobs(), (-0.5_f64).exp() + 1.0));
        reserved.remove(&third);
        reserved.decay(at(4.0));
        assert!(near(reserved.jobs(), (-1.5_f64).exp()));
        reserved.decay(at(1e6));
        reserved.remove(&second);
        assert_eq!(reserved.jobs(), 0.0);
    }

    #[test]
    fn however_many_come_and_go_nothing_is_left() {
        let start = Instant::now();
        let mut reserved = Reserved::new(Duration::from_secs(2), start);
        let mut running = Vec::new();
        for i in 0..10_000 {
            let now = start + Duration::from_millis(i * 7);
            running.push(reserved.add(now));
            if i % 3 == 0 {
                reserved.remove(&running.swap_remove(running.len() / 2));
            }
            if i % 36 == 0 {
                reserved.decay(now);
            }
            assert!(reserved.jobs() < running.len() as f64 + 1e-6);
        }
        for job in &running {
            reserved.remove(job);
        }
        assert_eq!(reserved.jobs(), 0.0);
    }
}

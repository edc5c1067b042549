//! A set of durations and what is said of it.

use std::time::Duration;

#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// `{"requests", "mean_ms", "p50_ms", "p90_ms", "p99_ms"}`; the times are null when there are none.
    pub fn to_json(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        format!(
            r#"{{"requests":{},"mean_ms":{},"p50_ms":{},"p90_ms":{},"p99_ms":{}}}"#,
            sorted.len(),
            number(mean(&sorted)),
            number(percentile(&sorted, 0.50)),
            number(percentile(&sorted, 0.90)),
            number(percentile(&sorted, 0.99)),
        )
    }
}

fn mean(times: &[Duration]) -> Option<f64> {
    let sum: f64 = times.iter().map(Duration::as_secs_f64).sum();
    (!times.is_empty()).then(|| sum / times.len() as f64)
}

/// The nearest rank: the smallest time that at least `share` of all times do not exceed.
fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).map(Duration::as_secs_f64)
}

fn number(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "null".to_owned(), |s| format!("{:.4}", s * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_its_times() {
        let mut times = Times::default();
        for ms in (1..=100).rev() {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(
            times.to_json(),
            r#"{"requests":100,"mean_ms":50.5000,"p50_ms":50.0000,"p90_ms":90.0000,"p99_ms":99.0000}"#
        );
    }

    #[test]
    fn none_is_not_zero() {
        assert!(Times::default().to_json().contains(r#""mean_ms":null"#));
    }
}

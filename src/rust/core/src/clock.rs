//! Time: a cheap clock for patience, asked several times a request, where a few milliseconds do not matter; and waiting.

/// Milliseconds since some moment in the past, never 0, never going back.
pub fn coarse_millis() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::time::{clock_gettime, ClockId};
        if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) {
            return now.tv_sec() as u64 * 1000 + now.tv_nsec() as u64 / 1_000_000 + 1;
        }
    }
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    start.elapsed().as_millis() as u64 + 1
}

/// Resolves at that time, or never.
pub async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

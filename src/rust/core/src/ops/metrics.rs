//! Counters and histograms, as OpenMetrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::status::{LookupState, Status, STATES};

/// Upper bounds in seconds: from a fast route of one worker to R's long computations.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: u16,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    /// The overwhelming case, kept at hand.
    ok: Counter,
    duration: Histogram,
    queue_wait: Histogram,
    queue_length: Gauge,
    workers: Family<ByState, Gauge>,
    unserved: Gauge<f64, AtomicU64>,
    restarts: Family<ByReason, Counter>,
    cancelled: Family<ByReason, Counter>,
    lookups: Family<ByOutcome, Counter>,
    turns: Family<ByOutcome, Counter>,
    connections: Gauge,
    tunnels: Gauge,
    log_dropped: Counter<u64, AtomicU64>,
    log_dropped_seen: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("faucet");
        let requests = Family::<Outcome, Counter>::default();
        registry.register(
            "requests",
            "Requests, by the status the client got and by what made faucet answer itself",
            requests.clone(),
        );
        let ok = requests
            .get_or_create(&Outcome {
                status: 200,
                cause: "",
            })
            .clone();
        let duration = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "request_duration",
            "From the complete head to the end of the response",
            Unit::Seconds,
            duration.clone(),
        );
        let queue_wait = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "queue_wait",
            "From the complete request to a free worker",
            Unit::Seconds,
            queue_wait.clone(),
        );
        let queue_length = Gauge::default();
        registry.register(
            "queue_length",
            "Requests waiting for a worker now",
            queue_length.clone(),
        );
        let workers = Family::<ByState, Gauge>::default();
        registry.register("workers", "Workers, by state", workers.clone());
        let unserved = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            "unserved",
            "How long no worker has taken requests; 0 while one does",
            Unit::Seconds,
            unserved.clone(),
        );
        let restarts = Family::<ByReason, Counter>::default();
        registry.register("restarts", "Workers replaced, by reason", restarts.clone());
        let cancelled = Family::<ByReason, Counter>::default();
        registry.register(
            "cancelled",
            "Requests that a worker was made to give up, by reason",
            cancelled.clone(),
        );
        let lookups = Family::<ByOutcome, Counter>::default();
        registry.register(
            "lookups",
            "Lookups of the name that workers are found by, by outcome",
            lookups.clone(),
        );
        let turns = Family::<ByOutcome, Counter>::default();
        registry.register(
            "turns",
            "Turns that were asked for, as another faucet's front does, by outcome",
            turns.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Client connections now", connections.clone());
        let tunnels = Gauge::default();
        registry.register("tunnels", "Upgraded connections now", tunnels.clone());
        let log_dropped = Counter::default();
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because nobody took them in time",
            log_dropped.clone(),
        );
        Self {
            registry,
            requests,
            ok,
            duration,
            queue_wait,
            queue_length,
            workers,
            unserved,
            restarts,
            cancelled,
            lookups,
            turns,
            connections,
            tunnels,
            log_dropped,
            log_dropped_seen: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// One request is over.
    pub fn request(&self, status: u16, cause: &'static str, total: Duration, queue: Duration) {
        if status == 200 && cause.is_empty() {
            self.ok.inc();
        } else {
            self.requests
                .get_or_create(&Outcome { status, cause })
                .inc();
        }
        self.duration.observe(total.as_secs_f64());
        self.queue_wait.observe(queue.as_secs_f64());
    }

    /// A worker was replaced.
    pub fn restart(&self, reason: &'static str) {
        self.restarts.get_or_create(&ByReason { reason }).inc();
    }

    /// A worker was made to give up a request.
    pub fn cancelled(&self, reason: &'static str) {
        self.cancelled.get_or_create(&ByReason { reason }).inc();
    }

    /// The name that workers are found by was looked up.
    pub fn lookup(&self, outcome: LookupState) {
        let outcome = outcome.name();
        self.lookups.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A turn was asked for.
    pub fn turn(&self, outcome: &'static str) {
        self.turns.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// All of them as text, in OpenMetrics' form. Gauges are read from `status` now.
    pub fn render(&self, status: &Status, connections: usize, log_dropped: u64) -> String {
        self.queue_length.set(status.queue as i64);
        for state in STATES {
            let count = status
                .workers
                .iter()
                .filter(|worker| worker.state == state)
                .count();
            self.workers
                .get_or_create(&ByState {
                    state: state.name(),
                })
                .set(count as i64);
        }
        let unserved = status.unserved.unwrap_or_default();
        self.unserved.set(unserved.as_secs_f64());
        self.connections.set(connections as i64);
        let tunnels: usize = status.workers.iter().map(|worker| worker.tunnels).sum();
        self.tunnels.set(tunnels as i64);
        let seen = self.log_dropped_seen.swap(log_dropped, Ordering::Relaxed);
        self.log_dropped.inc_by(log_dropped.saturating_sub(seen));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

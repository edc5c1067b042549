//! Counters and histograms, as OpenMetrics.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::status::{LookupState, PoolStatus, ServerStatus, State, STATES};
use crate::app_metrics::{AppMetrics, Counted as CountedProcess};

/// Upper bounds in seconds: from a fast route of one worker to R's long computations.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// A pool's name, as a label. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        // The format has an escape for these three and no others.
        for char in self.0.chars() {
            match char {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    pool: Name,
    status: u16,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPool {
    pool: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    pool: Name,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    pool: Name,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    pool: Name,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    pool: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWay {
    pool: Name,
    way: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    pool: Name,
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfferOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySlot {
    pool: Name,
    worker: Name,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type Histograms = Family<ByPool, Histogram, fn() -> Histogram>;

/// What pools count for themselves.
#[derive(Clone)]
struct Counted {
    requests: Family<Outcome, Counter>,
    duration: Histograms,
    queue_wait: Histograms,
    restarts: Family<ByReason, Counter>,
    cancelled: Family<ByReason, Counter>,
    scalings: Family<ByDecision, Counter>,
    lookups: Family<ByOutcome, Counter>,
    turns: Family<ByOutcome, Counter>,
    redirects: Family<ByOutcome, Counter>,
    chain_inputs: Family<ByWay, Counter>,
    calls: Family<ByCode, Counter>,
}

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    counted: Counted,
    queue_length: Family<ByPool, Gauge>,
    workers: Family<ByState, Gauge>,
    unserved: Family<ByPool, Gauge<f64, AtomicU64>>,
    connections: Gauge,
    offers: Family<OfferOutcome, Counter>,
    slots: Family<BySlot, Gauge>,
    tls_failures: Family<Reason, Counter>,
    tunnels: Family<ByPool, Gauge>,
    sessions: Family<ByPool, Gauge>,
    log_dropped: Counter<u64, AtomicU64>,
    log_dropped_seen: AtomicU64,
    spans_dropped: Counter<u64, AtomicU64>,
    /// What the apps count.
    apps: AppMetrics,
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
        let duration = Histograms::new_with_constructor(histogram);
        registry.register_with_unit(
            "request_duration",
            "From the complete head to the end of the response",
            Unit::Seconds,
            duration.clone(),
        );
        let queue_wait = Histograms::new_with_constructor(histogram);
        registry.register_with_unit(
            "queue_wait",
            "From the complete request to a free worker",
            Unit::Seconds,
            queue_wait.clone(),
        );
        let queue_length = Family::<ByPool, Gauge>::default();
        registry.register(
            "queue_length",
            "Requests waiting for a worker now",
            queue_length.clone(),
        );
        let workers = Family::<ByState, Gauge>::default();
        registry.register("workers", "Workers, by state", workers.clone());
        let unserved = Family::<ByPool, Gauge<f64, AtomicU64>>::default();
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
        let scalings = Family::<ByDecision, Counter>::default();
        registry.register(
            "scalings",
            "Decisions about the number of workers (up, down, or held where there was no room), by reason",
            scalings.clone(),
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
        let redirects = Family::<ByOutcome, Counter>::default();
        registry.register(
            "redirects",
            "Answers that have waited for their clients, past the hub, by outcome",
            redirects.clone(),
        );
        let chain_inputs = Family::<ByWay, Counter>::default();
        registry.register(
            "chain_inputs",
            "Inputs of stages of chains behind the first, at agents, by the way they have come",
            chain_inputs.clone(),
        );
        let calls = Family::<ByCode, Counter>::default();
        registry.register(
            "grpc_calls",
            "Calls by gRPC, by the status the client got",
            calls.clone(),
        );
        let offers = Family::<OfferOutcome, Counter>::default();
        registry.register(
            "offers",
            "Slots that workers that dial in have offered, by outcome",
            offers.clone(),
        );
        let slots = Family::<BySlot, Gauge>::default();
        registry.register(
            "slots",
            "Slots of workers that have dialled in, by worker and by whether they are taken",
            slots.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Client connections now", connections.clone());
        let tls_failures = Family::<Reason, Counter>::default();
        registry.register(
            "tls_failures",
            "TLS handshakes that failed, by reason",
            tls_failures.clone(),
        );
        let tunnels = Family::<ByPool, Gauge>::default();
        registry.register("tunnels", "Upgraded connections now", tunnels.clone());
        let sessions = Family::<ByPool, Gauge>::default();
        registry.register(
            "sessions",
            "Sessions now, of pools that keep them in one worker each",
            sessions.clone(),
        );
        let log_dropped = Counter::default();
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because nobody took them in time",
            log_dropped.clone(),
        );
        let spans_dropped = Counter::default();
        registry.register(
            "spans_dropped",
            "Spans dropped because the collector did not take them in time, or not at all",
            spans_dropped.clone(),
        );
        Self {
            registry,
            counted: Counted {
                requests,
                duration,
                queue_wait,
                restarts,
                cancelled,
                scalings,
                lookups,
                turns,
                redirects,
                chain_inputs,
                calls,
            },
            queue_length,
            workers,
            unserved,
            connections,
            offers,
            slots,
            tls_failures,
            tunnels,
            sessions,
            log_dropped,
            log_dropped_seen: AtomicU64::new(0),
            spans_dropped,
            apps: AppMetrics::default(),
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// What one pool counts. Those that every request needs are at hand.
pub struct PoolMetrics {
    pool: Name,
    counted: Counted,
    /// The overwhelming case.
    ok: Counter,
    duration: Histogram,
    queue_wait: Histogram,
    apps: AppMetrics,
    /// Requests that this pool has answered, whatever with.
    answered: AtomicU64,
}

impl PoolMetrics {
    /// Requests that were answered since the pool is there.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// One request is over.
    pub fn request(&self, status: u16, cause: &'static str, total: Duration, queue: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if status == 200 && cause.is_empty() {
            self.ok.inc();
        } else {
            let outcome = Outcome {
                pool: self.pool.clone(),
                status,
                cause,
            };
            self.counted.requests.get_or_create(&outcome).inc();
        }
        self.duration.observe(total.as_secs_f64());
        self.queue_wait.observe(queue.as_secs_f64());
    }

    fn by_reason(&self, reason: &'static str) -> ByReason {
        ByReason {
            pool: self.pool.clone(),
            reason,
        }
    }

    fn by_outcome(&self, outcome: &'static str) -> ByOutcome {
        ByOutcome {
            pool: self.pool.clone(),
            outcome,
        }
    }

    /// A worker was replaced.
    pub fn restart(&self, reason: &'static str) {
        let reason = self.by_reason(reason);
        self.counted.restarts.get_or_create(&reason).inc();
    }

    /// A worker was made to give up a request.
    pub fn cancelled(&self, reason: &'static str) {
        let reason = self.by_reason(reason);
        self.counted.cancelled.get_or_create(&reason).inc();
    }

    /// It was decided about the number of workers.
    pub fn scaling(&self, decision: &'static str, reason: &'static str) {
        let decision = ByDecision {
            pool: self.pool.clone(),
            decision,
            reason,
        };
        self.counted.scalings.get_or_create(&decision).inc();
    }

    /// The name that workers are found by was looked up.
    pub fn lookup(&self, outcome: LookupState) {
        let outcome = self.by_outcome(outcome.name());
        self.counted.lookups.get_or_create(&outcome).inc();
    }

    /// A process will begin whose app may count in a file of that path. It is counted until this is dropped.
    pub fn process(&self, path: PathBuf) -> CountedProcess {
        self.apps.process(&self.pool.0, path)
    }

    /// A turn was asked for.
    pub fn turn(&self, outcome: &'static str) {
        let outcome = self.by_outcome(outcome);
        self.counted.turns.get_or_create(&outcome).inc();
    }

    /// A stage of a chain has had its input from another agent's stage, this way.
    pub fn chain_input(&self, way: &'static str) {
        let by = ByWay {
            pool: self.pool.clone(),
            way,
        };
        self.counted.chain_inputs.get_or_create(&by).inc();
    }

    /// A call by gRPC is over.
    pub fn call(&self, code: u16) {
        let pool = self.pool.clone();
        self.counted
            .calls
            .get_or_create(&ByCode { pool, code })
            .inc();
    }

    /// An answer has waited for its client, or could not.
    pub fn redirect(&self, outcome: &'static str) {
        let outcome = self.by_outcome(outcome);
        self.counted.redirects.get_or_create(&outcome).inc();
    }
}

impl Metrics {
    /// A worker has dialled in, or tried to.
    pub fn offer(&self, outcome: &'static str) {
        self.offers.get_or_create(&OfferOutcome { outcome }).inc();
    }

    /// What the pool with this name counts; one that comes back counts on.
    pub fn of_pool(&self, name: &Arc<str>) -> PoolMetrics {
        let pool = Name(name.clone());
        let counted = self.counted.clone();
        let by_pool = ByPool { pool: pool.clone() };
        let ok = Outcome {
            pool: pool.clone(),
            status: 200,
            cause: "",
        };
        let ok = counted.requests.get_or_create(&ok).clone();
        let duration = counted.duration.get_or_create(&by_pool).clone();
        let queue_wait = counted.queue_wait.get_or_create(&by_pool).clone();
        PoolMetrics {
            pool,
            counted,
            ok,
            duration,
            queue_wait,
            apps: self.apps.clone(),
            answered: AtomicU64::new(0),
        }
    }

    /// A client's TLS handshake failed.
    pub fn tls_failure(&self, reason: &'static str) {
        self.tls_failures.get_or_create(&Reason { reason }).inc();
    }

    /// Where spans are counted that no collector has taken.
    pub fn spans_dropped(&self) -> Counter<u64, AtomicU64> {
        self.spans_dropped.clone()
    }

    /// What the apps count, which is read where it holds nobody up.
    pub fn apps(&self) -> &AppMetrics {
        &self.apps
    }

    /// All of our own as text, in OpenMetrics' form. Gauges are read from `status` now.
    pub fn render(&self, status: &ServerStatus, connections: usize, log_dropped: u64) -> String {
        // Those of pools that are gone go with them.
        self.queue_length.clear();
        self.workers.clear();
        self.unserved.clear();
        self.slots.clear();
        self.tunnels.clear();
        self.sessions.clear();
        for status in &status.pools {
            self.set_gauges(status);
        }
        self.connections.set(connections as i64);
        let seen = self.log_dropped_seen.swap(log_dropped, Ordering::Relaxed);
        self.log_dropped.inc_by(log_dropped.saturating_sub(seen));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Adds what there is of one pool: of two with one name, one leaves.
    fn set_gauges(&self, status: &PoolStatus) {
        let pool = Name(status.pool.clone());
        let by_pool = ByPool { pool: pool.clone() };
        let queue = self.queue_length.get_or_create(&by_pool);
        queue.inc_by(status.queue as i64);
        for state in STATES {
            let workers = status.workers.iter();
            let count = workers.filter(|worker| worker.state == state).count();
            let by_state = ByState {
                pool: pool.clone(),
                state: state.name(),
            };
            self.workers.get_or_create(&by_state).inc_by(count as i64);
        }
        for worker in &status.workers {
            let Some(name) = &worker.name else {
                continue;
            };
            let state = match worker.state {
                State::Ready => "offered",
                State::Busy => "taken",
                _ => continue,
            };
            let by_slot = BySlot {
                pool: pool.clone(),
                worker: Name(name.clone()),
                state,
            };
            self.slots.get_or_create(&by_slot).inc();
        }
        let unserved = status.unserved.unwrap_or_default();
        self.unserved
            .get_or_create(&by_pool)
            .set(unserved.as_secs_f64());
        let tunnels: usize = status.workers.iter().map(|worker| worker.tunnels).sum();
        self.tunnels.get_or_create(&by_pool).inc_by(tunnels as i64);
        if status.sticky {
            let sessions = status.workers.iter().filter_map(|worker| worker.sessions);
            let sessions: i64 = sessions.map(i64::from).sum();
            self.sessions.get_or_create(&by_pool).inc_by(sessions);
        }
    }
}

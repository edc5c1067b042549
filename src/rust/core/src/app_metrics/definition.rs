//! What a metric is: its kind, its name, its buckets.

use super::{LONGEST_HELP, LONGEST_NAME, MOST_BUCKETS};

/// How a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Counter => 1,
            Self::Gauge => 2,
            Self::Histogram => 3,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// Whether what a process counted counts on when that is gone.
    pub(super) fn is_kept(self) -> bool {
        !matches!(self, Self::Gauge)
    }
}

/// Why something is no metric, or no series of one. `argument` is whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub argument: &'static str,
    pub message: String,
}

impl Invalid {
    pub(super) fn new(argument: &'static str, message: impl Into<String>) -> Self {
        Self {
            argument,
            message: message.into(),
        }
    }
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub kind: Kind,
    /// Without the `_total` of counters.
    pub name: String,
    pub help: String,
    /// Upper bounds of a histogram's buckets, ascending, without the infinite one.
    pub bounds: Vec<f64>,
}

/// What the parts of a metric are called, and so no metric itself.
const SUFFIXES: [&str; 5] = ["_total", "_created", "_count", "_sum", "_bucket"];

/// What is faucet's own.
const OWN: &str = "faucet_";

impl Definition {
    /// # Errors
    /// The name, the text or the buckets are not what Prometheus takes.
    pub fn new(kind: Kind, name: &str, help: &str, bounds: Vec<f64>) -> Result<Self, Invalid> {
        let base = match kind {
            Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
            Kind::Gauge | Kind::Histogram => name,
        };
        let wrong = |why: &str| Err(Invalid::new("name", why));
        if !is_name(base) {
            return wrong(
                "must consist of letters (a-z, A-Z), digits and `_`, and not begin with a digit",
            );
        }
        if base.len() > LONGEST_NAME {
            return wrong(&format!("must have at most {LONGEST_NAME} characters"));
        }
        if base.starts_with(OWN) || base.starts_with("__") {
            return wrong("must not begin with `faucet_` or `__`, which are taken");
        }
        if let Some(suffix) = SUFFIXES.iter().find(|suffix| base.ends_with(*suffix)) {
            return wrong(&format!(
                "must not end with `{suffix}`, which Prometheus gives to parts of a metric"
            ));
        }
        if help.len() > LONGEST_HELP {
            let message = format!("must have at most {LONGEST_HELP} bytes");
            return Err(Invalid::new("help", message));
        }
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = match kind {
            Kind::Histogram => (1..=MOST_BUCKETS).contains(&bounds.len()),
            Kind::Counter | Kind::Gauge => bounds.is_empty(),
        };
        if !fits || !rising || !bounds.iter().all(|bound| bound.is_finite()) {
            let message =
                format!("must be 1 to {MOST_BUCKETS} numbers, each larger than the one before");
            return Err(Invalid::new("buckets", message));
        }
        Ok(Self {
            kind,
            name: base.to_owned(),
            help: help.to_owned(),
            bounds,
        })
    }

    /// How many numbers a series has: of a histogram one for each bucket, the infinite one too, and the sum.
    pub fn numbers(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram => self.bounds.len() + 2,
        }
    }

    /// Whether series of both can be added.
    pub fn adds_up_with(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name && self.bounds == other.bounds
    }
}

/// Whether a name is one in all of Prometheus' formats: of a metric or of a label.
pub(super) fn is_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus_and_none_of_ours() {
        let new = |kind, name: &str| Definition::new(kind, name, "", Vec::new());
        for name in ["a", "_a1", "Orders_by_country", "total", "count"] {
            assert!(new(Kind::Gauge, name).is_ok(), "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in [
            "", "1a", "a-b", "a:b", "ä", "a b", "a\n", "faucet_x", "__a", "a_sum", "a_total", &long,
        ] {
            let argument = new(Kind::Gauge, name).expect_err(name).argument;
            assert_eq!(argument, "name", "{name}");
        }
        let counter = new(Kind::Counter, "orders_total").expect("a counter");
        assert_eq!(counter.name, "orders");
        assert!(new(Kind::Counter, "_total").is_err());
    }

    #[test]
    fn buckets_rise() {
        let new = |bounds: &[f64]| Definition::new(Kind::Histogram, "a", "", bounds.to_vec());
        assert_eq!(new(&[-1.0, 0.5, 2.0]).expect("a histogram").numbers(), 5);
        let many: Vec<f64> = (0..51).map(f64::from).collect();
        for bounds in [
            &[][..],
            &[1.0, 1.0],
            &[2.0, 1.0],
            &[f64::NAN],
            &[1.0, f64::INFINITY],
            &many,
        ] {
            assert_eq!(new(bounds).expect_err("none").argument, "buckets");
        }
    }
}

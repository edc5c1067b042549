//! What R is told: lists that say whether it went well.

use extendr_api::prelude::*;
use faucet_core::sources::Failure;

/// `list(ok = TRUE, ...)`.
pub fn good<const N: usize>(fields: [(&str, Robj); N]) -> List {
    let mut pairs = vec![("ok", Robj::from(true))];
    pairs.extend(fields);
    List::from_pairs(pairs)
}

/// `list(ok = FALSE, class, message, lines)`.
pub fn bad(failure: &Failure) -> List {
    List::from_pairs([
        ("ok", Robj::from(false)),
        ("class", Robj::from(failure.class)),
        ("message", Robj::from(failure.message.as_str())),
        ("lines", Robj::from(failure.lines.clone())),
    ])
}

/// A failure without a worker's lines.
pub fn failure(class: &'static str, message: impl Into<String>) -> Failure {
    Failure {
        class,
        message: message.into(),
        lines: Vec::new(),
    }
}

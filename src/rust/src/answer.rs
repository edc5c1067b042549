//! What R is told: lists that say whether it went well.

use extendr_api::prelude::*;
use faucet_core::ops::printable;
use faucet_core::sources::Failure;

/// `list(ok = TRUE, ...)`.
pub fn good<const N: usize>(fields: [(&str, Robj); N]) -> List {
    let mut pairs = vec![("ok", Robj::from(true))];
    pairs.extend(fields);
    List::from_pairs(pairs)
}

/// Text that others had a part in. R takes no NUL, and shows what it is given: nothing else passes this border.
pub fn text(text: &str) -> Robj {
    printable::text(text).as_ref().into()
}

/// The same for a vector.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Robj {
    let texts: Vec<_> = texts.into_iter().map(printable::text).collect();
    texts
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<&str>>()
        .into()
}

/// `list(ok = FALSE, class, message, lines)`.
pub fn bad(failure: &Failure) -> List {
    List::from_pairs([
        ("ok", Robj::from(false)),
        ("class", Robj::from(failure.class)),
        ("message", text(&failure.message)),
        ("lines", texts(failure.lines.iter().map(String::as_str))),
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

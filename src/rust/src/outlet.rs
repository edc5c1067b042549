//! Standard output and error, where R has them as plain descriptors.

use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::ops::outlet::{Outlet, ERROR, OUTPUT};

use crate::answer::text;

/// How long the last lines wait for a reader.
const LAST: Duration = Duration::from_millis(500);

fn outlets(stream: &str) -> (&'static Outlet, &'static Outlet) {
    match stream {
        "stderr" => (&ERROR, &OUTPUT),
        _ => (&OUTPUT, &ERROR),
    }
}

/// Prints lines, in order with those for the other stream. Never waits long, and never fails for want of a reader.
/// @param stream "stdout" or "stderr".
/// @param lines Raw vector.
/// @return Whether it is taken care of; otherwise R must print it.
/// @noRd
#[extendr]
fn outlet_put(stream: &str, lines: Raw) -> bool {
    let (outlet, other) = outlets(stream);
    other.settle();
    outlet.put(lines.as_slice()).is_ok()
}

/// Waits, but not long, until all is printed.
/// @param last Whether nothing comes after it: a reader that is known not to read gets another chance.
/// @noRd
#[extendr(invisible)]
fn outlet_settle(last: bool) {
    for outlet in [&OUTPUT, &ERROR] {
        if last {
            outlet.finish(LAST);
        } else {
            outlet.settle();
        }
    }
}

/// Whether the reader of a stream keeps up.
/// @noRd
#[extendr]
fn outlet_is_read(stream: &str) -> bool {
    outlets(stream).0.is_read()
}

/// Why a stream cannot be written: `NULL` if it can, or if that was told a short while ago.
/// @noRd
#[extendr]
fn outlet_trouble(stream: &str) -> Robj {
    outlets(stream)
        .0
        .trouble()
        .map_or(r!(NULL), |trouble| text(&trouble))
}

extendr_module! {
    mod outlet;
    fn outlet_put;
    fn outlet_settle;
    fn outlet_is_read;
    fn outlet_trouble;
}

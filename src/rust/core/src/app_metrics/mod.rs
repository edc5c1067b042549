//! What an app's own code counts: kept by each R process in a file of its own, and read by the front when it is asked.
//!
//! A process writes, the front reads; they share nothing but the file, which outlives the process however that ends. A
//! process is not trusted: what its file holds is bounded here, and whatever does not fit is left out.

mod definition;
mod exposition;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod kept;
mod labels;
mod layout;
mod recorder;
mod source;
mod totals;

pub use definition::{Definition, Invalid, Kind};
pub use exposition::insert;
pub use labels::{labels, Labels};
pub use recorder::{Change, Recorder, Unrecorded};
pub use totals::{aside, AppMetrics, Counted};

use std::path::{Path, PathBuf};

/// Series that one process may have.
pub const MOST_SERIES: usize = 1000;

/// Series of processes that are gone, of one server.
const MOST_KEPT: usize = 10_000;

/// Series of one server that are shown: with those of living processes.
const MOST_SHOWN: usize = 20_000;

/// Of the text that shows them.
const MOST_BYTES: usize = 32 << 20;

/// Of a name, in bytes.
const LONGEST_NAME: usize = 100;
const LONGEST_HELP: usize = 400;
const LONGEST_LABEL_NAME: usize = 64;
/// What is longer is cut.
const LONGEST_LABEL_VALUE: usize = 200;
const MOST_LABELS: usize = 8;
const MOST_BUCKETS: usize = 50;

/// Where a process counts, in the folder that it has for temporary files. R has the same name (`become_worker()`).
pub fn path_in(temporary: &Path) -> PathBuf {
    temporary.join("metrics")
}

//! Bodies at rest: memory up to a limit, then a temporary file, so that a slow client holds no worker.

mod backing;
mod buffered;
mod spool;

pub use buffered::{BufferError, Buffered, BufferedBody};
pub use spool::{spool, Abort, SpoolReader, SpoolWriter};

//! Bodies at rest: memory up to a limit, then a temporary file, so that a slow client holds no
//! worker; and files that are bodies.

mod backing;
mod buffered;
mod file;
mod spool;

pub use buffered::{BufferError, Buffered, BufferedBody, Rest};
pub use file::FileBody;
pub use spool::{spool, Abort, SpoolProgress, SpoolReader, SpoolWriter};

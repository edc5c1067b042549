//! Bodies at rest: memory up to a limit, then a temporary file, so that a slow client holds no
//! worker; and files that are bodies.

mod backing;
mod buffered;
mod file;
mod flow;
mod pieces;
mod spool;
mod store;
mod threads;

pub use backing::set_directory;
pub use buffered::{BufferError, Buffered, BufferedBody, Rest};
pub use file::FileBody;
pub use flow::{Flow, FlowFailed, Inflow, Source};
pub(crate) use pieces::Pieces;
pub use spool::{spool, Abort, SpoolProgress, SpoolReader, SpoolWriter};
pub(crate) use store::Charge;
pub use store::{is_shortage, Store};

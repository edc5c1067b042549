//! The body of a request on its way to a program.

use std::io;
use std::os::fd::OwnedFd;

use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;

use crate::body::Buffered;

/// Writes a body to a program's standard input, and closes that. A program that does not read all of it has its reasons.
///
/// # Errors
/// The body cannot be read.
pub async fn feed(stdin: OwnedFd, body: Buffered) -> io::Result<()> {
    let mut stdin = Sender::from_owned_fd(stdin)?;
    let mut body = body.body();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            if stdin.write_all(&chunk).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

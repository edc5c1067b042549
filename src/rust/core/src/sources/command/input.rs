//! The body of a request on its way to a program.

use std::io;

use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;

use crate::body::Buffered;
use crate::serve::{Inlet, Read};

/// What a program reads.
pub enum Input {
    Complete(Buffered),
    /// It comes meanwhile.
    Coming(Inlet),
}

/// Writes a body to a program's standard input. Closing it says that this was all. A program that does not read all of it has its
/// reasons.
///
/// # Errors
/// The body cannot be read, or breaks off.
pub async fn feed(stdin: &mut Sender, input: Input) -> io::Result<()> {
    let body = match input {
        Input::Complete(body) => body,
        Input::Coming(inlet) => return feed_coming(stdin, inlet).await,
    };
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

async fn feed_coming(stdin: &mut Sender, inlet: Inlet) -> io::Result<()> {
    loop {
        match inlet.next().await {
            Read::Some(chunks) => {
                for chunk in chunks {
                    if stdin.write_all(&chunk).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Read::End => return Ok(()),
            Read::Broken | Read::None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

//! A look at a worker that the front has set aside: does it serve?

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::sources::local::boot::{self, LOOK};
use crate::worker::{native, Address, Worker};

/// How long a process that was killed may take to be seen dead, where the system does not tell whether it ends.
const DYING: Duration = Duration::from_millis(50);

/// How long a worker may refuse connections before it is killed.
const UNREACHABLE_GRACE: Duration = Duration::from_secs(1);

/// What a worker is asked that has answered wrongly: HTTP's own ping.
const PING: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Waits until a worker that broke a connection off, or could not be reached, accepts connections. One that lives does so
/// at once.
pub(super) async fn accepts(worker: &Worker) -> Result<(), &'static str> {
    if !worker.lives() {
        // A dying worker may accept until it is gone: its end is told before this.
        tokio::time::sleep(DYING).await;
    }
    let address = std::slice::from_ref(&worker.address);
    match tokio::time::timeout(UNREACHABLE_GRACE, boot::accepts(address, LOOK)).await {
        Ok(_) => Ok(()),
        Err(_) => Err("refuses connections"),
    }
}

/// Waits until a worker says anything at all, or hangs up as one that lives.
pub(super) async fn answers(worker: &Worker, patience: Duration) -> Result<(), &'static str> {
    tokio::time::timeout(patience, answers_ever(worker))
        .await
        .unwrap_or(Err("does not answer"))
}

/// The same, however long it takes: until it answers, or cannot be reached.
pub(super) async fn answers_ever(worker: &Worker) -> Result<(), &'static str> {
    let ping = async {
        match &worker.address {
            Address::Tcp(address) => ask(TcpStream::connect(address).await?).await,
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                native::check_peer(&stream, path)?;
                ask(stream).await
            }
            Address::Dialled(_) | Address::Callers(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    };
    match ping.await {
        Ok(1..) => Ok(()),
        _ => accepts(worker).await,
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<usize> {
    stream.write_all(PING).await?;
    stream.read(&mut [0; 64]).await
}

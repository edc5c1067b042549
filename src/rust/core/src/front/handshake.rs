//! The beginning of a client's connection with TLS, and what becomes of those that fail.

use tokio::net::TcpStream;

use super::cause::Cause;
use super::listener::{linger, part_with};
use super::Front;
use crate::client_address::ClientAddress;
use crate::client_stream::ClientStream;
use crate::environment::SystemError;
use crate::tls::{Refusal, Refused, ServerTls};

/// As nginx says it.
const PLAIN: Cause =
    Cause::BadRequest("this port speaks TLS, and the request came without: use https://");

impl Front {
    /// Takes a client's handshake within `header_timeout`. One that fails is counted, the log is told now and then, and the
    /// client, if it can be (`None`).
    pub async fn shake_hands(
        &self,
        tls: &ServerTls,
        socket: TcpStream,
        address: ClientAddress,
    ) -> Option<ClientStream> {
        let shaken = tokio::time::timeout(self.limits.header_timeout, tls.handshake(socket)).await;
        let Refused { why, socket } = match shaken {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(refused)) => refused,
            Err(_) => {
                self.metrics.tls_failure("timeout");
                tls.note_failure(address, "it was not finished within `header_timeout`");
                return None;
            }
        };
        let stream = ClientStream::Tcp(socket);
        match &why {
            Refusal::Silent => return None,
            Refusal::Plain => {
                let response = self.reject(PLAIN, address);
                part_with(&self.connections, stream, response);
            }
            // It is to hear why: an alert is on its way.
            Refusal::Failed(error) => {
                tls.note_failure(address, &SystemError(error).to_string());
                linger(&self.connections, stream);
            }
        }
        self.metrics.tls_failure(why.reason());
        None
    }
}

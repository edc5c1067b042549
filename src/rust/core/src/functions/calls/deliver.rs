//! Telling somewhere else that a call has ended.
//!
//! Who may make a call says where that is told, and could have the server ask what only it can reach: so it asks nothing but what
//! is under the URLs that its operator has allowed, none by default. It follows no redirects, shows no token, and nobody is told
//! what it was answered.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;

use super::call::{Call, Callback, Delivery};
use super::{CallId, Calls, Ending};
use crate::client::{Client, ClientError, Outgoing, RequestBody};
use crate::environment::SystemError;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Calls {
    /// Tells the end of a call, if it is to be told.
    pub(super) async fn deliver(self: &Arc<Self>, id: CallId) {
        tokio::select! {
            () = self.try_all(id) => {}
            // It is told when the server is back.
            () = self.until(Ending::Closing) => {}
        }
    }

    async fn try_all(self: &Arc<Self>, id: CallId) {
        loop {
            let Some(call) = self.find(id).filter(Call::is_to_be_told) else {
                return;
            };
            let Some(callback) = &call.callback else {
                return;
            };
            let outcome = match self.deliveries.acquire().await {
                Ok(_place) => self.post(&call, callback).await,
                Err(_) => return,
            };
            let pause = self.settings.pauses.get(callback.tries as usize).copied();
            let status = match (&outcome, pause) {
                (Ok(()), _) => Delivery::Delivered,
                (Err(_), Some(_)) => Delivery::Waiting,
                (Err(why), None) => {
                    tracing::warn!(
                        "the end of call {id} cannot be told: {} {why}",
                        callback.url
                    );
                    Delivery::Failed
                }
            };
            self.note(id, status);
            if let Err(error) = self.save(id).await {
                let why = SystemError(&error);
                tracing::error!(
                    "what has become of call {id}'s callback cannot be written down: {why}"
                );
            }
            if let (Delivery::Waiting, Some(pause)) = (status, pause) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn note(&self, id: CallId, status: Delivery) {
        let mut known = self.known();
        let callback = known
            .calls
            .get_mut(&id)
            .and_then(|kept| kept.call.callback.as_mut());
        if let Some(callback) = callback {
            callback.status = status;
            callback.tries += 1;
        }
    }

    /// One try.
    ///
    /// # Errors
    /// Why it has failed, a clause whose subject is the URL.
    async fn post(&self, call: &Call, callback: &Callback) -> Result<(), String> {
        let client = Client {
            address: callback.url.server.clone(),
            tls: self.tls.clone(),
            token: None,
            connect_timeout: PATIENCE,
        };
        let id = call.id.to_string();
        let headers = [("content-type", "application/json"), ("x-request-id", &id)];
        let body = RequestBody::bytes(call.told().to_string().into_bytes());
        let outgoing = Outgoing::new(
            Method::POST.as_str(),
            callback.url.target.clone(),
            &headers,
            body,
        )?;
        let sent = tokio::time::timeout(PATIENCE, client.send(outgoing)).await;
        match sent.unwrap_or(Err(ClientError::Timeout(PATIENCE))) {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!(
                "has answered with status {}",
                answer.status.as_u16()
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

//! Where clients come for answers whose bodies do not go through a hub.

use std::sync::Arc;

use super::listen::listen_tcp;
use super::system;
use super::task::ServerTask;
use crate::endpoint::Endpoint;
use crate::front::{accept_fetchers, Bound, Redirects};
use crate::offers::RedirectSettings;
use crate::sources::Failure;
use crate::tls::{ServerTls, TlsSettings};

/// The port, before there is a runtime.
pub(super) struct FetchPort {
    listener: Bound,
    redirects: Arc<Redirects>,
}

impl FetchPort {
    /// Listens. `tls` is the server's: a URL of `https` without it is of something before this server.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen`, or `option` for the files of TLS.
    pub(super) fn open(
        settings: &RedirectSettings,
        tls: Option<&TlsSettings>,
    ) -> Result<Self, Failure> {
        let listener = listen_tcp("redirect_", &settings.host, settings.port)?;
        let tls = tls.filter(|_| settings.url.starts_with("https://"));
        // Whoever knows an address needs no certificate.
        let tls = tls.map(|tls| ServerTls::load(&tls.without_client_ca()));
        let redirects = Redirects::new(settings.url.clone(), tls.transpose()?.map(Arc::new));
        Ok(Self {
            listener,
            redirects,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.listener.endpoint()
    }

    pub(super) fn redirects(&self) -> &Arc<Redirects> {
        &self.redirects
    }
}

impl ServerTask {
    /// Lets clients in who come for their answers. To be called in the runtime.
    ///
    /// # Errors
    /// The runtime has no room for the listener.
    pub(super) fn serve_fetchers(&self, port: FetchPort) -> Result<(), Failure> {
        let FetchPort {
            listener,
            redirects,
        } = port;
        // Both are set once.
        if let Some(tls) = redirects.tls() {
            let _ = self.other_tls.set(tls.clone());
        }
        let _ = self.redirects.set(redirects.clone());
        let own = listener.endpoint().url(redirects.tls().is_some());
        match redirects.url() {
            url if url == own => tracing::info!("bodies are fetched at {url}"),
            url => tracing::info!("bodies are fetched at {url}, which must lead to {own}"),
        }
        let listener = listener.into_listener().map_err(system)?;
        tokio::spawn(accept_fetchers(self.front.clone(), listener, redirects));
        Ok(())
    }

    /// Whether an answer still waits for its client.
    pub(super) fn is_fetched_from(&self) -> bool {
        let redirects = self.redirects.get();
        redirects.is_some_and(|redirects| redirects.waiting() > 0)
    }
}

//! Whose certificates are believed of those from whom something is taken.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::environment::Environment;
use crate::tls::ClientTls;

/// Loaded when they are first needed: most servers never need them.
#[derive(Default)]
pub struct Trust {
    /// Of whom, and what tells where the system's are; `None` for nobody's.
    from: Option<(Option<PathBuf>, Environment)>,
    loaded: OnceCell<Result<Arc<ClientTls>, String>>,
}

impl Trust {
    pub fn new(ca: Option<PathBuf>, environment: Environment) -> Self {
        Self {
            from: Some((ca, environment)),
            ..Self::default()
        }
    }

    /// Those.
    ///
    /// # Errors
    /// There are none, or they cannot be read; within a sentence.
    pub async fn tls(&self) -> Result<Arc<ClientTls>, String> {
        let load = || async {
            let Some((ca, environment)) = self.from.clone() else {
                return Err("nobody's certificate is believed here".to_owned());
            };
            let load = move || ClientTls::of(ca.as_deref(), &environment);
            match tokio::task::spawn_blocking(load).await {
                Ok(Ok(tls)) => Ok(Arc::new(tls)),
                Ok(Err(failure)) => Err(failure.message),
                Err(error) => Err(error.to_string()),
            }
        };
        self.loaded.get_or_init(load).await.clone()
    }
}

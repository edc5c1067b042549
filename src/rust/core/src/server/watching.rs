//! Reloads a pool when a file of its app changes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch, Mutex};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::running::Progress;
use super::shared::Shared;
use super::task::ServerTask;
use crate::descriptors::{Descriptor, Descriptors};
use crate::environment::SystemError;
use crate::sources::{Command, Source, SourceHandle};
use crate::watch::{Event, Scope, Watch, DESCRIPTORS};

/// Between two tries to reload while somebody else's reload is under way.
const RETRY: Duration = Duration::from_millis(100);

/// How long after a reload's end a change may be noticed that was made during it.
const LATE: Duration = Duration::from_millis(100);

/// A file that changes during so many reloads in a row is written by the app itself, and leads to no further one. Few people
/// save a file as often without once waiting for what comes of it.
const MOST_IN_A_ROW: u32 = 8;

/// A watch and what it does, until this is dropped.
pub(super) struct Watching {
    _watch: Watch,
    task: AbortHandle,
    _descriptors: Vec<Descriptor>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn start<F>(
        scope: Scope,
        descriptors: &Descriptors,
        span: tracing::Span,
        work: impl FnOnce(mpsc::Receiver<Event>) -> F,
    ) -> io::Result<Self>
    where
        F: std::future::Future<Output = ()> + Send + 'static,
    {
        let (watch, heard) = Watch::start(scope)?;
        Ok(Self {
            _watch: watch,
            task: tokio::spawn(work(heard).instrument(span)).abort_handle(),
            _descriptors: (0..DESCRIPTORS)
                .map(|_| descriptors.take_anyway())
                .collect(),
        })
    }

    /// Reloads a pool when the code in `dir` changes; `except` is a file that is watched for all pools.
    fn of_app(
        dir: PathBuf,
        except: Option<PathBuf>,
        descriptors: &Descriptors,
        span: tracing::Span,
        pool: Watched,
    ) -> io::Result<Self> {
        let scope = Scope::App {
            dir: dir.clone(),
            except,
        };
        Self::start(scope, descriptors, span, |heard| pool.run(dir, heard))
    }

    /// Has R read the configuration file again when it changes.
    fn of_config(
        file: PathBuf,
        descriptors: &Descriptors,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let scope = Scope::File(file.clone());
        let span = tracing::Span::none();
        Self::start(scope, descriptors, span, |mut heard| async move {
            while let Some(event) = heard.recv().await {
                match event {
                    Event::Trouble(text) => tracing::warn!("{text}"),
                    Event::Changed { .. } => {
                        tracing::info!("{} has changed", file.display());
                        shared.note_config_change();
                    }
                }
            }
        })
    }
}

impl ServerTask {
    /// Watches the files of a pool's app, if that is asked for.
    pub(super) fn watch(
        &self,
        source: &Source,
        pool: Watched,
        span: &tracing::Span,
    ) -> Option<Watching> {
        let dir = source.watched()?.to_owned();
        let descriptors = self.front.store.descriptors();
        let except = self.config.clone();
        let watching = Watching::of_app(dir, except, descriptors, span.clone(), pool);
        let failed = |error: io::Error| {
            span.in_scope(|| tracing::warn!("files cannot be watched: {}", SystemError(&error)));
        };
        watching.map_err(failed).ok()
    }

    /// Watches the configuration file, if there is one to watch.
    pub(super) fn watch_config(&self) -> Option<Watching> {
        let file = self.config.clone()?;
        let descriptors = self.front.store.descriptors();
        let watching = Watching::of_config(file, descriptors, self.shared.clone());
        let failed = |error: io::Error| {
            tracing::warn!(
                "the configuration file cannot be watched: {}",
                SystemError(&error)
            );
        };
        watching.map_err(failed).ok()
    }
}

/// The pool whose app is watched.
pub(super) struct Watched {
    pub(super) source: Arc<SourceHandle>,
    pub(super) progress: watch::Receiver<Progress>,
    /// Held while it reloads for a change: others wait for the end of that, and are not refused.
    pub(super) reloading: Arc<Mutex<()>>,
}

impl Watched {
    async fn run(mut self, dir: PathBuf, mut heard: mpsc::Receiver<Event>) {
        let mut own = OwnChanges::default();
        while let Some(event) = heard.recv().await {
            let mut batch = Batch::default();
            batch.add(event);
            // What came during the last reload leads to one.
            while let Ok(event) = heard.try_recv() {
                batch.add(event);
            }
            let Some(since) = batch.since else {
                continue;
            };
            let paths = own.others(batch.paths, since, &dir);
            if paths.is_empty() {
                continue;
            }
            tracing::info!("{}", name_changes(&paths, &dir));
            // Whatever is starting may have read the old code: it is replaced once it is clear what becomes of it.
            let settled = self
                .progress
                .wait_for(|progress| !matches!(progress, Progress::Starting));
            if settled.await.is_err() {
                return;
            }
            if !self.reload().await {
                return;
            }
            own.reloaded = Some(Instant::now());
        }
    }

    /// Whether the pool goes on.
    async fn reload(&self) -> bool {
        loop {
            let held = self.reloading.lock().await;
            let (reply, result) = oneshot::channel();
            self.source.send(Command::Reload(reply));
            match result.await {
                Ok(Ok(())) => return true,
                Ok(Err(failure)) if failure.is_reloading() => {
                    drop(held);
                    tokio::time::sleep(RETRY).await;
                }
                Ok(Err(failure)) if failure.class == "stopped" => return false,
                Ok(Err(failure)) => {
                    tracing::error!("reload failed: {}", failure.message);
                    return true;
                }
                // A source that is gone has dropped it.
                Err(_) => return false,
            }
        }
    }
}

/// Changes that lead to one reload.
#[derive(Default)]
struct Batch {
    paths: Vec<PathBuf>,
    /// When the first was noticed.
    since: Option<Instant>,
}

impl Batch {
    fn add(&mut self, event: Event) {
        match event {
            Event::Trouble(text) => tracing::warn!("{text}"),
            Event::Changed { paths, since } => {
                self.since.get_or_insert(since);
                for path in paths {
                    if !self.paths.contains(&path) {
                        self.paths.push(path);
                    }
                }
            }
        }
    }
}

/// Tells changes that others make from those that the app makes when it starts, which would lead to reloads without end.
#[derive(Default)]
struct OwnChanges {
    /// When the last reload ended.
    reloaded: Option<Instant>,
    /// During how many reloads in a row a file has changed.
    in_a_row: HashMap<PathBuf, u32>,
}

impl OwnChanges {
    /// Of the files that have changed, those that the app does not write by itself.
    fn others(&mut self, mut paths: Vec<PathBuf>, since: Instant, dir: &Path) -> Vec<PathBuf> {
        let during = self.reloaded.is_some_and(|ended| since <= ended + LATE);
        self.in_a_row
            .retain(|path, count| *count >= MOST_IN_A_ROW || (during && paths.contains(path)));
        if during {
            paths.retain(|path| {
                let count = self.in_a_row.entry(path.clone()).or_default();
                *count = count.saturating_add(1);
                if *count == MOST_IN_A_ROW {
                    tracing::warn!(
                        "{} has changed during each of the last {MOST_IN_A_ROW} reloads: the app seems to write it when it starts, and that leads to no reload any more",
                        within(path, dir)
                    );
                }
                *count < MOST_IN_A_ROW
            });
        }
        paths
    }
}

fn within(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn name_changes(paths: &[PathBuf], dir: &Path) -> String {
    let first = paths.first().map(|path| within(path, dir));
    let first = first.unwrap_or_default();
    match paths.len() {
        0 | 1 => format!("{first} has changed"),
        2 => format!("{first} and one more file have changed"),
        count => format!("{first} and {} more files have changed", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_an_app_writes_when_it_starts_lead_to_few_reloads() {
        let dir = Path::new("/api");
        let (cache, code) = ("/api/cache.json", "/api/a.R");
        let now = Instant::now();
        let idle = now + Duration::from_secs(60);
        let mut own = OwnChanges::default();
        let mut others = |paths: &[&str], since, reloaded| {
            own.reloaded = reloaded;
            let paths = paths.iter().map(PathBuf::from).collect();
            let others = own.others(paths, since, dir);
            let others = others.iter().map(|path| path.display().to_string());
            others.collect::<Vec<_>>()
        };
        assert_eq!(others(&[code], now, None), [code]);
        let reloaded = Some(now);
        assert_eq!(others(&[cache, code], now, reloaded), [cache, code]);
        for _ in 2..MOST_IN_A_ROW {
            assert_eq!(others(&[cache], now, reloaded), [cache]);
        }
        assert_eq!(others(&[cache, code], now, reloaded), [code]);
        assert_eq!(others(&[cache, code], now, reloaded), [code]);
        // Who changes it by hand wants a reload.
        assert_eq!(others(&[cache], idle, reloaded), [cache]);
        assert!(others(&[cache], now, reloaded).is_empty());
        assert_eq!(others(&[code], now, reloaded), [code]);
    }

    #[test]
    fn changes_are_named_in_one_line() {
        let named = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            name_changes(&paths, Path::new("/api"))
        };
        assert_eq!(named(&["/api/R/a.R"]), "R/a.R has changed");
        assert_eq!(
            named(&["/api/a.R", "/api/b.R"]),
            "a.R and one more file have changed"
        );
        assert_eq!(
            named(&["/api/a.R", "/b.R", "/c.R"]),
            "a.R and 2 more files have changed"
        );
    }
}

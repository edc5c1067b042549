//! Watches the files of an app, or one file, and tells what has changed once it has been quiet.
//!
//! What the system says of changes is only a reason to look: what has changed is found by comparing what is there with what
//! was there. So a file that is written, renamed over or linked anew, a directory that comes or goes with all that is in it,
//! and news that were lost are one case.

#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    path = "elsewhere.rs"
)]
mod inotify;
mod look;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))]
mod patterns;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use tokio::sync::mpsc;

use self::inotify::{Found, Notices};
use self::look::{look, Stamp};
use crate::environment::SystemError;
use crate::signals;

/// How long nothing may change before a change is told: editors and `git` write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// A change is told after this time, even if there is no quiet.
const LONGEST: Duration = Duration::from_secs(5);

/// Between two looks where the system does not tell of changes.
const EVERY: Duration = Duration::from_secs(2);

/// Between two lines about news that were lost.
const NEWS: Duration = Duration::from_secs(60);

/// Changes that nobody has taken yet. One more is dropped: those before it lead to the same.
const UNTAKEN: usize = 64;

/// Descriptors that a watch has open.
pub const DESCRIPTORS: usize = 3;

/// What is watched.
#[derive(Clone, Debug)]
pub enum Scope {
    /// The code of an app: see [`patterns`]. `except` is a file that others watch.
    App {
        dir: PathBuf,
        except: Option<PathBuf>,
    },
    File(PathBuf),
}

impl Scope {
    /// The path whose coming and going shows in the directory above it.
    fn root(&self) -> &Path {
        match self {
            Self::App { dir, .. } => dir,
            Self::File(path) => path,
        }
    }
}

/// What a watch tells.
#[derive(Debug)]
pub enum Event {
    Changed {
        /// Those that came, went or are not what they were; never empty.
        paths: Vec<PathBuf>,
        /// When the first of them was noticed.
        since: Instant,
    },
    /// Something that limits the watch, for the log.
    Trouble(String),
}

/// A watch, which ends when this is dropped.
pub struct Watch {
    /// Its other end tells the thread.
    _stop: UnixStream,
}

impl Watch {
    /// Starts to watch, on a thread of its own.
    ///
    /// # Errors
    /// The system refuses another thread or descriptor.
    pub fn start(scope: Scope) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (stop, stopped) = UnixStream::pair()?;
        let (events, heard) = mpsc::channel(UNTAKEN);
        let watcher = Watcher {
            notices: None,
            known: BTreeMap::new(),
            scope,
            events,
            is_there: true,
            is_cut: false,
            told_of_loss: None,
        };
        signals::start_thread("faucet-watch", signals::STACK, move || {
            watcher.run(&stopped)
        })?;
        Ok((Self { _stop: stop }, heard))
    }
}

/// What the thread has.
struct Watcher {
    scope: Scope,
    events: mpsc::Sender<Event>,
    /// None where the system does not tell, or not of all: then the files are looked at again and again.
    notices: Option<Notices>,
    /// As of the last look.
    known: BTreeMap<PathBuf, Stamp>,
    is_there: bool,
    /// There is more than what is watched.
    is_cut: bool,
    /// When it was said last that news were lost.
    told_of_loss: Option<Instant>,
}

/// A change that was noticed and not yet told.
#[derive(Clone, Copy)]
struct Pending {
    since: Instant,
    last: Instant,
}

impl Pending {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.since + LONGEST)
    }
}

/// Nobody listens any more.
struct Over;

impl Watcher {
    fn run(mut self, stopped: &UnixStream) {
        // Whoever it tells is gone, or has asked it to end.
        let _ = self.watch(stopped);
    }

    fn watch(&mut self, stopped: &UnixStream) -> Result<(), Over> {
        self.notices = match Notices::new() {
            Ok(notices) => Some(notices),
            // Elsewhere than on Linux.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => {
                self.look_instead(&error)?;
                None
            }
        };
        self.known = self.look()?;
        let mut pending: Option<Pending> = None;
        loop {
            let blind = self.notices.is_none() || !self.is_there;
            let timeout = match pending {
                Some(pending) => Some(pending.due().saturating_duration_since(Instant::now())),
                None if blind => Some(EVERY),
                None => None,
            };
            let noticed = self.wait(stopped, timeout)?;
            let now = Instant::now();
            if noticed {
                let since = pending.map_or(now, |pending| pending.since);
                pending = Some(Pending { since, last: now });
            }
            match pending {
                Some(change) if change.due() <= now => {
                    pending = None;
                    self.tell(change.since)?;
                }
                None if blind && !noticed => {
                    let seen = self.look()?;
                    if differences(&self.known, &seen).next().is_some() {
                        pending = Some(Pending {
                            since: now,
                            last: now,
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// Waits for news, at most `timeout`. Whether there are some that matter.
    fn wait(&mut self, stopped: &UnixStream, timeout: Option<Duration>) -> Result<bool, Over> {
        let timeout = match timeout {
            // Rounded up, so that what is awaited is over.
            Some(timeout) => {
                PollTimeout::try_from(timeout.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let stop = stopped.as_fd();
        let news: Option<BorrowedFd<'_>> = self.notices.as_ref().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> = [Some(stop), news]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        // An interruption is a wait that ends early.
        let _ = poll(&mut fds, timeout);
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        if is_ready(&fds[0]) || self.events.is_closed() {
            return Err(Over);
        }
        if !fds.get(1).is_some_and(is_ready) {
            return Ok(false);
        }
        let Some(notices) = &mut self.notices else {
            return Ok(false);
        };
        match notices.read(&self.scope) {
            Ok(Found::Nothing) => Ok(false),
            Ok(Found::Something) => Ok(true),
            Ok(Found::Loss) => {
                let told = self.told_of_loss;
                if told.map_or(true, |told| told.elapsed() > NEWS) {
                    self.told_of_loss = Some(Instant::now());
                    self.trouble(format!(
                        "too many files change at once for the system to name them (fs.inotify.max_queued_events): all files of {} are looked at",
                        self.scope.root().display()
                    ))?;
                }
                Ok(true)
            }
            Err(error) => {
                self.look_instead(&error)?;
                Ok(true)
            }
        }
    }

    /// Tells what has changed since the last look, if anything has.
    fn tell(&mut self, since: Instant) -> Result<(), Over> {
        let now = self.look()?;
        if !self.is_there {
            // To reload would be to load nothing. Once it is back, it is compared with what was there.
            return Ok(());
        }
        let paths: Vec<PathBuf> = differences(&self.known, &now).cloned().collect();
        self.known = now;
        if paths.is_empty() {
            return Ok(());
        }
        self.send(Event::Changed { paths, since })
    }

    /// What is there now; what was there before if it is gone as a whole.
    fn look(&mut self) -> Result<BTreeMap<PathBuf, Stamp>, Over> {
        if let Some(notices) = &mut self.notices {
            notices.begin();
        }
        let mut failed = None;
        let notices = &mut self.notices;
        let mut enter = |path: &Path, what: look::What| {
            if let Some(Err(error)) = notices.as_mut().map(|notices| notices.enter(path, what)) {
                // What has gone meanwhile is none.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) && error.raw_os_error() != Some(nix::libc::ENOTDIR)
                {
                    failed.get_or_insert(error);
                }
            }
        };
        let seen = look(&self.scope, &mut enter);
        if let Some(error) = failed {
            self.look_instead(&error)?;
        } else if let Some(notices) = &mut self.notices {
            notices.finish();
        }
        let root = self.scope.root().display().to_string();
        match seen {
            Ok(seen) => {
                if seen.is_cut && !self.is_cut {
                    self.trouble(format!(
                        "{root} holds more than {} directories or {} files of code: the others are not watched",
                        look::MOST_DIRECTORIES,
                        look::MOST_FILES
                    ))?;
                }
                self.is_cut = seen.is_cut;
                self.is_there = true;
                Ok(seen.files)
            }
            Err(error) => {
                if self.is_there {
                    self.is_there = false;
                    self.trouble(format!(
                        "{root} cannot be watched, and is tried again: {}",
                        SystemError(&error)
                    ))?;
                }
                Ok(self.known.clone())
            }
        }
    }

    /// From now on the system is not asked to tell.
    fn look_instead(&mut self, error: &io::Error) -> Result<(), Over> {
        self.notices = None;
        let hint = match error.raw_os_error() {
            Some(nix::libc::ENOSPC) => " (the limit is fs.inotify.max_user_watches)",
            Some(nix::libc::EMFILE) => {
                " (the limits are fs.inotify.max_user_instances, and of open files)"
            }
            _ => "",
        };
        self.trouble(format!(
            "the system does not tell of changes in {}: {}{hint}. Its files are looked at every {} s instead",
            self.scope.root().display(),
            SystemError(error),
            EVERY.as_secs()
        ))
    }

    fn trouble(&self, text: String) -> Result<(), Over> {
        self.send(Event::Trouble(text))
    }

    fn send(&self, event: Event) -> Result<(), Over> {
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Over),
            _ => Ok(()),
        }
    }
}

/// The paths that are not in both, or not the same.
fn differences<'a>(
    before: &'a BTreeMap<PathBuf, Stamp>,
    now: &'a BTreeMap<PathBuf, Stamp>,
) -> impl Iterator<Item = &'a PathBuf> {
    let changed = now
        .iter()
        .filter(|(path, stamp)| before.get(*path) != Some(stamp))
        .map(|(path, _)| path);
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    changed.chain(gone)
}

#[cfg(test)]
mod tests;

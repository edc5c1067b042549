//! Linux's word that something has changed.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::look::What;
use super::patterns::{is_code, is_skipped, is_switch};
use super::Scope;

/// A file is complete when it is closed or renamed; one that is linked is there at once.
const DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// When its last name goes, a file's count of names changes first.
const LINKED: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nothing that matters.
    Nothing,
    Something,
    /// More than the system has kept.
    Loss,
}

/// What the system is asked to tell of.
pub struct Notices {
    inotify: OwnedFd,
    parent: Option<i32>,
    watched: HashSet<i32>,
    /// Those of the look that is under way.
    entered: HashSet<i32>,
    /// How many there may be, in tests.
    #[cfg(test)]
    pub most: usize,
}

impl Notices {
    /// # Errors
    /// There are too many of these, or too many open files.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            parent: None,
            watched: HashSet::new(),
            entered: HashSet::new(),
            #[cfg(test)]
            most: usize::MAX,
        })
    }

    /// A look begins: what is not entered until its end is not watched any more.
    pub fn begin(&mut self) {
        self.entered.clear();
    }

    /// # Errors
    /// There are too many watches, or nothing is there.
    pub fn enter(&mut self, path: &Path, what: What) -> io::Result<()> {
        #[cfg(test)]
        if self.entered.len() >= self.most {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        let flags = match what {
            What::Parent | What::Directory => DIRECTORY,
            What::Linked => LINKED,
        };
        let watch = inotify::add_watch(&self.inotify, path, flags)?;
        if what == What::Parent {
            self.parent = Some(watch);
        }
        self.entered.insert(watch);
        Ok(())
    }

    pub fn finish(&mut self) {
        for gone in self.watched.difference(&self.entered) {
            // One whose directory is gone is gone, too.
            let _ = inotify::remove_watch(&self.inotify, *gone);
        }
        self.watched = std::mem::take(&mut self.entered);
    }

    /// Reads all there is.
    ///
    /// # Errors
    /// The system fails.
    pub fn read(&mut self, scope: &Scope) -> io::Result<Found> {
        let mut space = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut space);
        let mut found = Found::Nothing;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(found),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                found = Found::Loss;
            } else if flags.contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
            } else {
                let name = event.file_name().map(|name| name.to_str().unwrap_or(""));
                let is_parent = self.parent == Some(event.wd());
                if matters(scope, is_parent, name, flags.contains(ReadFlags::ISDIR)) {
                    found = found.max(Found::Something);
                }
            }
        }
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Whether there is a reason to look. `name` is none if it is of what is watched itself.
fn matters(scope: &Scope, is_parent: bool, name: Option<&str>, is_directory: bool) -> bool {
    let Some(name) = name else {
        return true;
    };
    if is_parent {
        let root = scope.root().file_name();
        return is_switch(name) || root.is_some_and(|root| root == name);
    }
    match scope {
        Scope::File(_) => false,
        Scope::App { .. } if is_directory => !is_skipped(name),
        // A link may lead to a directory.
        Scope::App { .. } => is_code(name) || is_switch(name) || !name.contains('.'),
    }
}

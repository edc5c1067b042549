//! Where calls are kept: for each a record, its input until it has ended, its result from then on. All of it for this user alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::call::{Call, State};
use super::CallId;
use crate::body::Buffered;
use crate::environment::SystemError;
use crate::functions::{Broken, Records};

/// How much of an input is copied at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// What is behind an id in the names of files.
const INPUT: &str = ".input";
const RESULT: &str = ".result";

/// A folder with calls. Its methods block.
pub struct Store {
    folder: PathBuf,
    records: Records,
}

impl Store {
    /// Opens the folder, and makes it if it is not there; what is in it. Files that belong to no call are removed.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(folder: PathBuf) -> io::Result<(Self, Vec<Call>, Vec<Broken>)> {
        let records = Records::open(folder.clone(), "json")?;
        // Whoever opens files of it wants to know whose folder a path begins in.
        let folder = fs::canonicalize(folder)?;
        let (calls, broken) = records.read(|name, content| Call::parse(name, &content))?;
        let store = Self { folder, records };
        store.tidy(&calls)?;
        Ok((store, calls, broken))
    }

    fn tidy(&self, calls: &[Call]) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let is_kept = |of: &str, kept: fn(&Call) -> bool| {
                let id = name.strip_suffix(of).and_then(CallId::parse);
                id.is_some_and(|id| calls.iter().any(|call| call.id == id && kept(call)))
            };
            let is_file = name.ends_with(INPUT) || name.ends_with(RESULT);
            let has_result = |call: &Call| matches!(call.state, State::Done(_)) && !call.expired;
            if is_file
                && !is_kept(INPUT, |call| !call.state.has_ended())
                && !is_kept(RESULT, has_result)
            {
                fs::remove_file(self.folder.join(&*name))?;
            }
        }
        Ok(())
    }

    /// Where the input of a call is, unless it is empty.
    pub fn input(&self, id: CallId) -> PathBuf {
        self.folder.join(format!("{id}{INPUT}"))
    }

    /// Where its result is, or is to be.
    pub fn result(&self, id: CallId) -> PathBuf {
        self.folder.join(format!("{id}{RESULT}"))
    }

    /// Has an input. When this returns, it stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_input(&self, id: CallId, body: &Buffered) -> io::Result<()> {
        if body.is_empty() {
            return Ok(());
        }
        let mut file = new_file(&self.input(id))?;
        let (mut at, mut chunk) = (0, vec![0; CHUNK]);
        while at < body.len() {
            let count = body.copy_to(at, &mut chunk)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&chunk[..count])?;
            at += count as u64;
        }
        file.sync_all()
    }

    /// Has this record from now on. When this returns, it stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, call: &Call) -> io::Result<()> {
        let content = call.to_json().to_string();
        self.records.write(&call.id.to_string(), content.as_bytes())
    }

    pub fn remove_input(&self, id: CallId) {
        remove(&self.input(id));
    }

    pub fn remove_result(&self, id: CallId) {
        remove(&self.result(id));
    }

    /// Has nothing of a call any more.
    pub fn forget(&self, id: CallId) {
        // The record first: without one, the others go at the next start.
        if let Err(error) = self.records.remove(&id.to_string()) {
            told(&error);
        }
        self.remove_input(id);
        self.remove_result(id);
    }
}

/// A file for this user alone, in place of one that was there.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => told(&error),
        _ => {}
    }
}

fn told(error: &io::Error) {
    tracing::error!(
        "what is left of a call cannot be removed: {}",
        SystemError(error)
    );
}

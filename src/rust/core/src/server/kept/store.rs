//! The folder of an agent: what is deployed, archives that were uploaded, the folders that functions run in, secrets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::body::Buffered;
use crate::environment::SystemError;
use crate::functions::{unpack, BadBundle, Records, UnpackLimits};
use crate::sources::Failure;

/// How long an archive that nothing mentions is kept: between its upload and its deployment.
const UNUSED: Duration = Duration::from_secs(3600);

/// How much of an archive is copied at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// The folder of an agent. One process at a time has it.
pub struct Store {
    root: PathBuf,
    _lock: Flock<File>,
}

/// Why an upload is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadFailed {
    #[error("the archive cannot be used: {0}")]
    Bad(#[from] BadBundle),
    #[error("the archive cannot be kept: {0}")]
    System(#[from] io::Error),
}

impl Store {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// Class `option`: it cannot be made or written, or another process has it.
    pub fn open(root: PathBuf) -> Result<Self, Failure> {
        let shown = root.display().to_string();
        let failed = |error: &io::Error| {
            let why = SystemError(error);
            Failure::new(
                "option",
                format!("`state_dir` cannot be used: {shown}: {why}"),
            )
        };
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&root);
        made.map_err(|error| failed(&error))?;
        let mut options = OpenOptions::new();
        let lock = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join("lock"));
        let lock = lock.map_err(|error| failed(&error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let why = "another agent or proxy uses it";
            match errno {
                nix::errno::Errno::EAGAIN => {
                    Failure::new("option", format!("`state_dir`: {shown}: {why}."))
                }
                errno => failed(&errno.into()),
            }
        })?;
        for folder in ["bundles", "folders"] {
            match DirBuilder::new().mode(0o700).create(root.join(folder)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(&error));
                }
                _ => {}
            }
        }
        Ok(Self { root, _lock: lock })
    }

    /// Lets a user go through to the folders that are given to it, and nowhere else.
    ///
    /// # Errors
    /// Class `option`: there is no such user, or it cannot come as far as here.
    pub fn let_through(&self, user: &str) -> Result<(), Failure> {
        let shown = self.root.display();
        let failed = |why: String| Failure::new("option", format!("`run_as`: {why}"));
        let found = nix::unistd::User::from_name(user).ok().flatten();
        let found = found.ok_or_else(|| failed(format!("there is no user {user}.")))?;
        let folders = self.root.join("folders");
        for folder in [&self.root, &folders] {
            let opened = fs::set_permissions(folder, fs::Permissions::from_mode(0o711));
            opened.map_err(|error| failed(format!("{shown}: {}.", SystemError(&error))))?;
        }
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let is_closed = |folder: &&Path| {
            fs::metadata(folder).is_ok_and(|data| {
                let its = match () {
                    () if data.uid() == found.uid.as_raw() => 0o100,
                    () if data.gid() == found.gid.as_raw() => 0o010,
                    () => 0o001,
                };
                data.mode() & its == 0
            })
        };
        match root.ancestors().find(is_closed) {
            None => Ok(()),
            Some(closed) => Err(failed(format!(
                "user {user} cannot come to {shown}, as {} is closed to it: choose another `state_dir`.",
                closed.display()
            ))),
        }
    }

    pub fn audit(&self) -> PathBuf {
        self.root.join("audit.log")
    }

    /// # Errors
    /// The folder cannot be made or read.
    pub fn records(&self) -> io::Result<Records> {
        Records::open(self.root.join("functions"), "json")
    }

    pub fn secrets(&self) -> (PathBuf, PathBuf) {
        (self.root.join("secrets"), self.root.join("secrets.key"))
    }

    /// Where calls are kept that nobody waits for.
    pub fn calls(&self) -> PathBuf {
        self.root.join("calls")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an archive is, if it was uploaded.
    pub fn bundle(&self, digest: &str) -> PathBuf {
        self.root.join("bundles").join(format!("{digest}.tar.gz"))
    }

    /// Whether that archive was uploaded.
    pub fn has_bundle(&self, digest: &str) -> bool {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest && self.bundle(digest).is_file()
    }

    /// Keeps an archive, if it can be unpacked; the SHA-256 of its bytes. Blocks.
    ///
    /// # Errors
    /// It is none, holds what it must not, or cannot be kept.
    pub fn keep_bundle(&self, body: &Buffered) -> Result<String, UploadFailed> {
        let folder = self.root.join("bundles");
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        let mut digest = Sha256::new();
        let (mut at, mut chunk) = (0, vec![0; CHUNK]);
        loop {
            let count = body.copy_to(at, &mut chunk)?;
            if count == 0 {
                break;
            }
            digest.update(&chunk[..count]);
            file.write_all(&chunk[..count])?;
            at += count as u64;
        }
        let digest: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let tried = tempfile::Builder::new()
            .prefix(".try-")
            .tempdir_in(&folder)?;
        unpack(file.reopen()?, tried.path(), UnpackLimits::default())?;
        file.as_file().sync_all()?;
        file.persist(self.bundle(&digest))
            .map_err(|error| error.error)?;
        File::open(&folder)?.sync_all()?;
        Ok(digest)
    }

    /// Unpacks an archive for a version of a function; the folder. Blocks.
    ///
    /// # Errors
    /// It was not uploaded, or cannot be unpacked.
    pub fn unpack(&self, digest: &str, name: &str, number: u64) -> Result<PathBuf, UploadFailed> {
        let folder = self.folder(name, number);
        if folder.is_dir() {
            // It was unpacked before the agent ended: a name without its mark is a whole one.
            return Ok(folder);
        }
        let archive = File::open(self.bundle(digest))?;
        let parent = self.root.join("folders");
        let fresh = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(parent)?;
        unpack(archive, fresh.path(), UnpackLimits::default())?;
        fs::rename(fresh.path(), &folder)?;
        // What it was called is there no more.
        let _ = fresh.keep();
        Ok(folder)
    }

    /// Where a version of a function has its files.
    pub fn folder(&self, name: &str, number: u64) -> PathBuf {
        self.root.join("folders").join(format!("{name}@{number}"))
    }

    /// Removes a version's folder, if there is one. Blocks.
    pub fn remove_folder(&self, name: &str, number: u64) {
        let folder = self.folder(name, number);
        if let Err(error) = fs::remove_dir_all(&folder) {
            if error.kind() != io::ErrorKind::NotFound {
                let why = SystemError(&error);
                tracing::warn!("{} cannot be removed: {why}", folder.display());
            }
        }
    }

    /// Removes the folders of versions that are none of these, and what was not finished. Blocks; nobody may be at work.
    pub fn tidy_folders(&self, is_kept: impl Fn(&str) -> bool) {
        for folder in ["folders", "bundles"] {
            let entries = fs::read_dir(self.root.join(folder));
            for entry in entries.into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') || (folder == "folders" && !is_kept(&name)) {
                    let path = entry.path();
                    let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                }
            }
        }
    }

    /// Removes archives that nothing mentions any more and that have been there for a while. Blocks.
    pub fn tidy_bundles(&self, is_used: impl Fn(&str) -> bool) {
        let entries = fs::read_dir(self.root.join("bundles"));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Some(digest) = name.strip_suffix(".tar.gz") else {
                continue;
            };
            let written = entry.metadata().and_then(|data| data.modified());
            let is_old = written.is_ok_and(|time| {
                SystemTime::now().duration_since(time).unwrap_or_default() > UNUSED
            });
            if is_old && !is_used(digest) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

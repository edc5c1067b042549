//! A server's private folders among the system's temporary files: gone with the server, or else with the next one.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::confinement::Identity;
use super::leftovers;

/// What the folders' names begin with; as many random characters follow.
const PREFIX: &str = "faucet.";
const RANDOM: usize = 6;

/// A file in each, without which no folder is taken for one of these, whatever its name.
const MARK: &str = "server";

/// Everything of a folder's path after that of its parent, for those who must know how long it gets.
pub const NAME: &str = "/faucet.123456";

/// A folder that no other user enters. It is locked for as long as its owner lives, however that ends; the lock also tells
/// systemd-tmpfiles to let it be.
pub struct Folder {
    dir: TempDir,
    parent: PathBuf,
    /// None where the file system has no locks.
    lock: Option<Flock<File>>,
}

impl Folder {
    /// # Errors
    /// It cannot be made.
    pub fn make(parent: &Path) -> io::Result<Self> {
        loop {
            let dir = tempfile::Builder::new()
                .prefix(PREFIX)
                .rand_bytes(RANDOM)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)?;
            let lock = match lock(dir.path()) {
                Ok(lock) => Some(lock),
                // Another server has taken it for one that was left behind.
                Err(Unlocked::Taken) => continue,
                Err(Unlocked::Impossible) => None,
            };
            mark(dir.path())?;
            return Ok(Self {
                dir,
                parent: parent.to_owned(),
                lock,
            });
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What is there when its owner was killed.
    #[cfg(test)]
    pub fn left_behind(self) -> PathBuf {
        drop(self.lock);
        self.dir.keep()
    }

    /// A private folder in this one; `owner`'s, if it is another user's. That user then may go through this one, but not look
    /// into it, and nobody but that user and this one gets into the folder in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn inner(&mut self, name: &str, owner: Option<&Identity>) -> io::Result<PathBuf> {
        self.ensure()?;
        let path = self.path().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        if let Some(owner) = owner {
            fs::set_permissions(self.path(), Permissions::from_mode(0o711))?;
            // Nobody else can have put anything in its place: this folder is ours.
            nix::unistd::chown(&path, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(path)
    }

    /// Makes another one if this one was removed, as by a worker or by whoever tidies up there. Not in the same place, which
    /// another user may have taken meanwhile. One that has lost only its mark, an old file, is still in use, and stays.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn ensure(&mut self) -> io::Result<()> {
        if is_marked(self.path()) {
            return Ok(());
        }
        let locked = self.lock.as_ref().and_then(|lock| place(lock.metadata()));
        if locked.is_some() && locked == place(fs::symlink_metadata(self.path())) {
            return mark(self.path());
        }
        let gone = std::mem::replace(self, Self::make(&self.parent)?);
        // What has its name now is not ours.
        let _ = gone.dir.keep();
        Ok(())
    }
}

/// Says whose the folder is: nobody removes it without this.
fn mark(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(MARK), std::process::id().to_string())
}

/// The system's own name of a file.
type Place = (u64, u64);

fn place(metadata: io::Result<fs::Metadata>) -> Option<Place> {
    let metadata = metadata.ok()?;
    Some((metadata.dev(), metadata.ino()))
}

enum Unlocked {
    Taken,
    Impossible,
}

fn lock(folder: &Path) -> Result<Flock<File>, Unlocked> {
    let file = File::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unlocked::Taken,
        _ => Unlocked::Impossible,
    })?;
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    let lock = locked.map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => Unlocked::Taken,
        _ => Unlocked::Impossible,
    })?;
    // It may have been removed in between.
    let named = place(fs::symlink_metadata(folder));
    if named.is_some() && named == place(lock.metadata()) {
        Ok(lock)
    } else {
        Err(Unlocked::Taken)
    }
}

/// Whether this is such a folder, of this user.
fn is_marked(folder: &Path) -> bool {
    let is_own = |metadata: &fs::Metadata| metadata.uid() == rustix::process::geteuid().as_raw();
    let named = folder.file_name().and_then(|name| name.to_str());
    let named = named.and_then(|name| name.strip_prefix(PREFIX));
    named.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) && fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir() && is_own(&metadata))
        && fs::symlink_metadata(folder.join(MARK))
            .is_ok_and(|metadata| metadata.is_file() && is_own(&metadata))
}

/// Removes the folders in `parent` that servers have left which were killed, and ends what they have run for requests.
pub fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for folder in entries.flatten().map(|entry| entry.path()) {
        if is_marked(&folder) {
            // Held until all is removed.
            if let Ok(_lock) = lock(&folder) {
                leftovers::end(&folder);
                // What cannot be removed stays.
                let _ = fs::remove_dir_all(&folder);
            }
        }
    }
}

/// Shows for as long as it lives that a folder of one process is in use.
#[derive(Debug)]
pub struct Hold {
    _lock: Flock<File>,
}

impl Hold {
    /// None where the file system has no locks, and for a folder that is no server's.
    pub fn of(held: &Path) -> Option<Self> {
        held.parent().filter(|folder| is_marked(folder))?;
        lock(held).ok().map(|lock| Self { _lock: lock })
    }
}

/// Removes what a folder of a server that is gone holds for one process, what processes left there that are gone too, and
/// the folder if nothing else is in it.
pub fn leave(held: &Path) {
    let Some(folder) = held.parent().filter(|folder| is_marked(folder)) else {
        return;
    };
    // Nobody will find what runs for it once the folder is gone.
    if let Ok(_lock) = lock(folder) {
        leftovers::end(folder);
    }
    // What was never made is as good as gone.
    remove(held);
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut empty = true;
    for entry in entries.flatten().filter(|entry| entry.file_name() != MARK) {
        let path = entry.path();
        if is_left(&path) {
            remove(&path);
        } else {
            empty = false;
        }
    }
    if empty {
        let _ = fs::remove_file(folder.join(MARK));
        let _ = fs::remove_dir(folder);
    }
}

fn remove(path: &Path) {
    let _ = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
}

/// Whether the process is gone that used it: nobody holds a folder, nobody listens at a socket.
fn is_left(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => lock(path).is_ok(),
        Ok(metadata) if metadata.file_type().is_socket() => UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused),
        Ok(_) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn parent() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    /// One whose owner was killed.
    fn left_behind(parent: &Path) -> PathBuf {
        Folder::make(parent).expect("a folder").left_behind()
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        let parent = parent();
        let folder = Folder::make(parent.path()).expect("a folder");
        let path = folder.path().to_owned();
        let mode = path.metadata().expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(
            path.as_os_str().len(),
            parent.path().as_os_str().len() + NAME.len()
        );
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_left_behind_is_removed_and_nothing_else_is() {
        let parent = parent();
        let used = Folder::make(parent.path()).expect("a folder");
        let left = left_behind(parent.path());
        fs::create_dir_all(left.join("7/RtmpAbCdEf")).expect("made");
        let elsewhere = parent.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("made");
        fs::write(elsewhere.join("kept"), "").expect("written");
        std::os::unix::fs::symlink(&elsewhere, left.join("link")).expect("linked");
        // Of others: by name, but without the mark; with a mark, but by another name; a link.
        let others =
            ["faucet.config", "faucet-123456", "other"].map(|name| parent.path().join(name));
        for other in &others {
            fs::create_dir(other).expect("made");
        }
        fs::write(others[2].join(MARK), "").expect("written");
        let link = parent.path().join("faucet.123456");
        std::os::unix::fs::symlink(&others[2], &link).expect("linked");

        sweep(parent.path());
        assert!(!left.exists());
        assert!(used.path().exists() && elsewhere.join("kept").exists());
        assert!(others.iter().all(|other| other.exists()) && link.exists());
    }

    #[test]
    fn one_that_was_removed_is_made_anew_elsewhere() {
        let parent = parent();
        let mut folder = Folder::make(parent.path()).expect("a folder");
        let before = folder.path().to_owned();
        folder.ensure().expect("it is there");
        assert_eq!(folder.path(), before);
        fs::remove_dir_all(&before).expect("removed");
        folder.ensure().expect("another one");
        assert!(folder.path() != before && folder.path().exists());
    }

    /// Whoever tidies up takes old files, not what is in use beside them.
    #[test]
    fn one_that_has_lost_its_mark_stays_with_all_that_is_in_it() {
        let parent = parent();
        let mut folder = Folder::make(parent.path()).expect("a folder");
        let before = folder.path().to_owned();
        fs::create_dir(before.join("1")).expect("made");
        fs::remove_file(before.join(MARK)).expect("removed");
        folder.ensure().expect("it is there");
        assert_eq!(folder.path(), before);
        assert!(before.join("1").exists() && is_marked(&before));
        // One of another user in its place is none of ours.
        fs::rename(&before, parent.path().join("moved")).expect("moved");
        fs::create_dir(&before).expect("made");
        fs::write(before.join("kept"), "").expect("written");
        folder.ensure().expect("another one");
        assert!(folder.path() != before && before.join("kept").exists());
    }

    #[test]
    fn the_last_one_to_leave_takes_the_folder_along() {
        let parent = parent();
        let folder = left_behind(parent.path());
        let paths = ["1", "2", "3"].map(|name| folder.join(name));
        let [one, other, dead] = &paths;
        for path in &paths {
            fs::create_dir_all(path.join("RtmpAbCdEf")).expect("made");
        }
        let hold = Hold::of(other).expect("a lock");
        leave(one);
        assert!(!one.exists() && other.exists() && !dead.exists());
        drop(hold);
        leave(other);
        assert!(!folder.exists());
        // The same of sockets.
        let folder = left_behind(parent.path());
        let [live, dead] = ["1", "2"].map(|name| folder.join(name));
        let listener = UnixListener::bind(&live).expect("a socket");
        drop(UnixListener::bind(&dead).expect("a socket"));
        leave(&folder.join("3"));
        assert!(live.exists() && !dead.exists());
        drop(listener);
        leave(&live);
        assert!(!folder.exists());
        // What is in no such folder stays.
        let kept = parent.path().join("kept");
        fs::create_dir(&kept).expect("made");
        leave(&kept);
        assert!(kept.exists());
    }
}

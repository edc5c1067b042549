//! Secrets as the workers of one function read them: a folder with a file each, for its user alone, on a file system in memory
//! where there is one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use sha2::{Digest, Sha256};

use crate::functions::{Name, Secret};

/// Where Linux has a file system in memory that everybody may use.
const IN_MEMORY: &str = "/dev/shm";

/// The folders of all functions.
pub struct Exposed(PathBuf);

impl Exposed {
    /// Makes the folder for them, empty: what an agent that was killed has left is removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(state_dir: &Path) -> io::Result<Self> {
        let own = fs::canonicalize(state_dir)?;
        let digest = Sha256::digest(own.as_os_str().as_encoded_bytes());
        let mark: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let in_memory = Path::new(IN_MEMORY).join(format!("faucet-{mark}"));
        if Path::new(IN_MEMORY).is_dir() && Self::make_at(&in_memory).is_ok() {
            return Ok(Self(in_memory));
        }
        let on_disk = own.join("exposed");
        Self::make_at(&on_disk)?;
        Ok(Self(on_disk))
    }

    fn make_at(path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            // In a folder where everybody may make things, one of that name may be somebody else's.
            Ok(found) if !found.is_dir() || found.uid() != Uid::effective().as_raw() => {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Ok(_) => fs::remove_dir_all(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Others may go through it, to what is theirs.
        DirBuilder::new().mode(0o711).create(path)
    }

    /// Where a version of a function finds its secrets.
    pub fn folder(&self, name: &Name, number: u64) -> PathBuf {
        self.0.join(format!("{name}@{number}"))
    }

    /// Writes the secrets of a version of a function, in place of those before; for `owner` if it is given. Blocks.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(
        &self,
        name: &Name,
        number: u64,
        secrets: &[(Name, Secret)],
        owner: Option<&str>,
    ) -> io::Result<PathBuf> {
        let folder = self.folder(name, number);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for (secret, value) in secrets {
            // Whole, for workers that read it meanwhile.
            let unfinished = folder.join(format!(".{secret}"));
            let _ = fs::remove_file(&unfinished);
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o400)
                .open(&unfinished)?;
            file.write_all(value.reveal())?;
            give(&unfinished, owner)?;
            fs::rename(&unfinished, folder.join(secret.as_str()))?;
        }
        give(&folder, owner)?;
        Ok(folder)
    }

    /// Removes those of a version. Blocks.
    pub fn remove(&self, name: &Name, number: u64) {
        // What is not there needs no removal.
        let _ = fs::remove_dir_all(self.folder(name, number));
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Gives a file or a folder to a user. To nobody if there is no `owner`.
///
/// # Errors
/// There is no such user, or the system refuses.
pub fn give(path: &Path, owner: Option<&str>) -> io::Result<()> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let user = nix::unistd::User::from_name(owner)?
        .ok_or_else(|| io::Error::other(format!("there is no user `{owner}`")))?;
    nix::unistd::chown(path, Some(user.uid), Some(user.gid))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_exposed_is_for_one_function_and_goes() {
        let state = tempfile::tempdir().expect("a folder");
        let mut secrets =
            crate::functions::Secrets::open(state.path().join("s"), &state.path().join("key"))
                .expect("no secrets yet")
                .0;
        let name = Name::parse("db").expect("a name");
        let mut value = |text: &str| {
            secrets.set(name.clone(), text.into()).expect("written");
            vec![(name.clone(), secrets.get(&name).expect("there").clone())]
        };
        let exposed = Exposed::make(state.path()).expect("a folder");
        let function = Name::parse("f").expect("a name");
        for text in ["first", "second"] {
            let folder = exposed.write(&function, 1, &value(text), None);
            let file = folder.expect("written").join("db");
            assert_eq!(fs::read_to_string(&file).expect("there"), text);
            let mode = fs::metadata(&file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o400);
        }
        let root = exposed.0.clone();
        // As after a kill.
        std::mem::forget(exposed);
        let exposed = Exposed::make(state.path()).expect("a folder");
        assert_eq!(exposed.0, root);
        assert!(!exposed.folder(&function, 1).exists());
        drop(exposed);
        assert!(!root.exists());
    }
}

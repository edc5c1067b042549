//! Secrets as the workers of one function read them: a folder with a file each, for its user alone, on a file system in memory
//! where there is one.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::functions::{Name, Secret};
use crate::sources::local::{sweep, Folder};

/// Where Linux has a file system in memory that everybody may use.
const IN_MEMORY: &str = "/dev/shm";

/// The folders of all functions, in one that is gone with the agent, or else when the next agent of this user starts.
pub struct Exposed(Folder);

impl Exposed {
    /// Makes the folder for them, empty: what agents that were killed have left is removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(state_dir: &Path) -> io::Result<Self> {
        let in_memory = Path::new(IN_MEMORY);
        if in_memory.is_dir() {
            if let Ok(exposed) = Self::make_in(in_memory) {
                return Ok(exposed);
            }
        }
        let on_disk = fs::canonicalize(state_dir)?.join("exposed");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o711).create(&on_disk)?;
        Self::make_in(&on_disk)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let folder = Folder::make(parent)?;
        // Others may go through it, to what is theirs.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        Ok(Self(folder))
    }

    /// Removes all, before this is dropped: whoever has started the agent may keep it, and end without a word. Blocks.
    pub fn end(&self) {
        let _ = fs::remove_dir_all(self.0.path());
    }

    /// Where a version of a function finds its secrets.
    pub fn folder(&self, name: &Name, number: u64) -> PathBuf {
        self.0.path().join(format!("{name}@{number}"))
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
        let make = || Exposed::make_in(state.path()).expect("a folder");
        let exposed = make();
        let function = Name::parse("f").expect("a name");
        for text in ["first", "second"] {
            let folder = exposed.write(&function, 1, &value(text), None);
            let file = folder.expect("written").join("db");
            assert_eq!(fs::read_to_string(&file).expect("there"), text);
            let mode = fs::metadata(&file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o400);
        }
        let others = make();
        let left = exposed.0.left_behind();
        assert!(left.exists());
        let exposed = make();
        assert!(!left.exists() && others.0.path().exists());
        let root = exposed.0.path().to_owned();
        let mode = fs::metadata(&root).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o711);
        others.end();
        assert!(!others.0.path().exists());
        drop(exposed);
        assert!(!root.exists());
    }
}

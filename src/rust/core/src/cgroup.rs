//! The cgroups that this process is in, of both versions, and what their files say.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup with a controller. Groups without limits have the files of limits, too, or some of them: what is not there is
/// not limited.
pub struct Group {
    /// Where groups are mounted: for version 1 there is a folder for each controller.
    mounted: PathBuf,
    /// Its path there.
    path: PathBuf,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Group {
    /// The text of one of its files. Version 2 has no folders for controllers.
    pub fn text(&self, controller: &str, file: &str) -> Option<String> {
        let folder = match self.version {
            Version::One => self.mounted.join(controller).join(&self.path),
            Version::Two => self.mounted.join(&self.path),
        };
        fs::read_to_string(folder.join(file)).ok()
    }

    /// The number that is all of a file; `None` for `max` and for the like.
    pub fn number<N: std::str::FromStr>(&self, controller: &str, file: &str) -> Option<N> {
        self.text(controller, file)?.trim().parse().ok()
    }
}

/// All groups that limit what `controller` is about: those that this process is in, and those above them. `root` is `/`, but for
/// tests.
pub fn groups(root: &Path, controller: &str) -> Vec<Group> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounted = root.join("sys/fs/cgroup");
    let mut groups = Vec::new();
    for line in text.lines() {
        // `hierarchy:controllers:path`; version 2 has the hierarchy 0 and no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            // Where both versions are mounted, the second is in a folder of its own.
            for part in ["", "unified"] {
                climb(&mounted.join(part), path, Version::Two, &mut groups);
            }
        } else if controllers.split(',').any(|name| name == controller) {
            climb(&mounted, path, Version::One, &mut groups);
        }
    }
    groups
}

/// From `path` up to the root of what is mounted. In a container that root often is our own group, and `path` is that of
/// the host.
fn climb(mounted: &Path, path: &str, version: Version, groups: &mut Vec<Group>) {
    for path in Path::new(path.trim_start_matches('/')).ancestors() {
        groups.push(Group {
            mounted: mounted.to_owned(),
            path: path.to_owned(),
            version,
        });
    }
}

/// The number that follows a name in a file of such lines.
pub fn value_of<N: std::str::FromStr>(text: &str, field: &str) -> Option<N> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// A machine of a few files, for tests.
#[cfg(test)]
pub mod tests {
    use std::fs;
    use std::path::Path;

    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            write(root.path(), path, text);
        }
        root
    }

    pub fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
}

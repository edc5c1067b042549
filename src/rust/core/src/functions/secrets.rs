//! Secrets at rest: sealed with the key of a file, one record each.
//!
//! A record is `1 | nonce (12 bytes) | sealed`, sealed by ChaCha20-Poly1305 (RFC 8439) with the secret's name as additional data,
//! so that a record under another name is none. The nonce is drawn for each: two of 2^32 records would be the same with a
//! probability of 2^-33.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305, NONCE_LEN};

use super::{Broken, Name, Records};

/// Bytes of a secret.
const LONGEST: usize = 64 * 1024;

/// Bytes of the key.
const KEY: usize = 32;

/// The way in which records are sealed.
const VERSION: u8 = 1;

/// What nobody prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What went wrong with secrets.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    #[error("a secret has 1 to {LONGEST} bytes")]
    Length,
    #[error("the key file {} does not hold {KEY} bytes", .0.display())]
    Key(PathBuf),
    #[error(
        "the key file {} opens none of the secrets: it is another one than that which they were sealed with",
        .0.display()
    )]
    OtherKey(PathBuf),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// All secrets of a server, sealed on disk.
pub struct Secrets {
    records: Records,
    key: LessSafeKey,
    known: BTreeMap<Name, Secret>,
}

impl Secrets {
    /// Opens those in `folder`, and makes the key if there is neither a key nor a secret. Those that cannot be opened are set
    /// aside.
    ///
    /// # Errors
    /// The key is none, or another one; or the system refuses.
    pub fn open(folder: PathBuf, key_file: &Path) -> Result<(Self, Vec<Broken>), BadSecret> {
        let records = Records::open(folder, "secret")?;
        let key = read_key(key_file, &records)?;
        if !records.is_empty()? && !opens_any(&records, &key)? {
            return Err(BadSecret::OtherKey(key_file.into()));
        }
        let (opened, broken) = records.read(|name, sealed| {
            let name = Name::parse(name).map_err(|error| error.to_string())?;
            let secret = open(&key, &name, &sealed);
            let secret = secret.ok_or_else(|| "it was not sealed like this".to_owned())?;
            Ok((name, secret))
        })?;
        let secrets = Self {
            records,
            key,
            known: opened.into_iter().collect(),
        };
        Ok((secrets, broken))
    }

    pub fn get(&self, name: &Name) -> Option<&Secret> {
        self.known.get(name)
    }

    /// All that there are, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.known.keys()
    }

    /// Has this secret from now on; whether it differs from the one before.
    ///
    /// # Errors
    /// It is too long, or empty; or it cannot be written.
    pub fn set(&mut self, name: Name, value: Vec<u8>) -> Result<bool, BadSecret> {
        if !(1..=LONGEST).contains(&value.len()) {
            return Err(BadSecret::Length);
        }
        let secret = Secret(value);
        let sealed = seal(&self.key, &name, &secret)?;
        self.records.write(name.as_str(), &sealed)?;
        let before = self.known.insert(name, secret.clone());
        Ok(before.as_ref() != Some(&secret))
    }

    /// Has it no more; whether it was there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&mut self, name: &Name) -> io::Result<bool> {
        self.records.remove(name.as_str())?;
        Ok(self.known.remove(name).is_some())
    }
}

/// The key in a file, or a new one if nothing was sealed with one that is lost.
fn read_key(file: &Path, records: &Records) -> Result<LessSafeKey, BadSecret> {
    let bytes = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && records.is_empty()? => {
            let mut key = [0; KEY];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            super::records::write_whole(file, &key)?;
            key.to_vec()
        }
        bytes => bytes?,
    };
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes);
    let key = key.map_err(|_| BadSecret::Key(file.into()))?;
    Ok(LessSafeKey::new(key))
}

fn opens_any(records: &Records, key: &LessSafeKey) -> io::Result<bool> {
    records.any(|name, sealed| {
        let name = Name::parse(name);
        name.is_ok_and(|name| open(key, &name, &sealed).is_some())
    })
}

fn seal(key: &LessSafeKey, name: &Name, secret: &Secret) -> io::Result<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let mut sealed = secret.0.clone();
    let nonce_used = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce_used, Aad::from(name.as_str()), &mut sealed)
        .map_err(|_| io::Error::other("it cannot be sealed"))?;
    Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
}

fn open(key: &LessSafeKey, name: &Name, record: &[u8]) -> Option<Secret> {
    let rest = record.strip_prefix(&[VERSION])?;
    let nonce: [u8; NONCE_LEN] = rest.get(..NONCE_LEN)?.try_into().ok()?;
    let mut sealed = rest[NONCE_LEN..].to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place(nonce, Aad::from(name.as_str()), &mut sealed);
    opened.ok().map(|opened| Secret(opened.to_vec()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn open(&self) -> Result<(Secrets, Vec<Broken>), BadSecret> {
            Secrets::open(self.path("secrets"), &self.path("key"))
        }

        fn all(&self) -> Secrets {
            let (secrets, broken) = self.open().expect("secrets");
            assert_eq!(broken, []);
            secrets
        }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect(text)
    }

    #[test]
    fn they_stay_and_nobody_reads_them_on_disk() {
        let place = Place::new();
        let mut secrets = place.all();
        assert!(secrets
            .set(name("db"), b"correct horse".to_vec())
            .expect("set"));
        assert!(!secrets
            .set(name("db"), b"correct horse".to_vec())
            .expect("set"));
        assert!(secrets.set(name("api"), vec![0xff; LONGEST]).expect("set"));
        let on_disk = fs::read(place.path("secrets/db.secret")).expect("a record");
        assert!(!on_disk.windows(5).any(|part| part == b"horse"));
        assert!(!format!("{:?}", secrets.get(&name("db"))).contains("horse"));
        let mut secrets = place.all();
        let names: Vec<_> = secrets.names().map(Name::to_string).collect();
        assert_eq!(names, ["api", "db"]);
        assert_eq!(
            secrets.get(&name("db")).map(Secret::reveal),
            Some(&b"correct horse"[..])
        );
        assert!(secrets.remove(&name("db")).expect("removed"));
        assert!(!secrets.remove(&name("db")).expect("removed"));
        assert!(place.all().get(&name("db")).is_none());
    }

    #[test]
    fn each_has_its_bounds() {
        let mut secrets = Place::new().all();
        for length in [0, LONGEST + 1] {
            let refused = secrets.set(name("a"), vec![1; length]);
            assert!(matches!(refused, Err(BadSecret::Length)));
        }
        assert_eq!(secrets.names().count(), 0);
    }

    /// Every bit counts, and so does the name.
    #[test]
    fn what_was_changed_is_set_aside() {
        let place = Place::new();
        let mut secrets = place.all();
        for text in ["kept", "moved", "changed", "cut"] {
            secrets.set(name(text), b"value".to_vec()).expect("set");
        }
        let path = |text: &str| place.path(&format!("secrets/{text}.secret"));
        fs::rename(path("moved"), path("elsewhere")).expect("moved");
        let mut record = fs::read(path("changed")).expect("a record");
        record[20] ^= 1;
        fs::write(path("changed"), record).expect("written");
        fs::write(path("cut"), [VERSION, 2, 3]).expect("written");
        let (secrets, broken) = place.open().expect("secrets");
        let broken: Vec<_> = broken.iter().map(|broken| &*broken.name).collect();
        assert_eq!(broken, ["changed", "cut", "elsewhere"]);
        assert_eq!(secrets.names().collect::<Vec<_>>(), [&name("kept")]);
    }

    #[test]
    fn with_another_key_nothing_is_touched() {
        let place = Place::new();
        place.all().set(name("db"), b"value".to_vec()).expect("set");
        let key = fs::read(place.path("key")).expect("the key");
        fs::write(place.path("key"), [7; KEY]).expect("written");
        assert!(matches!(place.open(), Err(BadSecret::OtherKey(_))));
        fs::write(place.path("key"), [7; 3]).expect("written");
        assert!(matches!(place.open(), Err(BadSecret::Key(_))));
        // A new one would be of no use.
        fs::remove_file(place.path("key")).expect("removed");
        assert!(matches!(place.open(), Err(BadSecret::System(_))));
        assert!(!place.path("key").exists());
        fs::write(place.path("key"), key).expect("written");
        assert!(place.all().get(&name("db")).is_some());
    }
}

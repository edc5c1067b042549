//! The side of the front: one process's file, read as something that a stranger has written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{series, Head, Series, HEAD};

/// What a file held at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub series: Vec<Series>,
    /// Updates that the process had no room for.
    pub dropped: u64,
}

/// The file, which may come to be at any time.
pub(super) struct Source {
    path: PathBuf,
    state: Mutex<State>,
}

/// `NotYet -> Open`, kept so that nobody can put another in its place or remove it; `NotYet -> Refused` for what is no file.
enum State {
    NotYet,
    Open(Arc<File>),
    Refused,
}

impl Source {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::new(State::NotYet),
        }
    }

    /// Opens the file, if it is there and that was not done before.
    pub(super) fn open(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::NotYet) {
            *state = match open_regular(&self.path) {
                Ok(Some(file)) => State::Open(Arc::new(file)),
                Err(Errno::NOENT) => State::NotYet,
                // Such as too many open files. It may go better next time.
                Err(error) if error != Errno::LOOP => {
                    let error = io::Error::from(error);
                    let why = crate::environment::SystemError(&error);
                    tracing::warn!("the metrics of a process cannot be read: {why}");
                    State::NotYet
                }
                Ok(None) | Err(_) => {
                    tracing::warn!("the metrics of a process are not read: it has put no ordinary file in their place");
                    State::Refused
                }
            };
        }
    }

    /// What it holds; `None` if there is none. Never waits.
    pub(super) fn read(&self) -> Option<Contents> {
        self.open();
        let file = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open(file) => file.clone(),
            State::NotYet | State::Refused => return None,
        };
        Some(contents(&file).unwrap_or_default())
    }
}

/// `None` for what is no ordinary file: a FIFO or a device, which could make a reader wait.
fn open_regular(path: &Path) -> Result<Option<File>, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    Ok(is_file.then_some(file))
}

fn contents(file: &File) -> Option<Contents> {
    let mut start = [0; HEAD];
    file.read_exact_at(&mut start, 0).ok()?;
    let head = Head::read(&start)?;
    // Bounded by what a head may say.
    let mut bytes = vec![0; head.end - HEAD];
    let length = read_at(file, &mut bytes);
    Some(Contents {
        series: series(&bytes[..length]),
        dropped: head.dropped,
    })
}

/// As far as there is something.
fn read_at(file: &File, bytes: &mut [u8]) -> usize {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], (HEAD + length) as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::layout::MOST_BYTES;
    use super::super::{labels, Change, Definition, Kind, Labels, Recorder, MOST_SERIES};
    use super::*;

    fn recorder(path: &Path) -> Recorder {
        let mut recorder = Recorder::default();
        recorder.begin(Some(path.to_owned()));
        for (kind, name, bounds) in [
            (Kind::Counter, "c", vec![]),
            (Kind::Gauge, "g", vec![]),
            (Kind::Histogram, "h", vec![0.1, 1.0]),
        ] {
            let definition = Definition::new(kind, name, "", bounds).expect("one");
            recorder.define(definition).expect("new");
        }
        recorder
    }

    fn numbers(contents: &Contents, name: &str) -> Vec<Vec<f64>> {
        let named = contents
            .series
            .iter()
            .filter(|series| series.definition.name == name);
        named.map(|series| series.numbers.clone()).collect()
    }

    #[test]
    fn what_a_process_counts_is_read_also_when_its_file_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let source = Source::new(path.clone());
        assert_eq!(source.read(), None);
        let mut recorder = recorder(&path);
        assert_eq!(source.read(), None);
        let mut change = |name: &str, change| {
            let some = labels([("a", "x")]).expect("labels");
            recorder.change(name, some, change).expect("counted");
        };
        for _ in 0..3 {
            change("c", Change::Add(0.5));
        }
        change("g", Change::Set(7.0));
        change("g", Change::Add(-9.0));
        for seconds in [0.1, 0.2, 5.0, 6.0] {
            change("h", Change::Observe(seconds));
        }
        source.open();
        std::fs::remove_file(&path).expect("removed");
        change("c", Change::Add(1.0));
        let contents = source.read().expect("some");
        assert_eq!(numbers(&contents, "c"), [[2.5]]);
        assert_eq!(numbers(&contents, "g"), [[-2.0]]);
        assert_eq!(numbers(&contents, "h"), [[1.0, 1.0, 2.0, 11.3]]);
        assert_eq!(
            contents.series[0].labels,
            [("a".to_owned(), "x".to_owned())]
        );
        assert!(recorder.take_note().is_none());
    }

    #[test]
    fn series_without_end_are_dropped_counted_and_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let mut recorder = recorder(&path);
        for n in 0..MOST_SERIES + 5 {
            let n = n.to_string();
            let own = labels([("n", n.as_str())]).expect("labels");
            recorder
                .change("c", own, Change::Add(1.0))
                .expect("counted or dropped");
        }
        let known = labels([("n", "1")]).expect("labels");
        recorder
            .change("c", known, Change::Add(1.0))
            .expect("counted");
        let contents = Source::new(path).read().expect("some");
        assert_eq!((contents.series.len(), contents.dropped), (MOST_SERIES, 5));
        assert!(recorder
            .take_note()
            .is_some_and(|note| note.contains("no further ones")));
        assert!(recorder.take_note().is_none());
    }

    #[test]
    fn a_process_that_was_forked_begins_with_zeros_and_touches_no_file_of_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = ["1", "2"].map(|name| folder.path().join(name));
        let mut recorder = recorder(&first);
        recorder
            .change("c", Labels::new(), Change::Add(1.0))
            .expect("counted");
        recorder.begin(Some(second.clone()));
        recorder
            .change("c", Labels::new(), Change::Add(5.0))
            .expect("counted");
        recorder.begin(None);
        recorder
            .change("c", Labels::new(), Change::Add(9.0))
            .expect("counted");
        // One that has another's name has no file.
        recorder.begin(Some(first.clone()));
        recorder
            .change("c", Labels::new(), Change::Add(9.0))
            .expect("counted");
        assert!(recorder
            .take_note()
            .is_some_and(|note| note.contains("File exists")));
        recorder
            .change("c", Labels::new(), Change::Add(9.0))
            .expect("counted");
        let read = |path| numbers(&Source::new(path).read().expect("some"), "c");
        assert_eq!(
            (read(first), read(second)),
            (vec![vec![1.0]], vec![vec![5.0]])
        );
    }

    #[test]
    fn whatever_is_in_the_place_of_the_file_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let clear = || std::fs::remove_file(&path).expect("removed");
        let read = || Source::new(path.clone()).read();

        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(read(), None);
        clear();
        let other = folder.path().join("other");
        recorder(&other);
        symlink(&other, &path).expect("a link");
        assert_eq!(read(), None);
        clear();
        for bytes in [&b""[..], b"x", &[0; 100], &[255; 4096]] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(read(), Some(Contents::default()));
        }
        clear();
        // Of any size, with a head that says more than is there.
        let mut own = recorder(&path);
        own.change("c", Labels::new(), Change::Add(1.0))
            .expect("counted");
        let file = File::options().write(true).open(&path).expect("open");
        let head = Head {
            end: MOST_BYTES,
            dropped: u64::MAX,
        };
        file.write_all_at(&head.write(), 0).expect("written");
        assert_eq!(numbers(&read().expect("some"), "c"), [[1.0]]);
        file.set_len(1 << 40).expect("a hole");
        assert_eq!(numbers(&read().expect("some"), "c"), [[1.0]]);
        file.set_len(50).expect("cut");
        assert_eq!(read().expect("some").series, []);
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("a folder");
        assert_eq!(read(), None);
    }
}

//! The access log's file: never waited for, never a line lost or split, whatever becomes of the file.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{until, PATIENCE};
use faucet_core::ops::access::{AccessLog, Entry, Format};
use faucet_core::ops::log::Log;
use faucet_core::ops::log_file::LogFile;
use nix::fcntl::OFlag;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::stat::Mode;
use tempfile::TempDir;

/// An access log in a folder of its own.
struct Logged {
    folder: TempDir,
    path: PathBuf,
    log: Arc<Log>,
    access: AccessLog,
    events: Vec<String>,
}

impl Logged {
    fn start(max_size: Option<u64>, keep: u32) -> Self {
        Self::at(max_size, keep, |_| {})
    }

    /// `prepare` is told where the file will be.
    fn at(max_size: Option<u64>, keep: u32, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        prepare(&path);
        Self::open(folder, path, max_size, keep)
    }

    fn open(folder: TempDir, path: PathBuf, max_size: Option<u64>, keep: u32) -> Self {
        let log = Arc::new(Log::default());
        let file = LogFile {
            path: path.clone(),
            max_size,
            keep,
        };
        let access = AccessLog::to_file(Format::Text, file, log.clone()).expect("it can be opened");
        Self {
            folder,
            path,
            log,
            access,
            events: Vec::new(),
        }
    }

    /// Logs requests that are told from each other by their ids.
    fn write(&self, ids: std::ops::Range<usize>) {
        for id in ids {
            self.write_long(id, 0);
        }
    }

    fn write_long(&self, id: usize, length: usize) {
        self.access.write(&Entry {
            time: SystemTime::UNIX_EPOCH,
            id: &id.to_string(),
            client: std::net::IpAddr::from([127, 0, 0, 1]).into(),
            method: "GET",
            path: &format!("/{}", "x".repeat(length)),
            pool: "/",
            status: 200,
            cause: "",
            bytes: 0,
            total: Duration::ZERO,
            queue: Duration::ZERO,
            in_worker: None,
            worker: None,
            input: None,
            grpc_status: None,
        });
    }

    /// Until all is written.
    fn finish(&self) {
        self.access.finish(PATIENCE);
    }

    /// What was said so far.
    fn said(&mut self, what: &str) -> usize {
        let new = self.log.take().0.into_iter().map(|line| line.text);
        self.events.extend(new);
        let said = self.events.iter().filter(|event| event.contains(what));
        said.count()
    }

    async fn says(&mut self, what: &str) {
        until(what, || self.said(what) > 0).await;
    }

    fn numbered(&self, number: u32) -> PathBuf {
        format!("{}.{number}", self.path.display()).into()
    }

    /// Files in the folder.
    fn files(&self) -> usize {
        fs::read_dir(self.folder.path()).expect("a folder").count()
    }
}

/// How many lines a file has by now: the last one may be on its way.
fn lines(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// The ids of a file's lines, each of which must be whole.
fn ids(path: &Path) -> Vec<usize> {
    let text = fs::read_to_string(path).expect("readable");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(id).collect()
}

fn id(line: &str) -> usize {
    assert!(
        line.starts_with("1970-01-01T00:00:00.000Z 200 GET /"),
        "{line}"
    );
    let (_, id) = line.rsplit_once(" id=").expect("an id");
    id.parse().expect("a number")
}

fn sequence(ids: std::ops::Range<usize>) -> Vec<usize> {
    ids.collect()
}

#[test]
fn what_is_full_is_rotated_and_no_line_is_lost_or_split() {
    let logged = Logged::start(Some(2000), 1000);
    logged.write(0..500);
    logged.finish();
    let last = logged.files() as u32 - 1;
    assert!(last >= 10, "{last} files");
    let mut all = Vec::new();
    for path in (1..=last)
        .rev()
        .map(|number| logged.numbered(number))
        .chain([logged.path.clone()])
    {
        assert!(path.metadata().expect("a file").len() <= 2000);
        all.extend(ids(&path));
    }
    assert_eq!(all, sequence(0..500));
}

#[test]
fn so_many_files_are_kept() {
    for keep in [0, 1, 3] {
        let logged = Logged::start(Some(1000), keep);
        logged.write(0..200);
        logged.finish();
        assert_eq!(logged.files() as u32, keep + 1);
        let mut kept = Vec::new();
        for number in (1..=keep).rev() {
            kept.extend(ids(&logged.numbered(number)));
        }
        kept.extend(ids(&logged.path));
        assert_eq!(kept.last(), Some(&199));
        assert_eq!(kept, sequence(200 - kept.len()..200), "keep {keep}");
    }
}

#[test]
fn a_line_that_is_larger_than_a_file_may_be_has_one_of_its_own() {
    let logged = Logged::start(Some(500), 10);
    logged.write(0..1);
    logged.write_long(1, 5000);
    logged.write(2..3);
    logged.finish();
    assert_eq!(ids(&logged.numbered(2)), [0]);
    assert_eq!(ids(&logged.numbered(1)), [1]);
    assert_eq!(ids(&logged.path), [2]);
}

#[test]
fn a_file_goes_on_where_another_process_has_left_it() {
    let logged = Logged::start(Some(100_000), 1);
    logged.write(0..10);
    logged.finish();
    let logged = Logged::open(logged.folder, logged.path, Some(100_000), 1);
    logged.write(10..20);
    logged.finish();
    assert_eq!(ids(&logged.path), sequence(0..20));
}

#[test]
fn what_is_made_is_for_its_owner_alone() {
    let logged = Logged::start(Some(1000), 2);
    logged.write(0..50);
    logged.finish();
    for path in [&logged.path, &logged.numbered(1), &logged.numbered(2)] {
        let mode = path.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_file_that_was_moved_is_made_anew_when_asked() {
    let mut logged = Logged::start(None, 5);
    logged.write(0..10);
    let moved = logged.folder.path().join("moved");
    until("all is written", || lines(&logged.path) == 10).await;
    fs::rename(&logged.path, &moved).expect("moved");
    logged.write(10..20);
    until("what is open is written on", || lines(&moved) == 20).await;
    logged.access.reopen();
    logged.says("opened again").await;
    logged.write(20..30);
    logged.finish();
    assert_eq!(ids(&moved), sequence(0..20));
    assert_eq!(ids(&logged.path), sequence(20..30));
}

#[test]
fn no_line_is_lost_while_the_file_is_moved_and_opened_again() {
    let logged = Logged::start(None, 5);
    for round in 0..50 {
        logged.write(round * 100..round * 100 + 100);
        // It may not be there yet again.
        let _ = fs::rename(
            &logged.path,
            logged.folder.path().join(format!("{round:02}")),
        );
        logged.access.reopen();
    }
    logged.finish();
    let mut files: Vec<PathBuf> = fs::read_dir(logged.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let all: Vec<usize> = files.iter().flat_map(|path| ids(path)).collect();
    assert_eq!(all, sequence(0..5000));
}

#[tokio::test]
async fn when_it_cannot_be_opened_again_what_is_open_is_written_on() {
    let mut logged = Logged::start(None, 5);
    let moved = logged.folder.path().join("moved");
    fs::rename(&logged.path, &moved).expect("moved");
    fs::create_dir(&logged.path).expect("a folder in its place");
    logged.access.reopen();
    logged.says("cannot be opened again").await;
    logged.write(0..10);
    logged.finish();
    assert_eq!(ids(&moved), sequence(0..10));
}

#[tokio::test]
async fn what_cannot_be_rotated_grows_and_that_is_said_once() {
    let mut logged = Logged::at(Some(1000), 1, |path| {
        // A folder that is not empty takes no file's place.
        let taken = PathBuf::from(format!("{}.1", path.display()));
        fs::create_dir_all(taken.join("full")).expect("a folder");
    });
    for number in 0..10 {
        logged.write(number * 10..number * 10 + 10);
        until("the lines are written", || {
            lines(&logged.path) == number * 10 + 10
        })
        .await;
    }
    assert_eq!(logged.said("cannot be rotated"), 1);
    fs::remove_dir_all(logged.numbered(1)).expect("removed");
    logged.write(100..110);
    logged.says("can be rotated again").await;
    logged.finish();
    assert_eq!(ids(&logged.numbered(1)), sequence(0..100));
    assert_eq!(ids(&logged.path), sequence(100..110));
}

#[test]
fn what_someone_else_has_rotated_is_not_rotated_again() {
    let logged = Logged::start(Some(1000), 3);
    logged.write(0..5);
    let moved = logged.folder.path().join("moved");
    while lines(&logged.path) < 5 {
        std::thread::yield_now();
    }
    fs::rename(&logged.path, &moved).expect("moved");
    logged.write(5..15);
    logged.finish();
    // What fits, as nobody has said anything; the rest is in its place.
    let first = ids(&moved);
    assert_eq!(first, sequence(0..first.len()));
    assert!(first.len() >= 5);
    assert_eq!(ids(&logged.path), sequence(first.len()..15));
    assert!(!logged.numbered(1).exists());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_said_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut logged = Logged::open(folder, "/dev/full".into(), Some(100), 1);
    logged.write(0..10);
    logged.says("No space left on device").await;
    logged.write(10..20);
    // Does not wait for it.
    logged.finish();
    assert_eq!(logged.said("cannot be written"), 1);
}

/// A file that may not become larger takes a part of a line, as a full disk does.
#[tokio::test]
async fn what_was_written_of_a_line_is_taken_back() {
    const LIMIT: u64 = 100_000;
    let mut logged = Logged::start(None, 1);
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, LIMIT, hard).expect("a limit");
    logged.write(0..2000);
    logged.says("cannot be written").await;
    let written = lines(&logged.path);
    assert!((900..2000).contains(&written), "{written}");
    let moved = logged.folder.path().join("moved");
    fs::rename(&logged.path, &moved).expect("moved");
    logged.access.reopen();
    logged.says("opened again").await;
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("a limit");
    logged.says("written again").await;
    logged.finish();
    assert_eq!(ids(&moved), sequence(0..written));
    assert_eq!(ids(&logged.path), sequence(written..2000));
}

fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("a pipe");
}

fn reader(path: &Path) -> BufReader<File> {
    // Without waiting for who writes.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    BufReader::new(opened.expect("a reader"))
}

/// The id of the next line, once it is there.
async fn next(reader: &mut BufReader<File>) -> usize {
    let mut line = Vec::new();
    until("a line comes", || {
        // Bytes that came before an error are kept.
        let _ = reader.read_until(b'\n', &mut line);
        line.ends_with(b"\n")
    })
    .await;
    id(std::str::from_utf8(&line).expect("text").trim_end())
}

#[tokio::test]
async fn a_pipe_gets_its_lines_when_someone_reads_it() {
    let mut logged = Logged::at(None, 1, pipe);
    logged.write(0..10);
    logged.says("nobody reads").await;
    let mut first = reader(&logged.path);
    for expected in 0..10 {
        assert_eq!(next(&mut first).await, expected);
    }
    logged.says("written again").await;
    drop(first);
    logged.write(10..20);
    until("the reader is missed", || logged.said("nobody reads") == 2).await;
    let mut second = reader(&logged.path);
    for expected in 10..20 {
        assert_eq!(next(&mut second).await, expected);
    }
}

#[tokio::test]
async fn nobody_waits_for_a_pipe_that_nobody_reads() {
    for read in [false, true] {
        let mut logged = Logged::at(None, 1, pipe);
        let reader = read.then(|| reader(&logged.path));
        // More than may wait.
        for id in 0..400 {
            logged.write_long(id, 60_000);
        }
        logged.says("nobody reads").await;
        logged.says("lines of the access log are dropped").await;
        logged.write(400..500);
        assert_eq!(logged.said("are dropped"), 1);
        assert!(logged.log.dropped_ever() > 0);
        // Those are told by the log itself where others are.
        assert_eq!(logged.log.take().1, 0);

        // A file takes its place.
        fs::remove_file(&logged.path).expect("removed");
        let path = logged.path.clone();
        logged.access.reopen();
        logged.says("opened again").await;
        logged.says("lines of the access log were dropped").await;
        assert!(path.is_file());
        logged.write(500..501);
        until("the file is written", || {
            fs::read_to_string(&path).is_ok_and(|text| text.ends_with(" id=500\n"))
        })
        .await;
        drop(reader);
    }
}

#[test]
fn the_end_does_not_wait_for_a_pipe() {
    let logged = Logged::at(None, 1, pipe);
    let mut unread = reader(&logged.path);
    for id in 0..10 {
        logged.write_long(id, 60_000);
    }
    // Far below what the test would wait for.
    let begun = std::time::Instant::now();
    logged.finish();
    assert!(begun.elapsed() < PATIENCE);
    let mut byte = [0];
    unread.read_exact(&mut byte).expect("what it took");
}

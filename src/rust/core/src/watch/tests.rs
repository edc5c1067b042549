use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An app, and what a watch says of it.
struct Watched {
    dir: TempDir,
    heard: mpsc::Receiver<Event>,
    _watch: Watch,
}

fn app() -> Watched {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("api/R")).expect("made");
    write(&dir, "plumber.R", "1");
    let api = dir.path().join("api");
    watch(
        dir,
        Scope::App {
            except: Some(api.join("faucet.yml")),
            dir: api,
        },
    )
}

fn watch(dir: TempDir, scope: Scope) -> Watched {
    let (watch, heard) = Watch::start(scope).expect("a watch");
    let mut watched = Watched {
        dir,
        heard,
        _watch: watch,
    };
    // Once a change is told, it watches.
    let start = Instant::now();
    for count in 0.. {
        write(&watched.dir, "begin.R", &"x".repeat(count + 1));
        fs::write(watched.dir.path().join("one.yml"), "x".repeat(count + 1)).expect("written");
        if watched.next(Duration::from_millis(500)).is_some() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it never begins");
    }
    while watched.next(QUIET * 3).is_some() {}
    watched
}

fn write(dir: &TempDir, name: &str, text: &str) {
    fs::write(dir.path().join("api").join(name), text).expect("written");
}

impl Watched {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("api").join(name)
    }

    fn next(&mut self, patience: Duration) -> Option<Event> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Ok(event) = self.heard.try_recv() {
                return Some(event);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// The names of what has changed.
    fn changed(&mut self) -> Vec<String> {
        match self.next(PATIENCE) {
            Some(Event::Changed { paths, .. }) => {
                let root = self.dir.path().join("api");
                let names = paths.iter().map(|path| {
                    let path = path.strip_prefix(&root).unwrap_or(path);
                    path.display().to_string()
                });
                names.collect()
            }
            other => panic!("no change, but {other:?}"),
        }
    }

    fn trouble(&mut self) -> String {
        match self.next(PATIENCE) {
            Some(Event::Trouble(text)) => text,
            other => panic!("no trouble, but {other:?}"),
        }
    }

    /// Nothing is told of what was done: after it, only what comes now.
    fn nothing_changed(&mut self) {
        std::thread::sleep(QUIET * 2);
        write(&self.dir, "mark.R", &format!("{:?}", Instant::now()));
        assert_eq!(self.changed(), ["mark.R"]);
    }
}

#[test]
fn files_are_written_renamed_over_and_removed() {
    let mut app = app();
    write(&app.dir, "plumber.R", "22");
    assert_eq!(app.changed(), ["plumber.R"]);
    // As editors do: with the same length, and, as `cp -p` would leave it, maybe the same time.
    let before = fs::metadata(app.path("plumber.R")).and_then(|file| file.modified());
    write(&app.dir, ".plumber.R.new", "33");
    let file = fs::File::options()
        .write(true)
        .open(app.path(".plumber.R.new"));
    let kept = file.and_then(|file| file.set_modified(before.expect("a time")));
    kept.expect("the time is set");
    fs::rename(app.path(".plumber.R.new"), app.path("plumber.R")).expect("renamed");
    assert_eq!(app.changed(), ["plumber.R"]);
    fs::remove_file(app.path("plumber.R")).expect("removed");
    assert_eq!(app.changed(), ["plumber.R"]);
}

#[test]
fn directories_come_with_what_is_in_them_and_go() {
    let mut app = app();
    let made = app.dir.path().join("made");
    fs::create_dir_all(made.join("deep/er")).expect("made");
    fs::write(made.join("deep/er/a.R"), "x").expect("written");
    fs::rename(&made, app.path("routes")).expect("moved in");
    assert_eq!(app.changed(), ["routes/deep/er/a.R"]);
    fs::write(app.path("routes/deep/er/b.R"), "x").expect("written");
    assert_eq!(app.changed(), ["routes/deep/er/b.R"]);
    fs::rename(app.path("routes"), &made).expect("moved out");
    let mut gone = app.changed();
    gone.sort();
    assert_eq!(gone, ["routes/deep/er/a.R", "routes/deep/er/b.R"]);
    fs::write(made.join("deep/er/b.R"), "elsewhere").expect("written");
    app.nothing_changed();
}

#[test]
fn data_what_others_watch_and_what_tools_keep_is_no_change() {
    let mut app = app();
    fs::create_dir_all(app.path(".git/refs")).expect("made");
    fs::create_dir_all(app.path("renv/library")).expect("made");
    for name in [
        "rows.csv",
        "model.rds",
        ".plumber.R.swp",
        "plumber.R~",
        ".git/config.yml",
        "renv/library/x.R",
        "faucet.yml",
    ] {
        write(&app.dir, name, "x");
    }
    app.nothing_changed();
}

#[test]
fn links_are_followed_and_may_lead_in_circles() {
    let mut app = app();
    let elsewhere = app.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::write(elsewhere.join("shared.R"), "1").expect("written");
    symlink(&elsewhere, app.path("lib")).expect("linked");
    assert_eq!(app.changed(), ["lib/shared.R"]);
    fs::write(elsewhere.join("shared.R"), "22").expect("written");
    assert_eq!(app.changed(), ["lib/shared.R"]);
    fs::write(app.dir.path().join("one.R"), "1").expect("written");
    symlink(app.dir.path().join("one.R"), app.path("one.R")).expect("linked");
    assert_eq!(app.changed(), ["one.R"]);
    fs::write(app.dir.path().join("one.R"), "22").expect("written");
    assert_eq!(app.changed(), ["one.R"]);
    symlink(app.path("."), app.path("circle")).expect("linked");
    app.nothing_changed();
}

#[test]
fn a_link_to_the_current_release_may_be_switched() {
    let dir = tempfile::tempdir().expect("a directory");
    for release in ["1", "2"] {
        fs::create_dir(dir.path().join(release)).expect("made");
        fs::write(dir.path().join(release).join("plumber.R"), release).expect("written");
    }
    symlink("1", dir.path().join("api")).expect("linked");
    let scope = Scope::App {
        dir: dir.path().join("api"),
        except: None,
    };
    let mut app = watch(dir, scope);
    symlink("2", app.dir.path().join("next")).expect("linked");
    let api = app.dir.path().join("api");
    fs::rename(app.dir.path().join("next"), api).expect("switched");
    let changed = app.changed();
    assert!(changed.contains(&"plumber.R".to_owned()), "{changed:?}");
    write(&app.dir, "new.R", "x");
    assert_eq!(app.changed(), ["new.R"]);
}

#[test]
fn a_directory_that_vanishes_is_said_once_and_watched_again() {
    let mut app = app();
    let away = app.dir.path().join("away");
    fs::rename(app.dir.path().join("api"), &away).expect("moved");
    let said = app.trouble();
    assert!(
        said.contains("api cannot be watched, and is tried again: No such file"),
        "{said}"
    );
    fs::write(away.join("plumber.R"), "changed").expect("written");
    assert!(app.next(QUIET * 2).is_none());
    fs::rename(&away, app.dir.path().join("api")).expect("moved back");
    assert_eq!(app.changed(), ["plumber.R"]);
    write(&app.dir, "plumber.R", "again");
    assert_eq!(app.changed(), ["plumber.R"]);
}

#[test]
fn one_file_is_watched_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("api")).expect("made");
    let file = dir.path().join("one.yml");
    let mut one = watch(dir, Scope::File(file.clone()));
    fs::write(one.dir.path().join("two.yml"), "x").expect("written");
    fs::write(one.dir.path().join("new"), "renamed over").expect("written");
    fs::rename(one.dir.path().join("new"), &file).expect("renamed");
    assert_eq!(one.changed(), [file.display().to_string()]);
    assert!(one.next(QUIET * 2).is_none());
}

#[test]
fn a_watch_ends_when_it_is_dropped() {
    let mut app = app();
    let Watched { heard, _watch, .. } = &mut app;
    drop(std::mem::replace(
        _watch,
        Watch {
            _stop: UnixStream::pair().expect("two").0,
        },
    ));
    let start = Instant::now();
    while !heard.is_closed() {
        assert!(start.elapsed() < PATIENCE, "it goes on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod where_the_system_fails {
    use super::*;

    fn watcher(dir: &TempDir) -> (Watcher, mpsc::Receiver<Event>, UnixStream, UnixStream) {
        let (events, heard) = mpsc::channel(UNTAKEN);
        let (stop, stopped) = UnixStream::pair().expect("two");
        let watcher = Watcher {
            scope: Scope::App {
                dir: dir.path().to_owned(),
                except: None,
            },
            events,
            notices: Notices::new().ok(),
            known: BTreeMap::new(),
            is_there: true,
            is_cut: false,
            told_of_loss: None,
        };
        (watcher, heard, stop, stopped)
    }

    #[test]
    fn without_watches_left_the_files_are_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("R")).expect("made");
        fs::write(dir.path().join("R/a.R"), "1").expect("written");
        let (mut watcher, mut heard, _stop, _stopped) = watcher(&dir);
        if let Some(notices) = &mut watcher.notices {
            notices.most = 2;
        }
        watcher.known = watcher.look().ok().expect("someone listens");
        match heard.try_recv() {
            Ok(Event::Trouble(text)) => {
                assert!(
                    text.contains(
                        "No space left on device (the limit is fs.inotify.max_user_watches)"
                    ),
                    "{text}"
                );
            }
            other => panic!("no trouble, but {other:?}"),
        }
        assert!(watcher.notices.is_none());
        fs::write(dir.path().join("R/a.R"), "22").expect("written");
        assert!(watcher.tell(Instant::now()).is_ok());
        assert!(matches!(heard.try_recv(), Ok(Event::Changed { .. })));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn news_that_were_lost_lead_to_a_look() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut watcher, mut heard, _stop, stopped) = watcher(&dir);
        watcher.known = watcher.look().ok().expect("someone listens");
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
        let most: usize = most.trim().parse().unwrap_or(16384);
        if most > 100_000 {
            return;
        }
        // Two events that are not the same, each time.
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        fs::write(&one, "").expect("written");
        for _ in 0..most {
            fs::rename(&one, &two).expect("renamed");
            fs::rename(&two, &one).expect("renamed");
        }
        fs::write(dir.path().join("late.R"), "x").expect("written");
        assert!(matches!(watcher.wait(&stopped, Some(PATIENCE)), Ok(true)));
        match heard.try_recv() {
            Ok(Event::Trouble(text)) => assert!(text.contains("max_queued_events"), "{text}"),
            other => panic!("no trouble, but {other:?}"),
        }
        assert!(watcher.tell(Instant::now()).is_ok());
        assert!(matches!(heard.try_recv(), Ok(Event::Changed { .. })));
    }
}

//! A whole server that runs a program for each request.

mod common;

use std::fs;
use std::path::Path;

use common::local::{is_alive, wait_until};
use common::{only, pattern, until, Client, Response, PATIENCE};
use faucet_core::functions::Signature;
use faucet_core::ops::status::{PoolStatus, State};
use faucet_core::pool::PoolLimits;
use faucet_core::server::{Phase, Request, Server, Settings};
use faucet_core::sources::command::CommandSettings;
use faucet_core::sources::local::WorkerRange;
use faucet_core::sources::Source;
use tempfile::TempDir;

/// What a test may change before the server starts.
struct Setup {
    pool: PoolLimits,
    command: CommandSettings,
}

/// A running server.
struct Commands {
    server: Server,
    /// Where programs leave what the test looks at.
    dir: TempDir,
    lines: Vec<String>,
}

impl Commands {
    fn start(command: &[&str], change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut setup = Setup {
            pool: PoolLimits {
                queue: 100,
                queue_timeout: None,
                ..PoolLimits::default()
            },
            command: CommandSettings {
                confinement: Default::default(),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                dir: None,
                env: [("OUT".to_owned(), dir.path().display().to_string())].into(),
                workers: WorkerRange::fixed(1),
                signature: Signature::default(),
            },
        };
        change(&mut setup);
        let settings = Settings {
            pools: only(setup.pool, Source::Command(setup.command)),
            ..Settings::default()
        };
        Self {
            server: Server::start(settings).expect("a server"),
            dir,
            lines: Vec::new(),
        }
    }

    /// The same, once it serves.
    async fn ready(command: &[&str], change: impl FnOnce(&mut Setup)) -> Self {
        let commands = Self::start(command, change);
        until("it is ready", || {
            matches!(commands.server.phase(), Phase::Ready)
        })
        .await;
        commands
    }

    /// A script of the shell.
    async fn script(script: &str, change: impl FnOnce(&mut Setup)) -> Self {
        Self::ready(&["sh", "-c", script], change).await
    }

    async fn client(&self) -> Client {
        let url = self.server.url().expect("a port");
        let address = url.trim_start_matches("http://").parse();
        Client::connect(address.expect("an address")).await
    }

    fn status(&self) -> PoolStatus {
        self.server.status().pop().unwrap_or_default()
    }

    /// Waits until every worker is free.
    async fn idle(&self) {
        until("every worker is free", || {
            let workers = self.status().workers;
            !workers.is_empty() && workers.iter().all(|worker| worker.state == State::Ready)
        })
        .await;
    }

    /// The number that a program has written to a file.
    async fn pid(&self, file: &str) -> u32 {
        let path = self.dir.path().join(file);
        let read = || fs::read_to_string(&path).unwrap_or_default();
        until("a program has told its number", || read().ends_with('\n')).await;
        read().trim().parse().expect("a number")
    }

    async fn until_logged(&mut self, part: &str) {
        let start = std::time::Instant::now();
        loop {
            let (lines, _) = self.server.take_lines();
            self.lines.extend(lines.into_iter().map(|line| line.text));
            if self.lines.iter().any(|line| line.contains(part)) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "not logged: {part} {:#?}",
                self.lines
            );
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

/// What kind of error it is.
fn said(answer: &Response) -> &str {
    answer.header("faucet-error").unwrap_or_default()
}

async fn gone(pid: u32) {
    until("a program is gone", || !is_alive(pid)).await;
}

/// The options that callers may give.
fn taking(options: &[&str]) -> impl FnOnce(&mut Setup) {
    let options: Vec<String> = options.iter().map(|name| (*name).to_owned()).collect();
    move |setup| setup.command.signature = Signature::of_command(&options)
}

#[tokio::test]
async fn a_body_goes_in_and_what_is_written_comes_back() {
    let sed = Commands::ready(&["sed"], taking(&["e=", "n"])).await;
    let mut client = sed.client().await;
    for _ in 0..3 {
        let answer = client
            .post("/any/path?e=s/hate/love/", b"I hate this\n")
            .await;
        assert_eq!((answer.status, answer.text()), (200, "I love this\n"));
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream")
        );
    }
    assert_eq!(client.post("/?n&e=2p", b"a\nb\n").await.text(), "b\n");
    // Nothing is written: nothing comes.
    let answer = client.post("/?n=true&e=9p", b"a\n").await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    client
        .send("GET /?e=a%20b HTTP/1.1\r\nHost: h\r\nAccept: text/plain\r\n\r\n")
        .await;
    let answer = client.response().await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    // Whoever asks for the head alone starts nothing.
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.response_to_head().await.status, 200);
}

#[tokio::test]
async fn options_that_it_does_not_take_never_come_to_a_program() {
    let sed = Commands::ready(&["sed", "-n"], taking(&["e=", "n"])).await;
    let mut client = sed.client().await;
    for (query, option, message) in [
        ("i", "i", "there is no option `i`"),
        ("n=/etc/passwd", "n", "option `n` must be `true` or `false`"),
        ("n=-i", "n", "option `n` must be `true` or `false`"),
        ("e=p&e=p", "e", "option `e` is given twice"),
    ] {
        let answer = client.get(&format!("/?{query}")).await;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(body["error"], message);
        assert_eq!(body["option"], option);
        assert_eq!(said(&answer), "bad_option");
    }
    for query in ["e=%00", "e=%ff", "=p"] {
        let answer = client.get(&format!("/?{query}")).await;
        assert_eq!((answer.status, said(&answer)), (400, "bad_option"));
    }
    // No shell is in between.
    let answer = client.post("/?e=$(touch%20/x);%20p", b"a").await;
    assert_eq!((answer.status, said(&answer)), (500, "function_error"));
}

#[tokio::test]
async fn large_bodies_pass_through_both_ways_as_they_are() {
    let cat = Commands::ready(&["cat"], |_| {}).await;
    let mut client = cat.client().await;
    // A part of it is in a file on its way.
    let body = pattern(20_000_000);
    let answer = client.post("/", &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes", answer.body.len());
    cat.idle().await;
}

#[tokio::test]
async fn a_program_writes_no_faster_than_its_client_reads() {
    let script = "echo $$ > $OUT/pid; head -c 300000000 /dev/zero; echo all > $OUT/all";
    let zeros = Commands::script(script, |_| {}).await;
    let mut client = zeros.client().await;
    client.start_get("/").await;
    assert!(client.fill().await);
    let pid = zeros.pid("pid").await;
    // What is on the way is bounded.
    let mut last = (0, 0u32);
    let written = || -> u64 {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    while last.1 < 20 {
        let now = written();
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!zeros.dir.path().join("all").exists());
    drop(client);
    gone(pid).await;
    zeros.idle().await;
    assert!(!zeros.dir.path().join("all").exists());
}

#[tokio::test]
async fn what_is_written_comes_before_the_program_ends() {
    let script = "echo one; while [ ! -e $OUT/go ]; do sleep 0.01; done; echo two";
    let slow = Commands::script(script, |_| {}).await;
    let mut client = slow.client().await;
    client.start_get("/").await;
    while !String::from_utf8_lossy(&client.unread).contains("one\n") {
        assert!(client.fill().await);
    }
    fs::write(slow.dir.path().join("go"), "").expect("written");
    assert_eq!(client.response().await.text(), "one\ntwo\n");
}

#[tokio::test]
async fn a_failure_before_any_output_is_an_error() {
    let mut fails = Commands::script("echo 'no such thing' >&2; exit 3", |_| {}).await;
    let mut client = fails.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, said(&answer)), (500, "function_error"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["error"], "`sh` exited with status 3");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    fails.until_logged("[worker 1] no such thing").await;
    fails.until_logged("`sh` exited with status 3").await;
    let killed = Commands::script("kill -9 $$", |_| {}).await;
    let answer = killed.client().await.get("/").await;
    assert!(answer.text().contains("was killed by signal 9"));
}

#[tokio::test]
async fn a_failure_after_some_output_is_never_a_clean_end() {
    let fails = Commands::script("echo some; exit 3", |_| {}).await;
    for _ in 0..3 {
        let mut client = fails.client().await;
        client.start_get("/").await;
        // What was written may have come or not, but no end.
        assert!(client.try_response(false).await.is_err());
    }
    fails.idle().await;
}

#[tokio::test]
async fn a_program_need_not_read_what_it_is_sent() {
    let head = Commands::ready(&["head", "-n", "1"], |_| {}).await;
    let mut body = b"first\n".to_vec();
    body.extend(pattern(3_000_000));
    let mut client = head.client().await;
    for _ in 0..3 {
        let answer = client.post("/", &body).await;
        assert_eq!((answer.status, answer.text()), (200, "first\n"));
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_program_and_its_children() {
    let script = "sleep 300 & echo $! > $OUT/child; echo $$ > $OUT/pid; wait";
    let sleeps = Commands::script(script, |_| {}).await;
    let mut client = sleeps.client().await;
    client.start_get("/").await;
    let (pid, child) = (sleeps.pid("pid").await, sleeps.pid("child").await);
    assert!(is_alive(pid) && is_alive(child));
    drop(client);
    gone(pid).await;
    gone(child).await;
    sleeps.idle().await;
}

#[tokio::test]
async fn one_that_does_not_hear_is_killed() {
    let script = "trap '' TERM; echo $$ > $OUT/pid; while :; do sleep 0.05; done";
    let deaf = Commands::script(script, |_| {}).await;
    let mut client = deaf.client().await;
    client.start_get("/").await;
    let pid = deaf.pid("pid").await;
    drop(client);
    gone(pid).await;
    deaf.idle().await;
}

#[tokio::test]
async fn one_whose_time_is_over_is_ended() {
    let script =
        "cat > $OUT/in; if [ -s $OUT/in ]; then echo some; fi; echo $$ > $OUT/pid; exec sleep 300";
    let slow = Commands::script(script, |setup| {
        setup.pool.timeout = Some(common::SOON);
    })
    .await;
    let answer = slow.client().await.get("/").await;
    assert_eq!((answer.status, said(&answer)), (504, "timeout"));
    gone(slow.pid("pid").await).await;
    slow.idle().await;
    fs::remove_file(slow.dir.path().join("pid")).expect("there");
    // And so is one that has begun to answer.
    let mut client = slow.client().await;
    client.start_post("/", b"some").await;
    assert!(client.try_response(false).await.is_err());
    gone(slow.pid("pid").await).await;
    slow.idle().await;
}

#[tokio::test]
async fn grandchildren_that_hold_the_output_do_not_hold_the_answer() {
    // One of its group is ended with it, one of another group is left to itself.
    let script =
        "sleep 300 & echo $! > $OUT/own; setsid sleep 300 & echo $! > $OUT/other; sleep 0.05; echo done";
    let leaves = Commands::script(script, |_| {}).await;
    let mut client = leaves.client().await;
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.text()), (200, "done\n"));
    gone(leaves.pid("own").await).await;
    let other = leaves.pid("other").await;
    assert!(is_alive(other));
    let other = nix::unistd::Pid::from_raw(other as i32);
    nix::sys::signal::kill(other, nix::sys::signal::Signal::SIGKILL).expect("it is ours");
}

#[tokio::test]
async fn so_many_run_at_a_time_and_the_others_wait() {
    let script = "echo $$ >> $OUT/begun; while [ ! -e $OUT/go ]; do sleep 0.01; done; echo done";
    let some = Commands::script(script, |setup| {
        setup.command.workers = WorkerRange { min: 0, max: 2 };
    })
    .await;
    assert_eq!(some.status().workers.len(), 2);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = some.client().await;
        client.start_get("/").await;
        clients.push(client);
    }
    let begun = || fs::read_to_string(some.dir.path().join("begun")).unwrap_or_default();
    until("two have begun and three wait", || {
        begun().lines().count() == 2 && some.status().queue == 3
    })
    .await;
    fs::write(some.dir.path().join("go"), "").expect("written");
    for mut client in clients {
        assert_eq!(client.response().await.text(), "done\n");
    }
    assert_eq!(begun().lines().count(), 5);
}

#[tokio::test]
async fn each_request_has_a_folder_of_its_own() {
    let script = "ls -A; pwd; echo x > left; [ \"$TMPDIR\" = \"$(pwd)\" ] && echo same";
    let ls = Commands::script(script, |_| {}).await;
    let mut client = ls.client().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = client.get("/").await;
        let lines: Vec<String> = answer.text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1], "same");
        until("its folder is removed", || !Path::new(&lines[0]).exists()).await;
        seen.push(lines[0].clone());
    }
    assert_ne!(seen[0], seen[1]);
    let here = Commands::script("ls", |setup| {
        setup.command.dir = Some(Path::new("/").to_owned());
    })
    .await;
    assert!(here.client().await.get("/").await.text().contains("etc\n"));
}

#[tokio::test]
async fn nothing_is_left_when_the_server_stops() {
    let script = "sleep 300 & echo $! > $OUT/child; echo $$ > $OUT/pid; wait";
    for request in [
        Request::Stop(Some(std::time::Duration::ZERO)),
        Request::Kill,
    ] {
        let mut sleeps = Commands::script(script, |_| {}).await;
        let mut client = sleeps.client().await;
        client.start_get("/").await;
        let (pid, child) = (sleeps.pid("pid").await, sleeps.pid("child").await);
        let id = sleeps.server.ask(request);
        wait_until("it has stopped", || sleeps.server.result(id).is_some());
        until("the server is gone", || !sleeps.server.is_running()).await;
        gone(pid).await;
        gone(child).await;
    }
    let sleeps = Commands::script(script, |_| {}).await;
    let mut client = sleeps.client().await;
    client.start_get("/").await;
    let (pid, child) = (sleeps.pid("pid").await, sleeps.pid("child").await);
    drop(sleeps.server);
    gone(pid).await;
    gone(child).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    for command in [&["no-such-program"][..], &["./no-such-program"]] {
        let none = Commands::start(command, |_| {});
        let mut failure = None;
        until("it has failed", || {
            if let Phase::Failed(why) = none.server.phase() {
                failure = Some(why);
            }
            failure.is_some()
        })
        .await;
        let failure = failure.expect("just set");
        assert_eq!(failure.class, "boot");
        let expected = format!("there is no program `{}`.", command[0]);
        assert!(failure.message.ends_with(&expected), "{}", failure.message);
    }
    // It goes away while the server runs.
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("program");
    fs::copy("/bin/true", &program).expect("copied");
    let path = program.to_str().expect("a plain path").to_owned();
    let gone = Commands::ready(&[&path], |_| {}).await;
    let mut client = gone.client().await;
    assert_eq!(client.get("/").await.status, 200);
    fs::remove_file(&program).expect("removed");
    let answer = client.get("/").await;
    assert_eq!((answer.status, said(&answer)), (500, "function_error"));
    assert!(answer.text().contains("No such file"), "{}", answer.text());
}

#[tokio::test]
async fn their_number_can_be_changed() {
    let mut cat = Commands::ready(&["cat"], |_| {}).await;
    for count in [3, 1, 2] {
        let id = cat
            .server
            .ask(Request::Scale(None, WorkerRange { min: 0, max: count }));
        until("it is done", || cat.server.result(id).is_some()).await;
        until("there are so many", || {
            cat.status().workers.len() == count as usize
        })
        .await;
        assert_eq!(cat.client().await.post("/", b"here").await.text(), "here");
    }
}

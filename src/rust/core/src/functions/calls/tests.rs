//! Calls, run by a server that does what a test says.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::task::{Answered, Input, Runner};
use super::{CallbackUrl, Calls, Settings};
use crate::body::{Buffered, Store};
use crate::client_address::ClientAddress;
use crate::front::{Managed, Told};
use crate::functions::Chain;
use crate::token::Token;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a chain of this name is answered with, one time after the other; the last one again and again.
#[derive(Clone)]
enum Plan {
    Answers(u16, &'static [(&'static str, &'static str)], &'static str),
    /// What was sent.
    Echo,
    /// The head, and a body that breaks off.
    BreaksOff,
    Never,
}

/// A request that was made.
struct Seen {
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct Fake {
    plans: BTreeMap<&'static str, Vec<Plan>>,
    seen: Mutex<Vec<Seen>>,
    /// Requests that somebody waits for.
    waited: Arc<()>,
}

impl Fake {
    fn seen(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    /// How many are under way.
    fn under_way(&self) -> usize {
        Arc::strong_count(&self.waited) - 1
    }

    fn plan(&self, target: &str) -> Plan {
        let (name, plans) = self
            .plans
            .iter()
            .find(|(name, _)| target.ends_with(&format!("={name}")))
            .expect("a plan");
        let seen = self.seen.lock().expect("no panic");
        let before = seen
            .iter()
            .filter(|seen| seen.target.ends_with(&format!("={name}")));
        let turn = before.count().min(plans.len()) - 1;
        plans[turn].clone()
    }
}

/// For tests, whose trait objects are the same thing in two runtimes.
struct Shared(Arc<Fake>);

impl Runner for Shared {
    fn refusal(&self, chain: &Chain) -> Option<Told> {
        let mut stages = chain.stages.iter();
        let missing = stages.any(|stage| stage.function == "missing");
        missing.then(|| Told::refused(StatusCode::NOT_FOUND, "no_function", "there is none"))
    }

    fn run(
        &self,
        request: Request<Input>,
        _: ClientAddress,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let fake = self.0.clone();
        let under_way = fake.waited.clone();
        Box::pin(async move {
            let _under_way = under_way;
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("an input").to_bytes();
            let target = parts.uri.to_string();
            fake.seen.lock().expect("no panic").push(Seen {
                target: target.clone(),
                headers: parts.headers,
                body: body.clone(),
            });
            let whole = |body: Bytes| {
                Full::new(body)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            };
            match fake.plan(&target) {
                Plan::Echo => Response::new(whole(body)),
                Plan::Answers(status, headers, text) => {
                    let mut response = Response::new(whole(text.into()));
                    *response.status_mut() = status.try_into().expect("a status");
                    for (name, value) in headers {
                        let name = HeaderName::from_static(name);
                        response
                            .headers_mut()
                            .insert(name, value.parse().expect("a value"));
                    }
                    response
                }
                Plan::BreaksOff => {
                    let frames = [
                        Ok(Frame::data("half".into())),
                        Err("the worker died".to_owned()),
                    ];
                    Response::new(StreamBody::new(Frames(frames.into())).boxed_unsync())
                }
                Plan::Never => std::future::pending().await,
            }
        })
    }
}

struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, String>>);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, String>;
    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

/// A server with calls, which can be killed and come back.
struct House {
    state: TempDir,
    settings: Settings,
    fake: Arc<Fake>,
    up: Option<(Runtime, Arc<Calls>)>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    cause: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl House {
    fn new(plans: &[(&'static str, &[Plan])]) -> Self {
        Self::with(plans, Settings::default())
    }

    fn with(plans: &[(&'static str, &[Plan])], settings: Settings) -> Self {
        let plans = plans.iter().map(|(name, plans)| (*name, plans.to_vec()));
        let mut house = Self {
            state: tempfile::tempdir().expect("a folder"),
            settings,
            fake: Arc::new(Fake {
                plans: plans.collect(),
                ..Fake::default()
            }),
            up: None,
        };
        house.start();
        house
    }

    fn folder(&self) -> std::path::PathBuf {
        self.state.path().join("calls")
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let token = Some(Token::new("secret".into()));
        let (calls, broken) =
            Calls::open(self.folder(), self.settings.clone(), token, None).expect("a folder");
        assert_eq!(broken, vec![]);
        let _entered = runtime.enter();
        calls.start(Arc::new(Shared(self.fake.clone())), Store::default());
        drop(_entered);
        self.up = Some((runtime, calls));
    }

    /// As by `kill -9`, but for what is on its way to the disk.
    fn restart(&mut self) {
        if let Some((runtime, calls)) = self.up.take() {
            drop(calls);
            runtime.shutdown_timeout(PATIENCE);
        }
        self.start();
    }

    fn up(&self) -> &(Runtime, Arc<Calls>) {
        self.up.as_ref().expect("it is up")
    }

    fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&'static str, &'static str)],
        body: &'static [u8],
    ) -> Answer {
        let (runtime, calls) = self.up();
        let asked = async {
            let body = Full::new(Bytes::from_static(body));
            let body = Buffered::read_from(body, &Store::default(), 1000, u64::MAX, None).await;
            let headers = headers.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    value.parse().expect("a value"),
                )
            });
            let told = calls.clone().tell(Managed {
                method: method.parse().expect("a method"),
                uri: uri.parse().expect("a target"),
                headers: headers.collect(),
                body: body.expect("in memory"),
                client: ClientAddress::Unix,
                base: "http://localhost".into(),
            });
            answer(told.await).await
        };
        let in_time = async { tokio::time::timeout(PATIENCE, asked).await };
        runtime.block_on(in_time).expect("an answer")
    }

    fn begin(&self, uri: &str, body: &'static [u8]) -> String {
        let answer = self.ask("POST", uri, &[], body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let told = answer.json();
        assert_eq!(told["status"], "queued");
        assert_eq!(
            answer.headers["location"],
            told["url"].as_str().expect("a URL")
        );
        told["id"].as_str().expect("an id").to_owned()
    }

    fn status(&self, id: &str) -> Value {
        self.ask("GET", &format!("/calls/{id}"), &[], b"").json()
    }

    /// Waits for its end.
    fn ended(&self, id: &str) -> Value {
        let told = self
            .ask("GET", &format!("/calls/{id}?wait=15"), &[], b"")
            .json();
        assert!(!told["ended"].is_null(), "{told}");
        told
    }

    fn result(&self, id: &str) -> Answer {
        self.ask("GET", &format!("/calls/{id}/result"), &[], b"")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("one").file_name().into_string().expect("text"))
            .collect();
        names.sort_unstable();
        names
    }

    fn kept(&self, id: &str) -> Vec<String> {
        let of_it = |file: String| Some(file.strip_prefix(id)?.to_owned());
        self.files().into_iter().filter_map(of_it).collect()
    }
}

async fn answer(told: Told) -> Answer {
    let (status, cause, headers, body) = match told {
        Told::Json(status, cause, value) => {
            let cause = cause.unwrap_or_default().to_owned();
            (
                status.as_u16(),
                cause,
                HeaderMap::new(),
                value.to_string().into_bytes(),
            )
        }
        Told::Headed(status, headers, value) => {
            let cause = headers
                .get("faucet-error")
                .map(|cause| cause.to_str().expect("text").to_owned());
            let body = value.to_string().into_bytes();
            (status.as_u16(), cause.unwrap_or_default(), *headers, body)
        }
        Told::File(headers, file) => {
            let body = file.collect().await.expect("a file").to_bytes();
            (200, String::new(), *headers, body.to_vec())
        }
        Told::Nothing(_) | Told::Text(_) | Told::WrongMethod(_) => panic!("not asked for"),
    };
    Answer {
        status,
        cause,
        headers,
        body,
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const CSV: Plan = Plan::Answers(200, &[("content-type", "text/csv")], "a,b\n");

#[test]
fn a_call_is_run_and_its_result_kept() {
    let house = House::new(&[("a", &[Plan::Echo]), ("b", &[CSV])]);
    let headers = [
        ("content-type", "text/plain"),
        ("accept", "text/csv"),
        ("cookie", "a=b"),
    ];
    let answer = house.ask("POST", "/async/a", &headers, b"hello");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let told = house.ended(&id);
    assert_eq!(
        (&told["status"], &told["chain"]),
        (&"done".into(), &"a".into()),
        "{told}"
    );
    assert_eq!(told["result"]["length"], 5);
    {
        let seen = house.fake.seen.lock().expect("no panic");
        assert_eq!((seen.len(), &*seen[0].target), (1, "/invoke?chain=a"));
        assert_eq!(seen[0].body, "hello");
        let headers = &seen[0].headers;
        assert_eq!(headers["x-request-id"], id);
        assert_eq!(headers["authorization"], "Bearer secret");
        assert_eq!(
            (&headers["content-type"], &headers["accept"]),
            (
                &"text/plain".parse().expect("one"),
                &"text/csv".parse().expect("one")
            )
        );
        assert!(!headers.contains_key("cookie") && !headers.contains_key("faucet-deadline"));
    }
    assert_eq!(house.result(&id).body, b"hello");
    until("its input is gone", || {
        house.kept(&id) == [".json", ".result"]
    });

    let id = house.begin("/async?chain=b", b"");
    assert_eq!(house.ended(&id)["result"]["type"], "text/csv");
    let result = house.result(&id);
    assert_eq!((result.status, &*result.body), (200, &b"a,b\n"[..]));
    assert_eq!(result.headers["content-type"], "text/csv");

    let gone = house.ask("DELETE", &format!("/calls/{id}"), &[], b"");
    assert_eq!(
        (gone.status, gone.json()["status"].as_str()),
        (200, Some("done"))
    );
    for answer in [
        house.result(&id),
        house.ask("DELETE", &format!("/calls/{id}"), &[], b""),
    ] {
        assert_eq!((answer.status, &*answer.cause), (404, "no_call"));
    }
    assert!(house.kept(&id).is_empty());
}

#[test]
fn files_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new(&[("a", &[Plan::Echo]), ("b", &[Plan::Never])]);
    let done = house.begin("/async/a", b"hello");
    house.ended(&done);
    let running = house.begin("/async/b", b"hello");
    until("it runs", || house.kept(&running) == [".input", ".json"]);
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&house.folder()), 0o700);
    for file in house.files() {
        assert_eq!(mode(&house.folder().join(&file)), 0o600, "{file}");
    }
}

#[test]
fn an_error_is_kept_as_it_was_told() {
    let json = r#"{"error": "object 'x' not found", "stage": 2, "function": "f"}"#;
    let house = House::new(&[
        (
            "a",
            &[Plan::Answers(
                500,
                &[("faucet-error", "function_error")],
                json,
            )],
        ),
        ("b", &[Plan::Answers(502, &[], "")]),
        ("c", &[Plan::BreaksOff]),
    ]);
    let ended = |name: &str| {
        let id = house.begin(&format!("/async/{name}"), b"x");
        let told = house.ended(&id);
        assert_eq!(told["status"], "failed");
        assert_eq!(told["error"]["call_id"], *id);
        let result = house.result(&id);
        assert_eq!((result.status, &*result.cause), (409, "not_done"));
        until("nothing else is kept", || house.kept(&id) == [".json"]);
        told["error"].clone()
    };
    let error = ended("a");
    assert_eq!(error["error"], "object 'x' not found");
    assert_eq!(
        (&error["stage"], &error["function"]),
        (&2.into(), &"f".into())
    );
    assert_eq!(
        (&error["status"], &error["cause"]),
        (&500.into(), &"function_error".into())
    );
    assert_eq!(ended("b")["error"], "Bad Gateway");
    let error = ended("c");
    assert_eq!(error["error"], "the result was broken off: the worker died");
    assert_eq!(error["cause"], "broken_off");
    let unknown = house.ask("POST", "/async/a%7Cmissing", &[], b"x");
    assert_eq!((unknown.status, &*unknown.cause), (404, "no_function"));
}

#[test]
fn what_waited_runs_after_a_restart_and_what_ran_is_lost() {
    let mut house = House::new(&[("never", &[Plan::Never]), ("later", &[Plan::Echo])]);
    let running: Vec<_> = (0..super::AT_ONCE)
        .map(|_| house.begin("/async/never", b"x"))
        .collect();
    until("they run", || house.fake.under_way() == running.len());
    let queued = house.begin("/async/later", b"hello");
    assert_eq!(house.status(&queued)["status"], "queued");
    house.restart();
    assert_eq!(house.ended(&queued)["status"], "done");
    assert_eq!(house.result(&queued).body, b"hello");
    for id in running {
        let told = house.ended(&id);
        assert_eq!(told["status"], "lost", "{told}");
        assert_eq!(told["error"]["cause"], "lost");
        until("its input is gone", || house.kept(&id) == [".json"]);
    }
    // Once each.
    assert_eq!(house.fake.seen(), super::AT_ONCE as usize + 1);
    house.restart();
    assert_eq!(house.result(&queued).body, b"hello");
}

#[test]
fn what_may_be_begun_again_is_but_not_for_ever() {
    let mut house = House::new(&[("never", &[Plan::Never])]);
    let id = house.begin("/async/never?retry=1", b"x");
    for run in 1..=3 {
        until("it runs", || house.fake.seen() == run);
        assert_eq!(house.status(&id)["status"], "running");
        house.restart();
    }
    assert_eq!(house.ended(&id)["status"], "lost");
    assert_eq!(house.fake.seen(), 3);
}

/// They start one after the other, and those who called them are there at once.
#[test]
fn functions_that_are_not_back_yet_are_waited_for() {
    const GONE: Plan = Plan::Answers(404, &[("faucet-error", "no_function")], "");
    let mut house = House::new(&[("a", &[Plan::Never, GONE, Plan::Echo]), ("b", &[GONE])]);
    let id = house.begin("/async/a?retry=1", b"hello");
    until("it runs", || house.fake.under_way() == 1);
    house.restart();
    assert_eq!(house.ended(&id)["status"], "done");
    let id = house.begin("/async/b", b"hello");
    assert_eq!(house.ended(&id)["error"]["cause"], "no_function");
}

#[test]
fn results_expire_and_then_calls_are_forgotten() {
    let mut house = House::new(&[("a", &[Plan::Echo])]);
    let id = house.begin("/async/a?result_ttl=0.2", b"hello");
    house.ended(&id);
    until("it has expired", || {
        house.result(&id).status == 410 || house.result(&id).status == 404
    });
    until("it is forgotten", || house.result(&id).status == 404);
    until("nothing is left", || house.files().is_empty());
    // Those who kept it longer than there was a server, too.
    let id = house.begin("/async/a?result_ttl=0.2", b"hello");
    house.ended(&id);
    std::thread::sleep(Duration::from_millis(500));
    house.restart();
    until("nothing is left", || house.files().is_empty());
    let long = house.begin("/async/a?result_ttl=3600", b"hello");
    house.ended(&long);
    assert_eq!(house.result(&long).status, 200);
    let refused = house.ask("POST", "/async/a?result_ttl=3601", &[], b"");
    assert_eq!((refused.status, &*refused.cause), (400, "bad_request"));
}

#[test]
fn what_has_expired_is_told_as_gone() {
    let mut house = House::new(&[("a", &[Plan::Echo])]);
    house.settings.result_ttl = Duration::from_millis(300);
    house.restart();
    let id = house.begin("/async/a", b"hello");
    until("it is gone", || {
        let result = house.result(&id);
        let told = house.status(&id);
        match result.status {
            410 => {
                assert_eq!(result.cause, "gone");
                assert_eq!(
                    (&told["status"], &told["result"]),
                    (&"done".into(), &Value::Null)
                );
                true
            }
            404 => panic!("it was never told"),
            _ => false,
        }
    });
}

#[test]
fn there_is_room_for_so_much() {
    let settings = Settings {
        max_calls: 2,
        max_results: 12,
        ..Settings::default()
    };
    let house = House::with(
        &[
            ("a", &[Plan::Echo]),
            ("b", &[Plan::Answers(200, &[], "seven77")]),
        ],
        settings,
    );
    let full = |uri: &str, body: &'static [u8]| {
        let answer = house.ask("POST", uri, &[], body);
        assert_eq!(
            (answer.status, &*answer.cause),
            (503, "calls_full"),
            "{answer:?}"
        );
        assert!(answer.headers.contains_key("retry-after"));
    };
    full("/async/a", b"thirteenbytes");
    let first = house.begin("/async/a", b"123456");
    assert_eq!(house.ended(&first)["status"], "done");
    full("/async/a", b"1234567");
    let second = house.begin("/async/b", b"");
    let told = house.ended(&second);
    assert_eq!(
        (&told["status"], &told["error"]["cause"]),
        (&"failed".into(), &"calls_full".into())
    );
    full("/async/b", b"");
    house.ask("DELETE", &format!("/calls/{first}"), &[], b"");
    house.ask("DELETE", &format!("/calls/{second}"), &[], b"");
    let third = house.begin("/async/b", b"");
    assert_eq!(house.ended(&third)["status"], "done");
}

#[test]
fn a_call_is_cancelled_wherever_it_is() {
    let house = House::new(&[("never", &[Plan::Never]), ("later", &[Plan::Echo])]);
    let running: Vec<_> = (0..super::AT_ONCE)
        .map(|_| house.begin("/async/never", b"x"))
        .collect();
    until("they run", || house.fake.under_way() == running.len());
    let queued = house.begin("/async/later", b"x");
    let cancel = |id: &str| {
        let answer = house.ask("DELETE", &format!("/calls/{id}"), &[], b"");
        assert_eq!(
            (answer.status, answer.json()["status"].as_str()),
            (200, Some("cancelled"))
        );
        until("nothing else is kept", || house.kept(id) == [".json"]);
    };
    cancel(&queued);
    for id in &running {
        cancel(id);
    }
    until("nobody waits any more", || house.fake.under_way() == 0);
    // There is room again, and what was cancelled was never run.
    let other = house.begin("/async/later", b"other");
    assert_eq!(house.ended(&other)["status"], "done");
    assert_eq!(house.fake.seen(), running.len() + 1);
    assert_eq!(house.status(&queued)["status"], "cancelled");
}

#[test]
fn what_nobody_has_worked_on_is_tried_again() {
    const FULL: Plan = Plan::Answers(
        503,
        &[("faucet-error", "queue_full")],
        r#"{"error": "full", "stage": 1}"#,
    );
    const LATER: Plan = Plan::Answers(
        503,
        &[("faucet-error", "queue_full")],
        r#"{"error": "full", "stage": 2}"#,
    );
    const OWN: Plan = Plan::Answers(503, &[], "own");
    let house = House::new(&[
        ("a", &[FULL, Plan::Echo]),
        ("b", &[LATER, Plan::Echo]),
        ("c", &[OWN]),
    ]);
    let again = house.begin("/async/a", b"hello");
    let retried = house.begin("/async/b?retry=1", b"hello");
    assert_eq!(house.ended(&again)["status"], "done");
    assert_eq!(house.ended(&retried)["status"], "done");
    assert_eq!(house.fake.seen(), 4);
    // What it is that has worked is not known, or it is too late.
    let house = House::new(&[("b", &[LATER]), ("c", &[OWN]), ("d", &[FULL])]);
    for uri in ["/async/b", "/async/c", "/async/d?timeout=0.5"] {
        let id = house.begin(uri, b"x");
        let told = house.ended(&id);
        assert_eq!(
            (&told["status"], &told["error"]["status"]),
            (&"failed".into(), &503.into())
        );
    }
    assert_eq!(house.fake.seen(), 3);
}

#[test]
fn a_call_has_so_much_time() {
    let house = House::new(&[("never", &[Plan::Never]), ("a", &[Plan::Echo])]);
    let id = house.begin("/async/never?timeout=0.05", b"x");
    let told = house.ended(&id);
    let (status, cause) = (&told["status"], &told["error"]["cause"]);
    assert_eq!((status, cause), (&"failed".into(), &"timeout".into()));
    let id = house.begin("/async/a?timeout=600", b"x");
    assert_eq!(house.ended(&id)["status"], "done");
    let seen = house.fake.seen.lock().expect("no panic");
    // Of the other there may have been none.
    let last = seen.last().expect("one");
    let left = last.headers["faucet-deadline"].to_str().expect("text");
    let left = left.parse::<f64>().expect("seconds");
    assert!(left > 0.0 && left <= 600.0, "{left}");
}

#[test]
fn what_runs_may_finish_when_the_server_ends_and_what_waits_stays() {
    let mut house = House::new(&[("a", &[Plan::Echo]), ("never", &[Plan::Never])]);
    let running: Vec<_> = (0..super::AT_ONCE)
        .map(|_| house.begin("/async/never", b"x"))
        .collect();
    until("they run", || house.fake.under_way() == running.len());
    let queued = house.begin("/async/a", b"hello");
    let (runtime, calls) = house.up();
    calls.close();
    let refused = house.ask("POST", "/async/a", &[], b"");
    assert_eq!((refused.status, &*refused.cause), (503, "draining"));
    let idle = async { tokio::time::timeout(Duration::from_millis(50), calls.idle()).await };
    runtime.block_on(idle).expect_err("some run");
    for id in &running {
        house.ask("DELETE", &format!("/calls/{id}"), &[], b"");
    }
    let idle = async { tokio::time::timeout(PATIENCE, calls.idle()).await };
    runtime.block_on(idle).expect("none runs");
    assert_eq!(house.status(&queued)["status"], "queued");
    house.restart();
    assert_eq!(house.ended(&queued)["status"], "done");
}

/// A server that answers so often, with these statuses, and what it was sent.
fn listener(statuses: &'static [u16]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().expect("a client");
            let (mut text, mut byte) = (String::new(), [0]);
            // The body is JSON of one line, which ends here.
            while !text.contains("\r\n\r\n{")
                || text.matches('{').count() > text.matches('}').count()
            {
                stream.read_exact(&mut byte).expect("more");
                text.push(byte[0].into());
            }
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("written");
            seen.push(text);
        }
        seen
    });
    (url, served)
}

fn with_callbacks(urls: &[&str]) -> Settings {
    Settings {
        callbacks: urls
            .iter()
            .map(|url| CallbackUrl::parse(url).expect("a URL"))
            .collect(),
        pauses: vec![Duration::from_millis(1); 2],
        ..Settings::default()
    }
}

fn callback_of(house: &House, id: &str) -> (String, u64) {
    let told = house.status(id);
    let callback = &told["callback"];
    let status = callback["status"].as_str().expect("one").to_owned();
    (status, callback["tries"].as_u64().expect("a number"))
}

#[test]
fn the_end_of_a_call_is_told() {
    let (url, served) = listener(&[500, 204]);
    let plans: &[(&'static str, &[Plan])] = &[("a", &[Plan::Echo])];
    let house = House::with(plans, with_callbacks(&[&url]));
    let callback = format!("{url}/done?key=1")
        .replace("?", "%3F")
        .replace("=", "%3D");
    let id = house.begin(&format!("/async/a?callback={callback}"), b"hello");
    let seen = served.join().expect("no panic");
    until("it was told", || {
        callback_of(&house, &id) == ("delivered".into(), 2)
    });
    assert!(
        seen[1].starts_with("POST /done?key=1 HTTP/1.1\r\n"),
        "{}",
        seen[1]
    );
    assert!(!seen[1].to_lowercase().contains("authorization"));
    let (_, body) = seen[1].split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (&body["id"], &body["status"]),
        (&(*id).into(), &"done".into())
    );
    assert_eq!(body["result"]["length"], 5);
}

#[test]
fn who_does_not_want_to_be_told_is_asked_three_times() {
    // A redirect is followed nowhere.
    let (url, served) = listener(&[500, 302, 404]);
    let plans: &[(&'static str, &[Plan])] = &[("a", &[Plan::Echo])];
    let house = House::with(plans, with_callbacks(&[&url]));
    let id = house.begin(&format!("/async/a?callback={url}"), b"hello");
    assert_eq!(served.join().expect("no panic").len(), 3);
    until("it is given up", || {
        callback_of(&house, &id) == ("failed".into(), 3)
    });
    assert_eq!(house.status(&id)["status"], "done");
}

#[test]
fn an_end_that_was_not_told_yet_is_told_after_a_restart() {
    let (url, served) = listener(&[200]);
    let plans: &[(&'static str, &[Plan])] = &[("never", &[Plan::Never])];
    let mut house = House::with(plans, with_callbacks(&[&url]));
    let id = house.begin(&format!("/async/never?callback={url}"), b"hello");
    until("it runs", || house.fake.under_way() == 1);
    house.restart();
    let seen = served.join().expect("no panic");
    assert!(seen[0].contains(r#""status":"lost""#), "{}", seen[0]);
    until("it was told", || {
        callback_of(&house, &id) == ("delivered".into(), 1)
    });
}

#[test]
fn only_urls_that_are_allowed_are_called() {
    let plans: &[(&'static str, &[Plan])] = &[("a", &[Plan::Echo])];
    let house = House::new(plans);
    let refused = |house: &House, url: &str| {
        let answer = house.ask("POST", &format!("/async/a?callback={url}"), &[], b"");
        assert_eq!(
            (answer.status, &*answer.cause),
            (400, "callback_refused"),
            "{url}"
        );
    };
    refused(&house, "http://127.0.0.1:9000/deploy");
    let house = House::with(plans, with_callbacks(&["https://hooks.example/faucet"]));
    for url in [
        "http://hooks.example/faucet",
        "https://hooks.example/other",
        "https://hooks.example.evil.example/faucet",
        "https://hooks.example/faucet/../other",
        "http://169.254.169.254/latest/meta-data",
    ] {
        refused(&house, url);
    }
}

#[test]
fn what_belongs_to_no_call_is_removed() {
    let mut house = House::new(&[("a", &[Plan::Echo])]);
    let id = house.begin("/async/a", b"hello");
    house.ended(&id);
    let orphan = house.folder().join(format!("{}.input", "0".repeat(32)));
    let left = house.folder().join(format!("{id}.input"));
    let foreign = house.folder().join("notes.txt");
    for path in [&orphan, &left, &foreign] {
        std::fs::write(path, "x").expect("written");
    }
    house.restart();
    assert!(!orphan.exists() && !left.exists() && foreign.exists());
    assert_eq!(house.result(&id).body, b"hello");
}

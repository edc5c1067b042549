//! Traces: what a client says of one reaches workers, and a collector is told of each request and each stage of a chain.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use common::agent::{ask, Agent};
use common::collector::{CollectedSpan, Collector};
use common::local::wait_until;
use common::{house, Upstream};
use faucet_core::traces::TraceSettings;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traced(collector: &str) -> Agent {
    let settings = TraceSettings::parse(collector).expect("a URL");
    Agent::start_with(
        |_| {},
        |server| {
            server.otlp = Some(settings);
            server.admin_port = Some(0);
        },
    )
}

fn deploy(agent: &Agent, name: &str, script: &str) {
    let definition = serde_json::json!({
        "name": name,
        "command": ["sh", "-c", script],
        "workers": [0, 3],
    });
    let answer = agent.deploy(&definition.to_string());
    assert_eq!(answer["status"], "deployed", "{answer}");
}

/// Calls a chain by an id of the test's own.
fn invoke(agent: &Agent, chain: &str, id: &str, headers: &str) -> (u16, String) {
    let chain = utf8_percent_encode(chain, NON_ALPHANUMERIC);
    let headers = format!("X-Request-Id: {id}\r\n{headers}");
    agent.ask_with("POST", &format!("/invoke?chain={chain}"), &headers, b"text")
}

fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> Vec<&'a CollectedSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[test]
fn a_chain_is_one_trace() {
    let collector = Collector::start();
    let agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    assert_eq!(invoke(&agent, "cat | cat | cat", "one", "").0, 200);
    let spans = collector.of_call("one", 4);
    let [call] = named(&spans, "invoke")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!((call.parent.as_str(), call.kind), ("", 2));
    assert_eq!(call.attribute("faucet.chain"), "cat | cat | cat");
    let mut ids = vec![call.span.clone()];
    for stage in named(&spans, "cat") {
        assert_eq!((&stage.trace, &stage.parent), (&call.trace, &call.span));
        assert_eq!(stage.kind, 1);
        assert_eq!(stage.attribute("faucet.function"), "cat");
        assert_eq!(stage.attribute("http.response.status_code"), "200");
        let waited: f64 = stage
            .attribute("faucet.queue_seconds")
            .parse()
            .expect("a number");
        assert!(waited >= 0.0);
        assert!(!stage.attribute("faucet.worker").is_empty(), "{stage:#?}");
        assert!(
            call.start <= stage.start && stage.start <= stage.end,
            "{spans:#?}"
        );
        ids.push(stage.span.clone());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(spans.iter().all(|span| !span.is_error), "{spans:#?}");
    assert_eq!(collector.resource()["service.name"], "faucet");
}

#[test]
fn a_stage_that_fails_is_an_error() {
    let collector = Collector::start();
    let agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    deploy(&agent, "fails", "cat > /dev/null; exit 3");
    deploy(&agent, "breaks", "cat; sleep 0.2; exit 3");
    assert_eq!(invoke(&agent, "cat | fails | cat", "before", "").0, 500);
    let spans = collector.of_call("before", 3);
    for (name, is_error) in [("cat", false), ("fails", true), ("invoke", true)] {
        let [span] = named(&spans, name)[..] else {
            panic!("{name}: {spans:#?}");
        };
        assert_eq!(span.is_error, is_error, "{span:#?}");
        let cause = if is_error { "function_error" } else { "" };
        assert_eq!(span.attribute("faucet.cause"), cause);
    }
    // It has answered with success already.
    assert_eq!(invoke(&agent, "cat | breaks", "after", "").0, 200);
    let spans = collector.of_call("after", 3);
    for name in ["breaks", "invoke"] {
        assert!(named(&spans, name)[0].is_error, "{spans:#?}");
    }
    // A client's own fault is none of ours.
    let (status, _) = agent.ask_with("POST", "/functions/cat?n=1", "X-Request-Id: own\r\n", b"x");
    assert_eq!(status, 400);
    let [span] = &collector.of_call("own", 1)[..] else {
        panic!("one");
    };
    assert!(!span.is_error);
    assert_eq!(span.attribute("faucet.cause"), "bad_option");
}

#[test]
fn a_clients_trace_goes_on() {
    let collector = Collector::start();
    let agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    let unrecorded = format!("Traceparent: 00-{TRACE}-{SPAN}-00\r\n");
    assert_eq!(invoke(&agent, "cat | cat", "not", &unrecorded).0, 200);
    let parent = format!("Traceparent: 00-{TRACE}-{SPAN}-01\r\n");
    assert_eq!(invoke(&agent, "cat | cat", "given", &parent).0, 200);
    let spans = collector.of_call("given", 3);
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert_eq!(named(&spans, "invoke")[0].parent, SPAN);
    // A function is called as well.
    let headers = format!("X-Request-Id: alone\r\n{parent}");
    assert_eq!(
        agent.ask_with("POST", "/functions/cat", &headers, b"x").0,
        200
    );
    let [span] = &collector.of_call("alone", 1)[..] else {
        panic!("one");
    };
    assert_eq!((&*span.parent, &*span.name, span.kind), (SPAN, "cat", 2));
    // Spans come in the order of their ends: what there is of the first call is there.
    assert!(collector
        .spans()
        .iter()
        .all(|span| span.attribute("faucet.call_id") != "not"));
}

/// A service that answers with 200, and what it was asked.
fn service() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.expect("a connection"), seen.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
                let mut head = String::new();
                while let Some(Ok(line)) = lines.next() {
                    if !line.is_empty() {
                        head.push_str(&line.to_lowercase());
                        head.push('\n');
                        continue;
                    }
                    seen.lock()
                        .expect("no panic")
                        .push(std::mem::take(&mut head));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if (&stream).write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, heads)
}

fn deploy_service(agent: &Agent, address: SocketAddr) {
    let url = format!("http://{address}");
    let definition = serde_json::json!({"name": "service", "url": url});
    let answer = agent.deploy(&definition.to_string());
    assert_eq!(answer["status"], "deployed", "{answer}");
}

/// What a call by that id has said of its trace to the worker.
fn told(heads: &Mutex<Vec<String>>, id: &str) -> Option<String> {
    let heads = heads.lock().expect("no panic");
    let head = heads
        .iter()
        .find(|head| head.contains(&format!("x-request-id: {id}\n")));
    let head = head.unwrap_or_else(|| panic!("no {id} in {heads:?}"));
    let mut parents = head
        .lines()
        .filter_map(|line| line.strip_prefix("traceparent: "));
    let parent = parents.next().map(str::to_owned);
    assert_eq!(parents.next(), None, "{head}");
    parent
}

#[test]
fn a_worker_is_told_the_span_of_its_stage() {
    let collector = Collector::start();
    let agent = traced(&collector.url());
    let (address, heads) = service();
    deploy_service(&agent, address);
    let headers = format!("Traceparent: 00-{TRACE}-{SPAN}-01\r\n");
    assert_eq!(invoke(&agent, "service", "given", &headers).0, 200);
    let spans = collector.of_call("given", 2);
    let stage = &named(&spans, "service")[0].span;
    assert_eq!(
        told(&heads, "given"),
        Some(format!("00-{TRACE}-{stage}-01"))
    );
    // One that is not sound is nobody's parent.
    let headers = "Traceparent: 00-nonsense-01\r\n";
    assert_eq!(invoke(&agent, "service", "unsound", headers).0, 200);
    let spans = collector.of_call("unsound", 2);
    assert_eq!(named(&spans, "invoke")[0].parent, "");
    let stage = named(&spans, "service")[0];
    let own = format!("00-{}-{}-01", stage.trace, stage.span);
    assert_eq!(told(&heads, "unsound"), Some(own));
}

#[test]
fn without_a_collector_stages_are_in_a_trace_too() {
    let agent = Agent::start(|_| {});
    let (address, heads) = service();
    deploy_service(&agent, address);
    let given = format!("00-{TRACE}-{SPAN}-01");
    let headers = format!("Traceparent: {given}\r\n");
    assert_eq!(invoke(&agent, "service", "given", &headers).0, 200);
    assert_eq!(told(&heads, "given"), Some(given));
    assert_eq!(invoke(&agent, "service", "none", "").0, 200);
    let own = told(&heads, "none").expect("one of its own");
    assert!(own.len() == 55 && own.ends_with("-00"), "{own}");
}

#[tokio::test]
async fn what_a_client_says_of_a_trace_is_passed_on_if_it_is_sound() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let sound = format!("00-{TRACE}-{SPAN}-01");
    let later = format!("01-{TRACE}-{SPAN}-01-more");
    let twice = format!("{sound}\r\nTraceparent: {sound}");
    for (said, passes) in [
        (&*sound, true),
        (&*later, true),
        (&*twice, false),
        ("nonsense", false),
        ("", false),
    ] {
        let mut client = house.client().await;
        let state = "Tracestate: a=1\r\nTracestate: b=2\r\n";
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nTraceparent: {said}\r\n{state}\r\n");
        client.send(head).await;
        assert_eq!(client.response().await.status, 200);
        let seen = worker.last();
        assert_eq!(seen.header("traceparent"), passes.then_some(said), "{said}");
        assert_eq!(
            seen.count("tracestate"),
            if passes { 2 } else { 0 },
            "{said}"
        );
    }
}

#[test]
fn a_collector_that_fails_is_told_of_once_and_again_when_it_is_back() {
    let collector = Collector::answering(|number| if number < 2 { 503 } else { 200 });
    let mut agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    assert_eq!(invoke(&agent, "cat", "first", "").0, 200);
    agent.until_logged("status 503");
    // What it has refused is sent again.
    collector.of_call("first", 2);
    agent.until_logged("again");
    let said = agent.lines.iter().filter(|line| line.contains("spans"));
    assert_eq!(said.count(), 2, "{:?}", agent.lines);
}

#[test]
fn what_a_collector_does_not_want_is_counted() {
    let collector = Collector::answering(|_| 400);
    let mut agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    assert_eq!(invoke(&agent, "cat | cat", "first", "").0, 200);
    let admin = agent.server().admin_url().expect("a port");
    wait_until("three spans were dropped", || {
        let (_, metrics) = ask(&admin, "GET", "/metrics", "", b"");
        metrics
            .lines()
            .any(|line| line == "faucet_spans_dropped_total 3")
    });
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    // Connections are taken by the system alone.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut agent = traced(&url);
    deploy(&agent, "cat", "cat");
    let connection = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept().expect("a connection"));
        while !accepting.is_finished() {
            assert_eq!(invoke(&agent, "cat | cat", "call", "").0, 200);
        }
        accepting.join().expect("one")
    });
    // It has a batch, and does not answer.
    for _ in 0..5 {
        assert_eq!(invoke(&agent, "cat | cat", "call", "").0, 200);
    }
    agent.kill();
    drop(connection);
}

#[test]
fn the_last_spans_are_sent_when_a_server_ends() {
    let collector = Collector::start();
    let mut agent = traced(&collector.url());
    deploy(&agent, "cat", "cat");
    assert_eq!(invoke(&agent, "cat", "last", "").0, 200);
    agent.kill();
    collector.of_call("last", 2);
}

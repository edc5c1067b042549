//! Chains: functions composed like a shell's pipe, at an agent whose functions are programs.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::agent::{Agent, Answer};
use common::local::wait_until;
use common::PATIENCE;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::Value;

fn deploy(agent: &Agent, name: &str, script: &str, workers: &str) {
    let definition = serde_json::json!({
        "name": name,
        "command": ["sh", "-c", script],
        "workers": serde_json::from_str::<Value>(workers).expect("JSON"),
    });
    let answer = agent.deploy(&definition.to_string());
    assert_eq!(answer["status"], "deployed", "{answer}");
}

fn path(chain: &str) -> String {
    let chain = utf8_percent_encode(chain, NON_ALPHANUMERIC);
    format!("/invoke?chain={chain}")
}

fn invoke(agent: &Agent, chain: &str, input: &[u8]) -> Answer {
    agent.ask("POST", &path(chain), input)
}

fn failed(agent: &Agent, chain: &str, input: &[u8]) -> (u16, Value) {
    let (status, answer) = invoke(agent, chain, input);
    let error = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("no JSON: {answer}"));
    (status, error)
}

/// Waits until each function, which has one worker, answers.
fn until_free(agent: &Agent, functions: &[&str]) {
    for function in functions {
        wait_until(function, || {
            let status = agent.json("GET", &format!("/details?name={function}"), "");
            status[0]["queue"] == 0
        });
        let (status, answer) = agent.ask("POST", &format!("/functions/{function}"), b"free\n");
        assert_eq!(status, 200, "{function}: {answer}");
    }
}

#[test]
fn both_forms_are_called() {
    let agent = Agent::start(|_| {});
    let sed = r#"{"name": "sed", "command": ["sed"], "options": ["e="]}"#;
    assert_eq!(agent.deploy(sed)["status"], "deployed");
    deploy(&agent, "to-upper", "tr a-z A-Z", "[0, 1]");
    for chain in [
        "sed e=s/hate/love/ | to-upper",
        "sed(e = 's/hate/love/') | to_upper",
        "sed e='s/I hate/I love/'|to-upper",
    ] {
        let answer = invoke(&agent, chain, b"I hate this\n");
        assert_eq!(answer, (200, "I LOVE THIS\n".into()), "{chain}");
    }
    assert_eq!(invoke(&agent, "to-upper", b""), (200, String::new()));
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let agent = Agent::start(|_| {});
    let ran = agent.state.path().join("ran");
    deploy(
        &agent,
        "touch",
        &format!("touch {}; cat", ran.display()),
        "[0, 1]",
    );
    let (status, error) = failed(&agent, "touch | | touch", b"x");
    assert_eq!((status, &error["column"]), (400, &9.into()), "{error}");
    let (status, error) = failed(&agent, "touch | nope", b"x");
    assert_eq!((status, &error["stage"]), (404, &2.into()), "{error}");
    assert_eq!(error["function"], "nope");
    let (status, error) = failed(&agent, "touch | touch(n = 1)", b"x");
    assert_eq!((status, &error["option"]), (400, &"n".into()), "{error}");
    let (status, _) = failed(&agent, "http://evil/ | touch", b"x");
    assert_eq!(status, 400);
    for query in [
        "",
        "chain=touch&chain=touch",
        "chain=touch&buffer=maybe",
        "chain=touch&timeout=x",
        "x=1",
    ] {
        let (status, answer) = agent.ask("POST", &format!("/invoke?{query}"), b"x");
        assert_eq!(status, 400, "{query}: {answer}");
    }
    assert_eq!(agent.ask("GET", &path("touch"), b"").0, 405);
    assert!(!ran.exists());
    assert_eq!(invoke(&agent, "touch", b"x").0, 200);
    assert!(ran.exists());
}

#[test]
fn a_chain_is_called_by_those_who_may_call() {
    let agent = Agent::start(|agent| {
        agent.access.token = Some(faucet_core::token::Token::new("deploy".into()));
        agent.access.call_token = Some(faucet_core::token::Token::new("call".into()));
    });
    let cat = br#"{"name": "cat", "command": ["cat"]}"#;
    let deploys = "Authorization: Bearer deploy\r\n";
    assert_eq!(
        agent.ask_with("POST", "/deploy?wait=60", deploys, cat).0,
        200
    );
    assert_eq!(invoke(&agent, "cat | cat", b"x").0, 401);
    for token in ["deploy", "call"] {
        let shown = format!("Authorization: Bearer {token}\r\n");
        let answer = agent.ask_with("POST", &path("cat | cat"), &shown, b"x");
        assert_eq!(answer, (200, "x".into()), "{token}");
    }
}

#[test]
fn a_stage_that_fails_before_the_first_byte_is_named() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 2]");
    deploy(&agent, "fails", "cat > /dev/null; exit 3", "[0, 1]");
    for (chain, stage) in [
        ("fails | cat | cat", 1),
        ("cat | fails | cat", 2),
        ("cat | cat | fails", 3),
    ] {
        let (status, error) = failed(&agent, chain, b"x");
        assert_eq!((status, &error["stage"]), (500, &stage.into()), "{error}");
        assert_eq!(error["function"], "fails");
        assert!(
            error["error"].as_str().expect("text").contains("status 3"),
            "{error}"
        );
        assert!(error["call_id"].as_str().is_some_and(|id| !id.is_empty()));
    }
    until_free(&agent, &["cat"]);
}

#[test]
fn a_stage_that_fails_after_the_first_byte_breaks_the_answer_off() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 2]");
    deploy(&agent, "breaks", "cat; sleep 0.2; exit 3", "[0, 1]");
    for chain in [
        "breaks | cat | cat",
        "cat | breaks | cat",
        "cat | cat | breaks",
    ] {
        let (complete, _) = raw(&agent, &path(chain), b"some text");
        assert!(!complete, "{chain}");
        let (status, error) = {
            let (status, answer) =
                agent.ask("POST", &format!("{}&buffer=1", path(chain)), b"some text");
            (
                status,
                serde_json::from_str::<Value>(&answer).expect("JSON"),
            )
        };
        assert_eq!(status, 502, "{error}");
        assert_eq!(error["function"], "breaks", "{chain}: {error}");
    }
    until_free(&agent, &["cat"]);
}

/// Whether the chunks of an answer have their end, and what came.
fn raw(agent: &Agent, path: &str, body: &[u8]) -> (bool, String) {
    let mut stream = connect(agent);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.ends_with("0\r\n\r\n"), answer)
}

fn connect(agent: &Agent) -> TcpStream {
    let url = agent.url();
    let stream = TcpStream::connect(url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

#[test]
fn stages_stream() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 3]");
    let mut stream = connect(&agent);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        path("cat | cat | cat")
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // Each piece comes back before the next is sent.
    let mut seen = String::new();
    for piece in ["one", "two", "three"] {
        write!(stream, "{:x}\r\n{piece}\r\n", piece.len()).expect("sent");
        while !seen.ends_with(&format!("{piece}\r\n")) {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).expect("bytes");
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    while !seen.ends_with("0\r\n\r\n") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("bytes");
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
fn a_function_that_does_not_read_all_answers_all_the_same() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 1]");
    deploy(&agent, "head", "head -c 5", "[0, 2]");
    let text = "0123456789".repeat(300_000);
    for chain in ["head", "cat | head", "head | cat", "head | head"] {
        for _ in 0..5 {
            let answer = invoke(&agent, chain, text.as_bytes());
            assert_eq!(answer, (200, "01234".into()), "{chain}");
        }
    }
    until_free(&agent, &["cat", "head"]);
}

#[test]
fn half_an_input_is_never_taken_for_all_of_it() {
    let agent = Agent::start(|_| {});
    let done = agent.state.path().join("done");
    deploy(&agent, "breaks", "printf half; sleep 0.1; exit 3", "[0, 1]");
    let keep = format!("trap '' TERM; text=$(cat); echo $text > {}", done.display());
    deploy(&agent, "keep", &keep, "[0, 1]");
    for _ in 0..10 {
        let (status, error) = failed(&agent, "breaks | keep", b"x");
        assert_eq!((status, &error["stage"]), (502, &1.into()), "{error}");
    }
    assert!(!done.exists());
    until_free(&agent, &["keep"]);
}

#[test]
fn a_deadline_reaches_every_stage() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 1]");
    deploy(&agent, "sleeps", "cat > /dev/null; sleep 60", "[0, 1]");
    let late = |headers: &str, query: &str| {
        let path = format!("{}{query}", path("cat | sleeps"));
        let (status, answer) = agent.ask_with("POST", &path, headers, b"x");
        let error: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &error["stage"]), (504, &2.into()), "{error}");
    };
    late("Faucet-Deadline: 0.3\r\n", "");
    late("", "&timeout=0.3");
    // Its worker is busy no longer than it has to end.
    late("Faucet-Deadline: 60\r\n", "&timeout=0.3");
    let (status, answer) = agent.ask_with("POST", &path("cat"), "Faucet-Deadline: soon\r\n", b"x");
    assert_eq!(status, 400, "{answer}");
    until_free(&agent, &["cat"]);
}

#[test]
fn a_client_that_leaves_ends_all_stages() {
    let agent = Agent::start(|_| {});
    deploy(&agent, "cat", "cat", "[0, 1]");
    deploy(&agent, "tac", "tac", "[0, 1]");
    for chain in ["cat | tac", "tac | cat", "cat"] {
        let mut stream = connect(&agent);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
            path(chain)
        );
        stream.write_all(head.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
        until_free(&agent, &["cat", "tac"]);
    }
}

#[test]
fn a_function_may_be_in_a_chain_twice_with_one_worker() {
    let agent = Agent::start(|agent| agent.limits.max_body = 4 << 20);
    deploy(&agent, "cat", "cat", "[0, 1]");
    let text = "0123456789abcdef".repeat(100_000);
    let (status, answer) = invoke(&agent, "cat | cat | cat", text.as_bytes());
    assert_eq!((status, answer.len()), (200, text.len()));
    // What is not kept is not cut.
    let text = text.repeat(4);
    let (status, error) = failed(&agent, "cat | cat", text.as_bytes());
    assert_eq!((status, &error["stage"]), (413, &2.into()), "{error}");
    until_free(&agent, &["cat"]);
}

#[test]
fn chains_that_cross_all_end() {
    const THREADS: usize = 8;
    const CALLS: usize = 40;
    let agent = Agent::start(|_| {});
    let names = ["a", "b", "c", "d"];
    for name in names {
        deploy(&agent, name, "cat", "[0, 1]");
    }
    let chains = [
        "a | b",
        "b | a",
        "a | b | c | d",
        "d | c | b | a",
        "c | a | c",
        "b | d",
    ];
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (agent, answered) = (&agent, &answered);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let chain = chains[(thread + call) % chains.len()];
                    let text = format!("{thread} {call} ").repeat(1000);
                    if (thread + call) % 2 == 0 {
                        assert_eq!(invoke(agent, chain, text.as_bytes()), (200, text));
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // It leaves at some time.
                        let mut stream = connect(agent);
                        let head = format!(
                            "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                            path(chain),
                            text.len()
                        );
                        stream.write_all(head.as_bytes()).expect("sent");
                        let _ = stream.write_all(&text.as_bytes()[..text.len() / 2]);
                        std::thread::sleep(Duration::from_millis((call % 7) as u64));
                    }
                }
            });
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed), THREADS * CALLS / 2);
    until_free(&agent, &names);
}

//! Chains over several agents: what flows between two stages goes from agent to agent, where they reach each other.

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::agent::{ask, Agent, Answer};
use common::local::wait_until;
use common::proxy::{name_of, Proxy};
use common::tls::{Authority, Files};
use common::PATIENCE;
use faucet_core::front::Networks;
use faucet_core::functions::fleet::AgentName;
use faucet_core::offers::{CallsSettings, HubAddress};
use faucet_core::ops::access::Format;
use faucet_core::server::{AgentSettings, Server, Settings};
use faucet_core::token::Token;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::{json, Value};

const KEPT: &str = "/__faucet__/kept/";

fn logging(settings: &mut Settings) {
    settings.fronts = Networks::parse(&["127.0.0.0/8"]).expect("a network");
    settings.access_log = Some(Format::Json);
}

fn agent() -> Agent {
    Agent::start_with(|_| {}, logging)
}

/// A proxy over agents, by the addresses that it is to know them by, and what it has said.
struct Setup {
    proxy: Proxy,
    lines: Vec<String>,
}

impl Setup {
    fn of(agents: &[AgentName]) -> Self {
        let mut proxy = Proxy {
            server: None,
            state: tempfile::tempdir().expect("a folder"),
            agents: agents.to_vec(),
        };
        proxy.start_with(|_| {}, logging);
        for agent in agents {
            proxy.agent_is(agent, "up");
        }
        Self {
            proxy,
            lines: Vec::new(),
        }
    }

    fn over(agents: &[&Agent]) -> Self {
        Self::of(
            &agents
                .iter()
                .map(|agent| name_of(agent))
                .collect::<Vec<_>>(),
        )
    }

    fn define(&self, definition: &Value) {
        let answer = self
            .proxy
            .json("POST", "/deploy?wait=60", &definition.to_string());
        assert_eq!(answer[0]["status"], "deployed", "{answer}");
    }

    /// A program with one worker.
    fn deploy(&self, name: &str, script: &str, to: &AgentName) {
        self.define(&json!({
            "name": name,
            "command": ["sh", "-c", script],
            "workers": [0, 1],
            "toAgent": to.as_str(),
        }));
        // Whatever it answers, its agent is known then.
        self.proxy
            .ask("POST", &format!("/functions/{name}"), b"free\n");
    }

    fn invoke(&self, chain: &str, input: &[u8]) -> Answer {
        self.proxy.ask("POST", &path(chain), input)
    }

    fn log(&mut self) -> &[String] {
        take_lines(self.proxy.server.as_ref(), &mut self.lines);
        &self.lines
    }

    /// The line of the access log of a function's last call.
    fn entry(&mut self, function: &str) -> Value {
        let path = format!("/functions/{function}");
        let mut found = Value::Null;
        wait_until("it is in the access log", || {
            found = last_entry(self.log(), &path).unwrap_or_default();
            !found.is_null()
        });
        // The next one is another's.
        self.lines.clear();
        found
    }

    fn warnings(&mut self) -> usize {
        let log = self.log().iter();
        log.filter(|line| line.contains("cannot take from agent"))
            .count()
    }

    /// Waits until these functions, each with one worker, are at work on nothing, and work.
    fn until_free(&self, functions: &[&str]) {
        for function in functions {
            let path = format!("/functions/{function}");
            let answer = self.proxy.ask("POST", &path, b"free\n");
            assert_eq!(answer.0, 200, "{function}: {answer:?}");
        }
    }
}

fn take_lines(server: Option<&Server>, lines: &mut Vec<String>) {
    let server = server.expect("it runs");
    lines.extend(server.take_lines().0.into_iter().map(|line| line.text));
}

fn last_entry(lines: &[String], path: &str) -> Option<Value> {
    let entries = lines.iter().rev();
    let mut entries = entries.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.find(|entry| {
        entry["path"]
            .as_str()
            .is_some_and(|known| known.starts_with(path))
    })
}

fn path(chain: &str) -> String {
    let chain = utf8_percent_encode(chain, NON_ALPHANUMERIC);
    format!("/invoke?chain={chain}")
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// A request whose body is sent bit by bit.
struct Call {
    stream: TcpStream,
    seen: String,
}

impl Call {
    fn begin(url: &str, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(authority(url)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
        )
        .expect("sent");
        Self {
            stream,
            seen: String::new(),
        }
    }

    fn invoke(setup: &Setup, chain: &str) -> Self {
        Self::begin(&setup.proxy.url(), &path(chain), "Connection: close\r\n")
    }

    fn send(&mut self, piece: &str) {
        write!(self.stream, "{:x}\r\n{piece}\r\n", piece.len()).expect("sent");
    }

    fn finish(&mut self) {
        self.stream.write_all(b"0\r\n\r\n").expect("sent");
    }

    /// Reads until the answer has some text.
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer);
            let read =
                read.unwrap_or_else(|error| panic!("{error} before `{text}`: {}", self.seen));
            assert!(read > 0, "it ends before `{text}`: {}", self.seen);
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Reads to the end; whether the answer was complete.
    fn is_complete(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.stream.read_to_end(&mut rest);
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        self.seen.ends_with("0\r\n\r\n")
    }
}

fn until_written(file: &Path, text: &str) {
    wait_until("a stage has its input", || {
        fs::read_to_string(file).is_ok_and(|written| written.contains(text))
    });
}

/// Sends each piece when the one before has come back.
fn there_and_back(setup: &Setup, chain: &str) {
    let mut call = Call::invoke(setup, chain);
    for piece in ["one", "two", "three"] {
        call.send(piece);
        call.until(piece);
    }
    call.finish();
    assert!(call.is_complete(), "{}", call.seen);
}

#[test]
fn the_bytes_go_past_the_proxy() {
    let (first, second) = (agent(), agent());
    let mut setup = Setup::over(&[&first, &second]);
    setup.deploy("a", "cat", &name_of(&first));
    setup.deploy("b", "cat", &name_of(&second));
    there_and_back(&setup, "a | b");
    let entry = setup.entry("b");
    assert_eq!(
        (&entry["input"], &entry["bytes"]),
        (&"direct".into(), &11.into()),
        "{entry}"
    );
    there_and_back(&setup, "a | b");
    let entry = setup.entry("a");
    // Not one of them has come here.
    assert_eq!(
        (&entry["input"], &entry["bytes"]),
        (&Value::Null, &0.into()),
        "{entry}"
    );
    let mut lines = Vec::new();
    let mut taken = None;
    wait_until("the first agent has been asked for them", || {
        take_lines(first.server.as_ref(), &mut lines);
        taken = last_entry(&lines, KEPT);
        taken.is_some()
    });
    let taken = taken.expect("just seen");
    assert_eq!(
        (&taken["status"], &taken["bytes"]),
        (&200.into(), &11.into()),
        "{taken}"
    );
    assert_eq!(taken["pool"], Value::Null, "{taken}");
    // Who reads the log does not learn by what it could be had.
    let shown = taken["path"].as_str().expect("a text");
    assert_eq!(shown.len(), KEPT.len() + 8 + "...".len(), "{shown}");
    setup.until_free(&["a", "b"]);
}

#[test]
fn three_stages_are_two_such_boundaries() {
    let agents = [agent(), agent(), agent()];
    let mut setup = Setup::over(&[&agents[0], &agents[1], &agents[2]]);
    for (name, agent) in ["a", "b", "c"].into_iter().zip(&agents) {
        setup.deploy(name, "cat", &name_of(agent));
    }
    there_and_back(&setup, "a | b | c");
    assert_eq!(setup.entry("c")["input"], "direct");
    there_and_back(&setup, "a | b | c");
    let entry = setup.entry("b");
    assert_eq!(
        (&entry["input"], &entry["bytes"]),
        (&"direct".into(), &0.into()),
        "{entry}"
    );
}

#[test]
fn what_stays_at_one_agent_needs_no_connection() {
    let agent = agent();
    let mut setup = Setup::over(&[&agent]);
    for name in ["a", "b"] {
        setup.deploy(name, "cat", &name_of(&agent));
    }
    there_and_back(&setup, "a | b");
    assert_eq!(setup.entry("b")["input"], "same_agent");
    let mut lines = Vec::new();
    take_lines(agent.server.as_ref(), &mut lines);
    assert!(last_entry(&lines, KEPT).is_none(), "{lines:?}");
}

#[test]
fn much_comes_whole() {
    let (first, second) = (agent(), agent());
    let mut setup = Setup::over(&[&first, &second]);
    setup.deploy("a", "tr a-z A-Z", &name_of(&first));
    setup.deploy("b", "tr A-Z a-z", &name_of(&second));
    let text = "much that is written, ".repeat(200_000);
    assert_eq!(setup.invoke("a | b", text.as_bytes()), (200, text));
    let way = setup.entry("b")["input"].clone();
    assert!(way == "direct" || way == "proxy", "{way}");
}

/// Passes connections on to an agent, but for those of other agents, which find something else there.
fn somebody_else_for_agents(agent: SocketAddr) -> AgentName {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let Ok(read) = stream.read(&mut head) else {
                    return;
                };
                let text = String::from_utf8_lossy(&head[..read]).to_lowercase();
                // A proxy names no host.
                if text.contains(KEPT) && !text.contains("host: localhost\r\n") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers");
                    return;
                }
                let Ok(mut agent) = TcpStream::connect(agent) else {
                    return;
                };
                let _ = agent.write_all(&head[..read]);
                let (Ok(mut from), Ok(mut to)) = (agent.try_clone(), stream.try_clone()) else {
                    return;
                };
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let _ = std::io::copy(&mut stream, &mut agent);
                let _ = agent.shutdown(Shutdown::Both);
            });
        }
    });
    AgentName::parse(&address.to_string()).expect("an agent")
}

#[test]
fn what_one_agent_cannot_have_from_another_goes_through_the_proxy() {
    let (first, second) = (agent(), agent());
    let at = authority(&first.url()).parse().expect("an address");
    let hidden = somebody_else_for_agents(at);
    let mut setup = Setup::of(&[hidden.clone(), name_of(&second)]);
    setup.deploy("a", "cat", &hidden);
    setup.deploy("b", "cat", &name_of(&second));
    for _ in 0..3 {
        there_and_back(&setup, "a | b");
    }
    let mut warned = 0;
    wait_until("it is in the log", || {
        warned = setup.warnings();
        warned > 0
    });
    let entry = setup.entry("b");
    assert_eq!(
        (&entry["input"], &entry["bytes"]),
        (&"proxy".into(), &11.into()),
        "{entry}"
    );
    there_and_back(&setup, "a | b");
    // The pair is remembered.
    assert_eq!((warned, setup.warnings()), (1, 0));
    // The other way it works.
    there_and_back(&setup, "b | a");
    assert_eq!(setup.entry("a")["input"], "direct");
    setup.until_free(&["a", "b"]);
}

#[test]
fn an_agent_that_dials_takes_from_others_and_others_do_not_from_it() {
    let token = || Some(Token::new("agents".into()));
    let mut proxy = Proxy {
        server: None,
        state: tempfile::tempdir().expect("a folder"),
        agents: Vec::new(),
    };
    proxy.start_with(
        |settings| {
            settings.door = Some(("127.0.0.1".into(), 0));
            settings.agent_token = token();
        },
        logging,
    );
    let door = proxy.server.as_ref().and_then(Server::worker_address);
    let door = door.expect("a door");
    let (host, port) = door.rsplit_once(':').expect("a port");
    let calls = CallsSettings {
        proxies: vec![HubAddress {
            host: host.to_owned(),
            port: port.parse().expect("a number"),
            tls: false,
        }],
        token: token(),
        name: "gpu".into(),
        ca: None,
    };
    let _gpu = Agent::start(|settings| {
        settings.access.token = token();
        settings.calls = Some(calls);
    });
    let other = Agent::start_with(|settings| settings.access.token = token(), logging);
    let (gpu, near) = (
        AgentName::of_caller("gpu").expect("a name"),
        name_of(&other),
    );
    let added = json!({ "agent": near.as_str() }).to_string();
    proxy.json("POST", "/agents", &added);
    proxy.agent_is(&gpu, "up");
    proxy.agent_is(&near, "up");
    let mut setup = Setup {
        proxy,
        lines: Vec::new(),
    };
    for (name, at) in [("a", &gpu), ("b", &near), ("c", &gpu)] {
        setup.deploy(name, "cat", at);
    }
    for (chain, last, way) in [
        ("b | a", "a", "direct"),
        ("a | b", "b", "proxy"),
        ("a | c", "c", "same_agent"),
    ] {
        there_and_back(&setup, chain);
        assert_eq!(setup.entry(last)["input"], way, "{chain}");
    }
}

/// Two agents, and a second stage that shows in a file what it has had.
struct Pair {
    agents: [Agent; 2],
    setup: Setup,
    folder: tempfile::TempDir,
}

impl Pair {
    /// `a` and `b` do this; `{}` stands for the file.
    fn doing(a: &str, b: &str) -> Self {
        let agents = [agent(), agent()];
        let setup = Setup::over(&[&agents[0], &agents[1]]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("had");
        let b = b.replace("{}", &file.display().to_string());
        setup.deploy("a", a, &name_of(&agents[0]));
        setup.deploy("b", &b, &name_of(&agents[1]));
        Self {
            agents,
            setup,
            folder,
        }
    }

    /// A call of `a | b` of which the second stage has had something.
    fn begun(&self, more: &str) -> Call {
        let file = self.folder.path().join("had");
        let _ = fs::remove_file(&file);
        let target = format!("{}{more}", path("a | b"));
        let headers = "Connection: close\r\n";
        let mut call = Call::begin(&self.setup.proxy.url(), &target, headers);
        call.send("piece\n");
        until_written(&file, "piece");
        call
    }
}

#[test]
fn the_stage_that_broke_first_is_the_one_that_is_named() {
    for (a, b, stage) in [("cat; exit 3", "tee {}", 1), ("cat", "tee {}; exit 3", 2)] {
        let mut pair = Pair::doing(a, b);
        let mut call = pair.begun("&buffer=1");
        call.finish();
        call.is_complete();
        let (head, error) = call.seen.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        let error: Value = serde_json::from_str(error).expect("JSON");
        assert_eq!(error["stage"], stage, "{error}");
        assert_eq!(pair.setup.entry("b")["input"], "direct");
        // Without it, the answer is broken off.
        let mut call = pair.begun("");
        call.until("piece");
        call.finish();
        assert!(!call.is_complete(), "{}", call.seen);
    }
}

#[test]
fn an_agent_that_dies_breaks_the_answer_off_and_the_other_one_is_free() {
    for dies in [0, 1] {
        let mut pair = Pair::doing("cat", "tee {}");
        let mut call = pair.begun("");
        call.until("piece");
        pair.agents[dies].kill();
        assert!(!call.is_complete(), "{}", call.seen);
        pair.setup.until_free(&[["b", "a"][dies]]);
    }
}

#[test]
fn a_client_that_leaves_ends_both_stages() {
    let pair = Pair::doing("cat", "tee {}");
    for _ in 0..3 {
        drop(pair.begun(""));
        pair.setup.until_free(&["a", "b"]);
    }
}

#[test]
fn a_deadline_ends_both_stages() {
    let pair = Pair::doing("cat", "tee {} > /dev/null; grep -q free {} || sleep 60");
    let target = format!("{}&timeout=1", path("a | b"));
    let mut call = Call::begin(&pair.setup.proxy.url(), &target, "");
    call.send("piece");
    call.finish();
    call.until("\r\n\r\n");
    assert!(call.seen.starts_with("HTTP/1.1 504"), "{}", call.seen);
    pair.setup.until_free(&["a", "b"]);
}

#[test]
fn a_stage_whose_worker_others_have_waits_for_it() {
    let pair = Pair::doing("cat", "tee {}");
    let second = &pair.agents[1];
    // Who asks the agent itself is none of the proxy's business.
    let headers = "Faucet-Wait: 0\r\nFaucet-Flow: 1\r\n";
    let mut other = Call::begin(&second.url(), "/functions/b", headers);
    other.send("other");
    other.until("other");
    let mut call = Call::invoke(&pair.setup, "a | b");
    call.send("piece");
    wait_until("the proxy waits for its turn", || {
        second.json("GET", "/details?name=b", "")[0]["queue"] == 1
    });
    other.finish();
    other.until("0\r\n\r\n");
    call.until("piece");
    call.finish();
    assert!(call.is_complete(), "{}", call.seen);
}

#[test]
fn a_stage_that_reads_no_more_is_no_failure() {
    let mut pair = Pair::doing("cat", "head -n 1 | tee {}");
    let mut call = pair.begun("");
    call.until("piece\n");
    call.until("0\r\n\r\n");
    assert_eq!(pair.setup.entry("b")["input"], "direct");
    pair.setup.until_free(&["a", "b"]);
}

#[test]
fn a_stage_may_compute_for_longer_than_a_client_may_stall() {
    let impatient = || {
        Agent::start_with(
            |_| {},
            |server| {
                logging(server);
                server.limits.idle_timeout = Some(Duration::from_secs(1));
            },
        )
    };
    let (first, second) = (impatient(), impatient());
    let at = authority(&first.url()).parse().expect("an address");
    let mut ways = Vec::new();
    for first in [name_of(&first), somebody_else_for_agents(at)] {
        let mut setup = Setup::of(&[first.clone(), name_of(&second)]);
        setup.deploy("a", "head -c 60000000 /dev/zero", &first);
        setup.deploy("b", "sleep 3; wc -c", &name_of(&second));
        let answer = setup.invoke("a | b", b"");
        assert_eq!((answer.0, answer.1.trim()), (200, "60000000"));
        ways.push(setup.entry("b")["input"].clone());
    }
    assert_eq!(ways, ["direct", "proxy"]);
}

/// What the way was, and what was warned of, of a chain over two agents that speak TLS and believe whom `ca` says.
fn over_tls(authority: &Authority, ca: Option<PathBuf>) -> (Value, Vec<String>) {
    let files = Files::new();
    let tls = files.identity(&authority.sign(&["127.0.0.1"]));
    let agents: Vec<Agent> = (0..2)
        .map(|_| {
            let believing = |settings: &mut AgentSettings| settings.ca = ca.clone();
            Agent::start_with(believing, |settings| {
                logging(settings);
                settings.tls = Some(tls.clone());
            })
        })
        .collect();
    let names = agents.iter().map(|agent| {
        let url = agent.url();
        AgentName::parse(url.trim_start_matches("https://")).expect("an agent")
    });
    let names: Vec<AgentName> = names.collect();
    let mut proxy = Proxy {
        server: None,
        state: tempfile::tempdir().expect("a folder"),
        agents: names.clone(),
    };
    let believed = files.write("believed.pem", &authority.pem);
    proxy.start_with(
        |settings| {
            settings.tls = true;
            settings.ca = Some(believed);
        },
        logging,
    );
    names.iter().for_each(|name| proxy.agent_is(name, "up"));
    let lines = Vec::new();
    let mut setup = Setup { proxy, lines };
    setup.deploy("a", "cat", &names[0]);
    setup.deploy("b", "cat", &names[1]);
    there_and_back(&setup, "a | b");
    let mut way = Value::Null;
    wait_until("it is in the access log", || {
        let entry = last_entry(setup.log(), "/functions/b");
        way = entry.unwrap_or_default()["input"].clone();
        !way.is_null()
    });
    (way, setup.lines)
}

#[test]
fn an_agent_with_tls_is_taken_from_by_those_who_believe_it() {
    let authority = Authority::new();
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem);
    let (way, lines) = over_tls(&authority, Some(ca));
    assert_eq!(way, "direct", "{lines:?}");
    // Others have what it has by way of the proxy, which does.
    let stranger = files.write("stranger.pem", &Authority::new().pem);
    let (way, lines) = over_tls(&authority, Some(stranger));
    assert_eq!(way, "proxy");
    let warned = lines
        .iter()
        .find(|line| line.contains("cannot take from agent"));
    assert!(
        warned.is_some_and(|line| line.contains("certificate")),
        "{lines:?}"
    );
}

/// Answers each request with its body.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                let body = loop {
                    let text = String::from_utf8_lossy(&seen).to_lowercase();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.split("content-length: ").nth(1);
                        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
                        if body.len() >= length.unwrap_or(0) {
                            break body.to_owned();
                        }
                    }
                    match stream.read(&mut buffer) {
                        Ok(read @ 1..) => seen.extend_from_slice(&buffer[..read]),
                        _ => return,
                    }
                };
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}");
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn what_is_needed_whole_goes_through_the_proxy_within_its_limit() {
    let (first, second) = (agent(), agent());
    let mut setup = Setup::over(&[&first, &second]);
    setup.deploy("a", "cat", &name_of(&first));
    setup.define(&json!({
        "name": "v",
        "url": echo(),
        "maxBody": 1000,
        "toAgent": name_of(&second).as_str(),
    }));
    assert_eq!(setup.invoke("a | v", b"text"), (200, "text".into()));
    assert_eq!(setup.entry("v")["input"], "proxy");
    let (status, error) = setup.invoke("a | v", &[b'x'; 1001]);
    let error: Value = serde_json::from_str(&error).expect("JSON");
    assert_eq!((status, &error["stage"]), (413, &2.into()), "{error}");
    setup.until_free(&["a"]);
}

#[test]
fn chains_that_cross_all_end() {
    const THREADS: usize = 5;
    const CALLS: usize = 4;
    let (first, second) = (agent(), agent());
    let setup = Setup::over(&[&first, &second]);
    setup.deploy("a", "cat", &name_of(&first));
    setup.deploy("b", "cat", &name_of(&second));
    setup.deploy("c", "cat", &name_of(&second));
    let chains = ["a | b", "b | a", "c | a | b", "b | c | a"];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let setup = &setup;
            scope.spawn(move || {
                for call in 0..CALLS {
                    let chain = chains[(thread + call) % chains.len()];
                    let text = format!("{thread} {call} ").repeat(1000);
                    assert_eq!(setup.invoke(chain, text.as_bytes()), (200, text), "{chain}");
                }
            });
        }
    });
    setup.until_free(&["a", "b", "c"]);
}

/// Of a head, by their names in lower case.
fn headers_of(text: &str) -> HashMap<String, String> {
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect()
}

fn deploy_at(agent: &Agent, name: &str) {
    let definition = json!({"name": name, "command": ["cat"], "workers": [0, 1]});
    assert_eq!(agent.deploy(&definition.to_string())["status"], "deployed");
}

const ASKS_TO_KEEP: &str = "Faucet-Wait: 0\r\nFaucet-Flow: 1\r\nFaucet-Keep: 1\r\n";

#[test]
fn what_is_kept_is_had_once_and_goes_with_whoever_has_asked() {
    let agent = agent();
    deploy_at(&agent, "a");
    let begin = || {
        let mut call = Call::begin(&agent.url(), "/functions/a", ASKS_TO_KEEP);
        call.send("text");
        call.until("\r\n\r\n");
        let token = headers_of(&call.seen)["faucet-kept"].clone();
        (call, format!("{KEPT}{token}"))
    };
    let get = |path: &str| agent.ask("GET", path, b"");
    let (mut call, path) = begin();
    assert_eq!(agent.ask("POST", &path, b"").0, 404);
    call.finish();
    assert_eq!(get(&path), (200, "text".into()));
    assert!(call.seen.ends_with("\r\n\r\n") && !call.seen.contains("text"));
    call.until("0\r\n\r\n");
    assert_eq!(get(&path).0, 410);
    assert_eq!(get(&format!("{KEPT}{}", "0".repeat(32))).0, 410);
    for nothing in [KEPT.to_owned(), format!("{path}0"), format!("{KEPT}x")] {
        assert_eq!(get(&nothing).0, 404, "{nothing}");
    }
    // Its worker is free again when whoever has asked has left.
    let (call, path) = begin();
    drop(call);
    wait_until("it is gone", || get(&path).0 == 410);
    let (status, answer) = agent.ask("POST", "/functions/a", b"free");
    assert_eq!((status, &*answer), (200, "free"));
}

#[test]
fn a_strangers_word_on_where_bytes_are_is_not_taken() {
    let (agent, other) = (Agent::start(|_| {}), agent());
    deploy_at(&agent, "a");
    deploy_at(&other, "a");
    let mut call = Call::begin(&agent.url(), "/functions/a", ASKS_TO_KEEP);
    call.send("text");
    call.finish();
    call.until("text");
    assert!(
        !headers_of(&call.seen).contains_key("faucet-kept"),
        "{}",
        call.seen
    );
    // What somebody whose word is taken has had kept is not had by it, either.
    let mut kept = Call::begin(&other.url(), "/functions/a", ASKS_TO_KEEP);
    kept.send("secret");
    kept.until("\r\n\r\n");
    let token = headers_of(&kept.seen)["faucet-kept"].clone();
    let headers = format!(
        "Faucet-Wait: 0\r\nFaucet-Source: {}{KEPT}{token}\r\n",
        other.url()
    );
    let answer = ask(&agent.url(), "POST", "/functions/a", &headers, b"own");
    assert_eq!(answer, (200, "own".into()));
    // Somebody whose word is taken is told what is wrong with it, and nothing has run.
    let headers = "Faucet-Wait: 0\r\nFaucet-Flow: 1\r\nFaucet-Source: nowhere\r\n";
    let mut lost = Call::begin(&other.url(), "/functions/a", headers);
    lost.until("\r\n\r\n");
    let told = headers_of(&lost.seen);
    assert_eq!(told["faucet-error"], "no_source");
    assert_eq!(told["faucet-source"], "where it is cannot be understood");
}

//! An agent, whose functions are folders with workers' code: see [`be_a_worker`](super::local::be_a_worker).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use faucet_core::functions::calls;
use faucet_core::functions::management::Access;
use faucet_core::pool::PoolLimits;
use faucet_core::server::{AgentSettings, Request, Server, Settings};
use faucet_core::sources::local::WorkerRange;
use serde_json::Value;
use tempfile::TempDir;

use super::local::{wait_until, worker_settings};
use super::PATIENCE;

/// A running agent and its folders.
pub struct Agent {
    pub server: Option<Server>,
    pub state: TempDir,
    pub lines: Vec<String>,
}

/// A status and a body.
pub type Answer = (u16, String);

impl Agent {
    pub fn start(change: impl FnOnce(&mut AgentSettings)) -> Self {
        Self::start_with(change, |_| {})
    }

    /// The same with other settings of its server.
    pub fn start_with(
        change: impl FnOnce(&mut AgentSettings),
        change_server: impl FnOnce(&mut Settings),
    ) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let server = Some(serve(state.path(), change, change_server));
        Self {
            server,
            state,
            lines: Vec::new(),
        }
    }

    /// One that is back with what it had.
    pub fn back(state: TempDir, change: impl FnOnce(&mut AgentSettings)) -> Self {
        Self {
            server: Some(serve(state.path(), change, |_| {})),
            state,
            lines: Vec::new(),
        }
    }

    /// Ends at once, as by a kill, and comes back.
    pub fn restart(&mut self) {
        self.kill();
        self.server = Some(serve(self.state.path(), |_| {}, |_| {}));
    }

    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.ask(Request::Kill);
            wait_until("the server has ended", || {
                matches!(
                    server.phase(),
                    faucet_core::server::Phase::Stopped | faucet_core::server::Phase::Failed(_)
                )
            });
        }
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("it runs")
    }

    pub fn url(&self) -> String {
        let server = self.server.as_ref().expect("it runs");
        server.url().expect("a port")
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask_with(method, path, "", body)
    }

    /// The same with further header lines.
    pub fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        ask(&self.url(), method, path, headers, body)
    }

    /// The JSON that is answered with 200.
    pub fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask(method, path, body.as_bytes());
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Deploys one function and waits for how that ends.
    pub fn deploy(&self, definition: &str) -> Value {
        self.json("POST", "/deploy?wait=60", definition)[0].clone()
    }

    /// Uploads code as a bundle; its digest.
    pub fn upload(&self, code: &str) -> String {
        let (status, answer) = self.ask("PUT", "/bundles", &archive(code));
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["bundle"].as_str().expect("a digest").to_owned()
    }

    pub fn call(&self, path: &str) -> Answer {
        self.ask("GET", &format!("/functions/{path}"), b"")
    }

    /// Waits for a line of the log.
    pub fn until_logged(&mut self, part: &str) {
        let server = self.server.as_mut().expect("it runs");
        let lines = &mut self.lines;
        wait_until(part, || {
            lines.extend(server.take_lines().0.into_iter().map(|line| line.text));
            lines.iter().any(|line| line.contains(part))
        });
    }

    pub fn audit(&self) -> String {
        fs::read_to_string(self.state.path().join("audit.log")).expect("an audit log")
    }
}

fn serve(
    state: &Path,
    change: impl FnOnce(&mut AgentSettings),
    change_server: impl FnOnce(&mut Settings),
) -> Server {
    let mut worker = worker_settings(Path::new("/"));
    worker.workers = WorkerRange { min: 0, max: 1 };
    let mut agent = AgentSettings {
        state_dir: state.to_owned(),
        access: Access::default(),
        max_bundle: 1 << 20,
        worker,
        template: None,
        limits: PoolLimits::default(),
        drain_timeout: Some(PATIENCE),
        calls: None,
        ca: None,
        run_as: None,
        async_calls: calls::Settings::default(),
    };
    change(&mut agent);
    let mut settings = Settings {
        agent: Some(agent),
        ..Settings::default()
    };
    change_server(&mut settings);
    Server::start(settings).expect("a server")
}

/// A request on a connection of its own. No answer is a status of 0.
pub fn ask(url: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let authority = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(authority).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    // Who is refused early is answered before all is sent.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked {
        joined(body)
    } else {
        body.to_owned()
    };
    (status.unwrap_or(0), body)
}

/// The text of chunks, up to where they break off.
fn joined(mut chunks: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        let Some(chunk) = rest.get(..length) else {
            break;
        };
        text.push_str(chunk);
        chunks = rest[length..].strip_prefix("\r\n").unwrap_or_default();
    }
    text
}

/// A folder with workers' code, as an archive.
pub fn archive(code: &str) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    let mut header = tar::Header::new_ustar();
    header.set_size(code.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "code", code.as_bytes())
        .expect("in memory");
    let gz = tar.into_inner().expect("in memory");
    gz.finish().expect("in memory")
}

//! The whole of it over real sockets: the handler is a thread, the front a plain client.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::pipe::pipe;
use super::*;
use crate::worker::native::control_path;

const LONG: Duration = Duration::from_secs(60);

const SIGNATURE: &str =
    r#"{"parameters":[{"name":"e","type":"character","required":true}],"open":true}"#;

const ROUTES: &str = r#"[{"method":"GET","path":"/a","compiled":true,"why":null}]"#;

struct House {
    server: Server,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(ROUTES)
    }

    fn with(routes: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            socket: folder.path().join("1"),
            body_memory: 1024,
            docs: Some("/__docs__/".into()),
            signature: Some(SIGNATURE.into()),
            routes: Some(routes.into()),
        };
        let server = Server::start(settings, Arc::new(Dispatcher::new(|| {}))).expect("it starts");
        Self { server, folder }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("1")
    }

    fn send(&self, text: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).expect("it listens");
        stream.write_all(text.as_bytes()).expect("it reads");
        stream
    }

    fn take(&self) -> Request {
        self.server.dispatcher().next(LONG).expect("a request")
    }

    fn answer(&self, body: &'static str) {
        let answer = Answer::new(200, [], Content::Bytes(Bytes::from_static(body.as_bytes())));
        assert!(self.server.dispatcher().answer(answer.expect("valid")));
        self.server.dispatcher().finish();
    }
}

fn say(socket: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(control_path(socket)).expect("it listens");
    stream.write_all(line.as_bytes()).expect("it reads");
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .expect("an answer");
    answer
}

fn rest(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("complete");
    text
}

#[test]
fn a_request_arrives_whole_and_its_answer_goes_back() {
    let house = House::new();
    let body = "x".repeat(5000);
    let stream = house.send(&format!(
        "POST /a?b=c HTTP/1.1\r\nHost: h\r\nConnection: close\r\nfaucet-request: 7\r\nContent-Length: 5000\r\n\r\n{body}"
    ));
    let request = house.take();
    assert_eq!(request.target, "/a?b=c");
    assert!(!request.headers.contains_key("faucet-request"));
    let mut read = vec![0; 6000];
    assert_eq!(request.body.copy_to(0, &mut read).ok(), Some(5000));
    assert_eq!(read[..5000], *body.as_bytes());
    house.answer("hello");
    let text = rest(stream);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("content-length: 5\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello"), "{text}");
}

#[test]
fn the_rest_of_a_body_can_be_a_file() {
    let house = House::new();
    let file = house.folder.path().join("body file");
    std::fs::write(&file, "the rest").expect("writable");
    let _stream = house.send(&format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nfaucet-body-file: 8 {}\r\n\r\nall ",
        file.display()
    ));
    let request = house.take();
    let mut read = vec![0; 100];
    assert_eq!(request.body.copy_to(0, &mut read).ok(), Some(12));
    assert_eq!(&read[..12], b"all the rest");
}

#[test]
fn a_stream_arrives_bit_by_bit() {
    let house = House::new();
    let stream = house.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    house.take();
    let (writer, reader) = pipe();
    let head = Answer::new(200, [], Content::Stream(reader)).expect("valid");
    assert!(house.server.dispatcher().answer(head));
    let mut lines = BufReader::new(stream).lines();
    let mut until = |wanted: &str| loop {
        let line = lines.next().expect("more").expect("readable");
        if line == wanted {
            return;
        }
    };
    until("faucet-stream: 1");
    for text in ["one", "two"] {
        assert_eq!(writer.write(text.as_bytes(), LONG), Written::Done);
        until(text);
    }
    writer.finish();
    until("0");
}

#[tokio::test]
async fn the_front_is_told_where_the_documentation_is() {
    let house = House::new();
    let docs = crate::worker::native::docs(&house.socket()).await;
    assert_eq!(docs.as_deref(), Some("/__docs__/"));
    let nobody = crate::worker::native::docs(&house.folder.path().join("2")).await;
    assert_eq!(nobody, None);
}

#[tokio::test]
async fn the_front_is_told_what_a_function_takes() {
    let house = House::new();
    let signature = crate::worker::native::signature(&house.socket()).await;
    let signature = signature.expect("what was said");
    assert_eq!(signature.to_json().to_string().len(), SIGNATURE.len());
    assert_eq!(signature.parameters[0].name, "e");
    assert!(signature.open);
}

#[tokio::test]
async fn the_front_is_told_which_routes_are_compiled() {
    let house = House::new();
    let routes = crate::worker::native::routes(&house.socket()).await;
    assert_eq!(routes.flatten().expect("what was said").summary(), "1 of 1");
    // What is beyond all bounds is not even read to its end.
    let many = vec![ROUTES.trim_matches(['[', ']']); 20_000].join(",");
    for bad in [format!("[{many}]").as_str(), "nonsense"] {
        let house = House::with(bad);
        let routes = crate::worker::native::routes(&house.socket()).await;
        assert_eq!(routes.flatten(), None);
    }
}

#[test]
fn the_front_is_told_what_became_of_its_wish() {
    let house = House::new();
    let _stream = house.send("GET / HTTP/1.1\r\nHost: h\r\nfaucet-request: 3\r\n\r\n");
    house.take();
    let socket = house.socket();
    assert_eq!(say(&socket, "tell 3\n"), "told\n");
    assert_eq!(say(&socket, "interrupt 2 left\n"), "over\n");
    assert_eq!(say(&socket, "interrupt 3 left\n"), "interrupted\n");
    assert_eq!(say(&socket, "interrupt 3\n"), "what?\n");
    assert!(house.server.dispatcher().is_cancelled());
    house.answer("");
    assert_eq!(say(&socket, "interrupt 3 left\n"), "over\n");
}

#[test]
fn a_connection_that_breaks_is_a_client_that_left() {
    let house = House::new();
    let stream = house.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    house.take();
    drop(stream);
    while !house.server.dispatcher().is_cancelled() {
        std::thread::yield_now();
    }
    assert!(house.server.dispatcher().finish().interrupted);
}

#[test]
fn nothing_is_left_of_a_server_that_is_dropped() {
    let House { server, folder } = House::new();
    let dispatcher = server.dispatcher().clone();
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 2);
    drop(server);
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 0);
    assert!(dispatcher.is_closed() && dispatcher.next(LONG).is_none());
}

//! Against sockets of the tests' own, which say what no proper server would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::{HeaderMap, Method};

use super::*;
use crate::token::Token;

pub(super) const LIMITS: ExchangeLimits = ExchangeLimits {
    timeout: Some(Duration::from_secs(60)),
    most: Some(1 << 20),
};

/// A server for one connection: what `serve` makes of it.
pub(super) fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (ServerAddress, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let address = ServerAddress::parse(&address).expect("an address");
    let served = std::thread::spawn(move || serve(listener.accept().expect("a client").0));
    (address, served)
}

pub(super) fn client(address: ServerAddress) -> Client {
    Client {
        address,
        tls: None,
        token: Some(Token::new("secret".into())),
        connect_timeout: Duration::from_secs(30),
    }
}

pub(super) fn outgoing(body: RequestBody) -> Outgoing {
    Outgoing {
        method: Method::POST,
        path: "/deploy?wait=1".into(),
        headers: HeaderMap::new(),
        body,
    }
}

/// Reads until `end` comes, or the connection ends.
pub(super) fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) && stream.read(&mut byte).expect("bytes") > 0 {
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

/// Until its end.
pub(super) fn whole(exchange: &Exchange) -> (Option<Head>, Vec<u8>, Result<(), ClientError>) {
    let (mut head, mut body) = (None, Vec::new());
    loop {
        let polled = exchange.poll(Duration::from_millis(100));
        head = polled.head.or(head);
        body.extend(polled.pieces.concat());
        if let Some(outcome) = polled.outcome {
            return (head, body, outcome);
        }
    }
}

fn answered(
    text: &'static str,
    limits: ExchangeLimits,
) -> (Option<Head>, Vec<u8>, Result<(), ClientError>) {
    let (address, served) = server(move |mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("written");
    });
    let body = RequestBody::empty();
    let exchange = Exchange::start(client(address), outgoing(body), limits).expect("a thread");
    let answered = whole(&exchange);
    served.join().expect("no panic");
    answered
}

#[test]
fn a_request_and_its_answer() {
    let (address, served) = server(|mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n");
        let body = read_until(&mut stream, "hello");
        stream
            .write_all(b"HTTP/1.1 201 Created\r\nX-Say: so\r\nContent-Length: 5\r\n\r\nworld")
            .expect("written");
        (head.to_lowercase(), body)
    });
    let authority = address.authority.clone();
    let body = RequestBody::Bytes("hello".into());
    let exchange = Exchange::start(client(address), outgoing(body), LIMITS).expect("a thread");
    let (head, body, outcome) = whole(&exchange);
    assert_eq!(outcome, Ok(()));
    assert_eq!(body, b"world");
    let head = head.expect("a head");
    assert_eq!(head.status, 201);
    assert_eq!(head.headers["x-say"], "so");
    let (asked, sent) = served.join().expect("no panic");
    assert!(
        asked.starts_with("post /deploy?wait=1 http/1.1\r\n"),
        "{asked}"
    );
    for line in [
        format!("host: {authority}\r\n"),
        "authorization: bearer secret\r\n".into(),
        "content-length: 5\r\n".into(),
    ] {
        assert!(asked.contains(&line), "{asked}");
    }
    assert_eq!(sent, "hello");
}

#[test]
fn a_file_is_sent_whole() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&content).expect("written");
    let (address, served) = server(|mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        let mut body = vec![0; 1_200_000];
        stream.read_exact(&mut body).expect("all of it");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .expect("written");
        body
    });
    let body = RequestBody::file(file.path()).expect("a file");
    let exchange = Exchange::start(client(address), outgoing(body), LIMITS).expect("a thread");
    assert_eq!(whole(&exchange).2, Ok(()));
    assert!(served.join().expect("no panic") == content);
    assert!(RequestBody::file(std::path::Path::new("/nonexistent")).is_err());
    assert!(RequestBody::file(std::path::Path::new("/")).is_err());
}

#[test]
fn a_file_that_becomes_shorter_is_told() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&[7; 100_000]).expect("written");
    let (address, served) = server(|mut stream| {
        let mut all = Vec::new();
        // Its end is a reset, perhaps.
        drop(stream.read_to_end(&mut all));
    });
    let body = RequestBody::file(file.path()).expect("a file");
    file.as_file().set_len(10).expect("cut");
    let exchange = Exchange::start(client(address), outgoing(body), LIMITS).expect("a thread");
    let outcome = whole(&exchange).2.expect_err("too short");
    assert_eq!(outcome.class(), "file", "{outcome}");
    served.join().expect("no panic");
}

#[test]
fn what_is_no_proper_answer() {
    for (text, expected) in [
        (
            "",
            "has not answered properly: it has closed the connection",
        ),
        (
            "220 mail ready\r\n\r\n",
            "has not answered properly: it does not speak HTTP",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nworld",
            "has not answered properly: its answer was broken off",
        ),
    ] {
        let outcome = answered(text, LIMITS).2.expect_err(text);
        assert_eq!(outcome.to_string(), expected);
        assert_eq!(outcome.class(), "answer");
    }
}

#[test]
fn an_answer_has_a_limit() {
    let limits = ExchangeLimits {
        most: Some(4),
        ..LIMITS
    };
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld";
    assert_eq!(answered(text, limits).2, Err(ClientError::TooLarge(4)));
}

#[test]
fn who_does_not_answer_in_time() {
    let (address, served) = server(|mut stream| read_until(&mut stream, "never"));
    let limits = ExchangeLimits {
        timeout: Some(Duration::from_millis(50)),
        ..LIMITS
    };
    let body = RequestBody::empty();
    let exchange = Exchange::start(client(address), outgoing(body), limits).expect("a thread");
    let outcome = whole(&exchange).2;
    assert_eq!(
        outcome,
        Err(ClientError::Timeout(Duration::from_millis(50)))
    );
    // The connection is closed, or this would never end.
    served.join().expect("no panic");
}

#[test]
fn who_cannot_be_reached() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address").to_string();
    drop(port);
    for address in [address.as_str(), "unix:/nonexistent/socket"] {
        let address = ServerAddress::parse(address).expect("an address");
        let body = RequestBody::empty();
        let exchange = Exchange::start(client(address), outgoing(body), LIMITS);
        let outcome = whole(&exchange.expect("a thread")).2.expect_err("nobody");
        assert_eq!(outcome.class(), "connect", "{outcome}");
    }
}

#[test]
fn who_gives_up_closes_the_connection() {
    let (asked, has_asked) = std::sync::mpsc::channel();
    let (address, served) = server(move |mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        asked.send(()).expect("somebody waits");
        read_until(&mut stream, "never")
    });
    let body = RequestBody::empty();
    let exchange = Exchange::start(client(address), outgoing(body), LIMITS).expect("a thread");
    has_asked.recv().expect("asked");
    drop(exchange);
    assert_eq!(served.join().expect("no panic"), "");
}

#[test]
fn a_server_waits_for_whoever_does_not_look() {
    let (address, served) = server(|mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .expect("written");
        // More than the buffers of both sides and what waits.
        let piece = vec![b'x'; 1 << 20];
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .expect("a limit");
        let mut written = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            match stream.write(&piece) {
                Ok(count) => written += count,
                Err(_) => return written,
            }
        }
        usize::MAX
    });
    let limits = ExchangeLimits {
        most: None,
        ..LIMITS
    };
    let body = RequestBody::empty();
    let exchange = Exchange::start(client(address), outgoing(body), limits).expect("a thread");
    let written = served.join().expect("no panic");
    assert!(written < usize::MAX, "nobody had to wait");
    let (_, body, outcome) = whole(&exchange);
    assert_eq!((body.len(), outcome), (written, Ok(())));
}

//! Bodies that are made while they are sent, and answers that are written out as they come.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;

use super::tests::{client, outgoing, read_until, server, whole, LIMITS};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn started(address: ServerAddress) -> (Feed, Exchange) {
    let (feed, body) = feed();
    let limits = ExchangeLimits {
        most: None,
        ..LIMITS
    };
    let outgoing = outgoing(RequestBody::Fed(body));
    let exchange = Exchange::start(client(address), outgoing, limits).expect("a thread");
    (feed, exchange)
}

/// Both ends of a pipe.
fn pipe() -> (File, File) {
    let (read, write) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let file = |stream| File::from(OwnedFd::from(stream));
    (file(read), file(write))
}

/// The next chunk of a request's body.
fn chunk(stream: &mut TcpStream) -> String {
    let length = read_until(stream, "\r\n");
    let length = usize::from_str_radix(length.trim(), 16).expect("a length");
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes).expect("a chunk");
    bytes.truncate(length);
    String::from_utf8(bytes).expect("text")
}

#[test]
fn both_bodies_go_at_the_same_time() {
    let (address, served) = server(|mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").to_lowercase();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        stream.write_all(CHUNKED).expect("written");
        loop {
            let chunk = chunk(&mut stream);
            write!(stream, "{:x}\r\n{chunk}\r\n", chunk.len()).expect("written");
            if chunk.is_empty() {
                return;
            }
        }
    });
    let (feed, exchange) = started(address);
    for piece in ["one", "two", "three"] {
        assert_eq!(feed.put(piece.into(), PATIENCE), Offered::Taken);
        let mut come = Vec::new();
        while come.len() < piece.len() {
            come.extend(exchange.poll(PATIENCE).pieces.concat());
        }
        assert_eq!(come, piece.as_bytes());
    }
    feed.end(Ok(()));
    assert_eq!(whole(&exchange).2, Ok(()));
    served.join().expect("no panic");
}

#[test]
fn a_body_that_cannot_be_completed_is_broken_off() {
    let (address, served) = server(|mut stream| {
        let mut all = String::new();
        // Its end is a reset, perhaps.
        drop(stream.read_to_string(&mut all));
        all
    });
    let (feed, exchange) = started(address);
    assert_eq!(feed.put("some".into(), PATIENCE), Offered::Taken);
    feed.end(Err("no more".into()));
    let outcome = whole(&exchange).2;
    assert_eq!(outcome, Err(ClientError::File("no more".into())));
    let all = served.join().expect("no panic");
    assert!(!all.ends_with("0\r\n\r\n"), "{all}");
}

#[test]
fn a_server_that_reads_nothing_makes_the_feed_wait() {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (address, served) = server(move |stream| {
        let _ = ended.recv();
        drop(stream);
    });
    let (feed, exchange) = started(address);
    let piece = Bytes::from(vec![0; 1 << 20]);
    let mut put = 0;
    while feed.put(piece.clone(), Duration::from_millis(200)) == Offered::Taken {
        put += 1;
        assert!(put < 100, "nobody had to wait");
    }
    drop(end);
    served.join().expect("no panic");
    // Who looks is woken: there is room, as it goes nowhere.
    while exchange.poll_or_room(PATIENCE).outcome.is_none() {}
    assert_eq!(feed.put(piece, PATIENCE), Offered::Closed);
}

#[test]
fn input_goes_in_and_the_answer_comes_out() {
    let (address, served) = server(|mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        stream.write_all(CHUNKED).expect("written");
        let mut count = 0;
        loop {
            let chunk = chunk(&mut stream);
            count += chunk.len();
            write!(stream, "{:x}\r\n{chunk}\r\n", chunk.len()).expect("written");
            if chunk.is_empty() {
                return count;
            }
        }
    });
    let (feed, exchange) = started(address);
    let (input, mut typed) = pipe();
    feed_from(input, feed).expect("a thread");
    let writer = std::thread::spawn(move || typed.write_all(&vec![b'x'; 3_000_000]));
    let mut output = tempfile::tempfile().expect("a file");
    let poured = Pour::start(exchange, output.try_clone().expect("a file")).expect("a thread");
    let mut status = None;
    let outcome = loop {
        let polled = poured.poll(PATIENCE);
        assert!(polled.pieces.is_empty());
        status = polled.head.map(|head| head.status).or(status);
        if let Some(outcome) = polled.outcome {
            break outcome;
        }
    };
    assert_eq!(outcome, Ok(()));
    assert_eq!(status.expect("a head"), 200);
    writer.join().expect("no panic").expect("written");
    assert_eq!(served.join().expect("no panic"), 3_000_000);
    let mut written = Vec::new();
    output.rewind().expect("a file");
    output.read_to_end(&mut written).expect("a file");
    assert!(written == vec![b'x'; 3_000_000]);
}

#[test]
fn an_answer_that_is_an_error_is_not_written_out() {
    let (address, served) = server(|mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
            .expect("written");
    });
    let (feed, exchange) = started(address);
    feed.end(Ok(()));
    let output = tempfile::tempfile().expect("a file");
    let poured = Pour::start(exchange, output.try_clone().expect("a file")).expect("a thread");
    let mut text = Vec::new();
    let outcome = loop {
        let polled = poured.poll(PATIENCE);
        text.extend(polled.pieces.concat());
        if let Some(outcome) = polled.outcome {
            break outcome;
        }
    };
    served.join().expect("no panic");
    assert_eq!((text, outcome), (b"none".to_vec(), Ok(())));
    assert_eq!(output.metadata().expect("a file").len(), 0);
}

/// A server that goes on as `answer` says until its client leaves; and nobody reads what comes out.
fn unread(answer: &'static [u8]) {
    let (address, served) = server(move |mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        stream.write_all(CHUNKED).expect("written");
        while !answer.is_empty() && stream.write_all(answer).is_ok() {}
        // Until the client leaves.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let (feed, exchange) = started(address);
    let (input, typed) = pipe();
    feed_from(input, feed).expect("a thread");
    let (reader, output) = pipe();
    let poured = Pour::start(exchange, output).expect("a thread");
    drop(reader);
    let outcome = loop {
        if let Some(outcome) = poured.poll(PATIENCE).outcome {
            break outcome;
        }
    };
    assert_eq!(outcome, Err(ClientError::Unread));
    served.join().expect("no panic");
    drop(typed);
}

#[test]
fn an_answer_that_nobody_reads_ends() {
    unread(b"5\r\nhello\r\n");
}

#[test]
fn nobody_who_reads_is_noticed_before_there_is_anything_to_read() {
    unread(b"");
}

#[test]
fn who_gives_up_what_is_written_out_closes_the_connection() {
    let (asked, has_asked) = std::sync::mpsc::channel();
    let (address, served) = server(move |mut stream| {
        read_until(&mut stream, "\r\n\r\n");
        asked.send(()).expect("somebody waits");
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let (feed, exchange) = started(address);
    let (_reader, output) = pipe();
    let poured = Pour::start(exchange, output).expect("a thread");
    has_asked.recv().expect("asked");
    drop(poured);
    served.join().expect("no panic");
    assert!(matches!(
        feed.put("x".into(), PATIENCE),
        Offered::Closed | Offered::Taken
    ));
}

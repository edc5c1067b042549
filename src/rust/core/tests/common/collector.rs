//! A collector of spans that answers as a test says, and reads OTLP by the numbers of its fields.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::local::wait_until;

/// A span, as it came.
#[derive(Clone, Debug, Default)]
pub struct CollectedSpan {
    pub trace: String,
    pub span: String,
    /// Empty if it has none.
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub is_error: bool,
}

impl CollectedSpan {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", |value| value)
    }
}

pub struct Collector {
    pub address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::answering(|_| 200)
    }

    /// One that answers the nth request, from 0, with such a status. What it does not answer with 200 is not there.
    pub fn answering(status: impl Fn(usize) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (kept, over) = (bodies.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let status = status(number);
                let stream = stream.expect("a connection");
                if let Some(body) = take(stream, status).filter(|_| status == 200) {
                    kept.lock().expect("no panic").push(body);
                }
            }
        });
        Self {
            address,
            bodies,
            ends,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<CollectedSpan> {
        let bodies = self.bodies.lock().expect("no panic");
        bodies.iter().flat_map(|body| read(body)).collect()
    }

    /// Waits for spans of a call, and for no others.
    pub fn of_call(&self, id: &str, count: usize) -> Vec<CollectedSpan> {
        let mut found = Vec::new();
        wait_until("the spans of a call", || {
            found = self.spans();
            found.retain(|span| span.attribute("faucet.call_id") == id);
            found.len() >= count
        });
        assert_eq!(found.len(), count, "{found:#?}");
        found
    }

    /// The attributes of whoever has sent the first of them.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let bodies = self.bodies.lock().expect("no panic");
        let resource_spans = only(bodies.first().expect("a request"), 1);
        attributes(&only(&resource_spans, 1), 1)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a request and answers it.
fn take(stream: TcpStream, status: u16) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    let length = head.split("content-length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\n\r\n");
    (&stream).write_all(answer.as_bytes()).ok()?;
    Some(body)
}

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message's fields, by number.
fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => {
                let (number, rest) = message.split_at(8);
                message = rest;
                Field::Number(u64::from_le_bytes(number.try_into().expect("eight")))
            }
            2 => {
                let length = varint(&mut message) as usize;
                let (bytes, rest) = message.split_at(length);
                message = rest;
                Field::Bytes(bytes.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = message.split_first().expect("a byte");
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn all(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    let of_number = fields(message).into_iter().filter(|(n, _)| *n == number);
    let bytes = of_number.filter_map(|(_, field)| match field {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    });
    bytes.collect()
}

/// Empty if there is none.
fn only(message: &[u8], number: u64) -> Vec<u8> {
    all(message, number).pop().unwrap_or_default()
}

fn number(message: &[u8], number: u64) -> u64 {
    let mut of_number = fields(message).into_iter().filter(|(n, _)| *n == number);
    match of_number.next() {
        Some((_, Field::Number(number))) => number,
        _ => 0,
    }
}

fn text(message: &[u8], number: u64) -> String {
    String::from_utf8(only(message, number)).expect("text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(message: &[u8], tag: u64) -> BTreeMap<String, String> {
    let pairs = all(message, tag).into_iter().map(|pair| {
        let value = match fields(&only(&pair, 2)).pop() {
            Some((1, Field::Bytes(text))) => String::from_utf8(text).expect("text"),
            Some((3, Field::Number(number))) => number.to_string(),
            Some((4, Field::Number(bits))) => f64::from_bits(bits).to_string(),
            _ => panic!("no value"),
        };
        (text(&pair, 1), value)
    });
    pairs.collect()
}

fn read(request: &[u8]) -> Vec<CollectedSpan> {
    let scopes = all(request, 1).into_iter().flat_map(|spans| all(&spans, 2));
    let spans = scopes.flat_map(|scope| all(&scope, 2));
    let spans = spans.map(|span| CollectedSpan {
        trace: hex(&only(&span, 1)),
        span: hex(&only(&span, 2)),
        parent: hex(&only(&span, 4)),
        name: text(&span, 5),
        kind: number(&span, 6),
        start: number(&span, 7),
        end: number(&span, 8),
        attributes: attributes(&span, 9),
        is_error: number(&only(&span, 15), 3) == 2,
    });
    spans.collect()
}

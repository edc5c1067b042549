//! A native worker's own side, as R drives it: the next request, its answer, its stream.
//!
//! All of it belongs to R's main thread; the thread that speaks HTTP is behind the dispatcher.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use extendr_api::prelude::*;
use extendr_api::AsTypedSlice;
use faucet_core::body::{self, Buffered};
use faucet_core::environment::Environment;
use faucet_core::serve::{
    pipe, Answer, Content, Dispatcher, Inlet, PipeWriter, Read, Request, Server, Settings, Written,
};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;

use crate::answer::{bad, failure, good};
use crate::compiled::{self, Way};
use crate::{interrupts, memory, panics, rook};

/// What R's thread has at hand.
struct Serving {
    server: Server,
    /// The same for every request: names and values.
    constants: Arc<[(&'static str, String)]>,
    /// The request in hand, or the last one, without its body, and how long that is.
    request: Option<(Rc<Request>, u64)>,
    /// The body of the request in hand.
    body: Buffered,
    /// The same, if it comes meanwhile.
    inlet: Option<Inlet>,
    stream: Stream,
    /// When R last looked at what else there is to do.
    looked: Instant,
}

/// `None -> Open -> Ended`: whether a stream answers the request in hand.
enum Stream {
    None,
    Open(PipeWriter),
    Ended,
}

impl Stream {
    fn writer(&self) -> Option<&PipeWriter> {
        match self {
            Self::Open(writer) => Some(writer),
            Self::None | Self::Ended => None,
        }
    }
}

thread_local! {
    static SERVING: RefCell<Option<Serving>> = const { RefCell::new(None) };
}

/// Does something with what is being served, if anything is.
fn with<T>(f: impl FnOnce(&mut Serving) -> T) -> Option<T> {
    SERVING.with(|serving| serving.borrow_mut().as_mut().map(f))
}

fn patience(milliseconds: f64) -> Duration {
    Duration::from_secs_f64((milliseconds / 1000.0).clamp(0.0, 3600.0))
}

/// Begins to serve on a Unix socket: from now on requests can be had.
/// @param socket Path of the socket.
/// @param host,port What requests are told of where they arrived.
/// @param docs The path of the app's documentation, or nothing.
/// @param signature What the function takes that is served, as JSON, or nothing.
/// @param routes The app's routes, as JSON in one line, or nothing.
/// @noRd
#[extendr]
fn serve_start(
    socket: String,
    host: String,
    port: String,
    docs: String,
    signature: String,
    routes: String,
) -> List {
    memory::reuse();
    // Requests are interrupted as a user would do it: R's handler runs on this thread, and system
    // calls that wait are broken off.
    let main = pthread_self();
    let dispatcher = Dispatcher::new(move || {
        // The main thread lives as long as the process.
        let _ = pthread_kill(main, Signal::SIGINT);
    });
    panics::install();
    body::set_directory(Environment::read().temporary_directory());
    let settings = Settings {
        socket: socket.into(),
        body_memory: 1 << 20,
        docs: Some(docs).filter(|path| !path.is_empty()),
        signature: Some(signature).filter(|signature| !signature.is_empty()),
        routes: Some(routes)
            .filter(|routes| !routes.is_empty())
            .map(Arc::from),
    };
    match Server::start(settings, Arc::new(dispatcher)) {
        Err(error) => bad(&failure("boot", format!("Cannot serve: {error}"))),
        Ok(server) => {
            let constants = [
                ("SCRIPT_NAME", String::new()),
                ("SERVER_NAME", host),
                ("SERVER_PORT", port),
                ("REMOTE_ADDR", "127.0.0.1".into()),
                ("REMOTE_PORT", "0".into()),
                ("rook.version", "1.1-0".into()),
                ("rook.url_scheme", "http".into()),
            ];
            SERVING.with(|serving| {
                *serving.borrow_mut() = Some(Serving {
                    server,
                    constants: constants.into(),
                    request: None,
                    body: Buffered::default(),
                    inlet: None,
                    stream: Stream::None,
                    looked: Instant::now(),
                });
            });
            good([])
        }
    }
}

/// Ends serving: the sockets are gone.
/// @noRd
#[extendr(invisible)]
fn serve_stop() {
    SERVING.with(|serving| serving.borrow_mut().take());
}

/// The next request, or `NULL` if none came within `timeout_ms`.
/// @return A list: `length`, that of the body in bytes, -1 if it comes meanwhile. For a compiled route `route`, its number, and the
/// arguments (see `Call::parts()`); otherwise what `serve_fields()` returns, and `changed`, if the app is not what was compiled.
/// @noRd
#[extendr]
fn serve_next(timeout_ms: f64) -> Robj {
    let next = with(|serving| {
        let mut request = serving.server.dispatcher().next(patience(timeout_ms))?;
        let inlet = request.inlet.take();
        let flows = inlet.is_some();
        serving.inlet = inlet;
        serving.body = std::mem::take(&mut request.body);
        serving.stream = Stream::None;
        let request = (Rc::new(request), serving.body.len());
        serving.request = Some(request.clone());
        Some((request, flows, serving.constants.clone()))
    });
    // Out here, as R may run out of memory, which must not leave what is shared locked.
    let Some(((request, length), flows, constants)) = next.flatten() else {
        return r!(NULL);
    };
    let way = if flows {
        Way::Plumber
    } else {
        compiled::way(&request, length)
    };
    let mut parts = match way {
        Way::Compiled(call) => call.parts(length > 0),
        Way::Plumber => described(&request, length, &constants),
        Way::Changed => {
            let mut parts = described(&request, length, &constants);
            parts.push(("changed", true.into()));
            parts
        }
    };
    let length = if flows { -1.0 } else { length as f64 };
    parts.push(("length", length.into()));
    List::from_pairs(parts).into()
}

/// `fields` and `bytes`: see `serve_fields()`.
fn described(
    request: &Request,
    length: u64,
    constants: &[(&'static str, String)],
) -> Vec<(&'static str, Robj)> {
    let fields = rook::fields(request, length, constants);
    let mut parts = vec![("fields", fields.into())];
    let bytes = rook::not_utf8(request);
    if !bytes.is_empty() {
        parts.push(("bytes", List::from_pairs(bytes).into()));
    }
    parts
}

/// What Rook asks for of the request in hand, or of the last one.
/// @return A list: `fields`, by name; and `bytes`, the values of headers that are no UTF-8, as raw vectors by name, if there are
/// any. `NULL` if there was no request.
/// @noRd
#[extendr]
fn serve_fields() -> Robj {
    let request = with(|serving| Some((serving.request.clone()?, serving.constants.clone())));
    match request.flatten() {
        None => r!(NULL),
        Some(((request, length), constants)) => {
            List::from_pairs(described(&request, length, &constants)).into()
        }
    }
}

/// The body of the request in hand from byte `at` on, `most` bytes of it, or what there is.
/// @return A raw vector, or what went wrong.
/// @noRd
#[extendr]
fn serve_body(at: f64, most: f64) -> Robj {
    let at = at as u64;
    let rest = with(|serving| serving.body.len().saturating_sub(at)).unwrap_or(0);
    let length = (rest as f64).min(most) as usize;
    // Not cleared first, as raw() would do; and with nothing locked, as R may not have that much memory.
    let mut bytes = Robj::alloc_vector(extendr_api::rtype_to_sxp(Rtype::Raw), length);
    let copied = match bytes.as_typed_slice_mut() {
        Some(buffer) => with(|serving| serving.body.copy_to(at, buffer)).unwrap_or(Ok(0)),
        None => Ok(0),
    };
    match copied {
        Ok(count) if count == length => bytes,
        Ok(_) => bad(&failure("body", "The request's body is not complete.")).into(),
        Err(error) => bad(&failure(
            "body",
            format!("The request's body is lost: {error}"),
        ))
        .into(),
    }
}

/// The next bytes of a body that comes meanwhile, `most` of them at most; waits for some no longer than `timeout_ms`.
/// @return A raw vector, empty if nothing came; `NULL` at the end; or what went wrong.
/// @noRd
#[extendr]
fn serve_read(most: f64, timeout_ms: f64) -> Robj {
    let read = with(|serving| {
        let inlet = serving.inlet.as_ref()?;
        Some(inlet.read(most.max(1.0) as usize, patience(timeout_ms)))
    });
    match read.flatten() {
        Some(Read::Some(pieces)) => joined(&pieces),
        Some(Read::None) => Raw::new(0).into(),
        Some(Read::End) | None => r!(NULL),
        Some(Read::Broken) => bad(&failure(
            "input_failed",
            "The input has broken off: whoever writes it has left or failed.",
        ))
        .into(),
    }
}

/// A raw vector of all pieces.
fn joined(pieces: &[impl AsRef<[u8]>]) -> Robj {
    let length = pieces.iter().map(|piece| piece.as_ref().len()).sum();
    // Not cleared first, as raw() would do.
    let mut vector = Robj::alloc_vector(extendr_api::rtype_to_sxp(Rtype::Raw), length);
    if let Some(mut buffer) = vector.as_typed_slice_mut() {
        for piece in pieces.iter().map(AsRef::as_ref) {
            let (here, rest) = buffer.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            buffer = rest;
        }
    }
    vector
}

/// Answers the request in hand.
/// @param status A number.
/// @param names,values Headers, in order. Where not all values are UTF-8, they are a list of raw vectors.
/// @param body Raw bytes, or the absolute path of a file, or `NULL`.
/// @return `NULL`, or what is wrong with it.
/// @noRd
#[extendr]
fn serve_answer(status: f64, names: Strings, values: Robj, body: Robj) -> Robj {
    let content = if let Some(bytes) = body.as_raw() {
        Content::Bytes(bytes.as_slice().to_vec().into())
    } else if let Some(path) = body.as_str() {
        Content::File(path.into())
    } else {
        Content::Bytes(Vec::new().into())
    };
    begin(status, &names, &values, content)
}

/// Answers with a head, and a body that is written from now on.
/// @return `NULL`, or what is wrong with it.
/// @noRd
#[extendr]
fn serve_stream(status: f64, names: Strings, values: Robj) -> Robj {
    let (writer, reader) = pipe();
    let begun = begin(status, &names, &values, Content::Stream(reader));
    if begun.is_null() {
        with(|serving| serving.stream = Stream::Open(writer));
    }
    begun
}

fn begin(status: f64, names: &Strings, values: &Robj, content: Content) -> Robj {
    let headers = names
        .iter()
        .zip(values_of(values))
        .map(|(name, value)| (name.to_string(), value));
    match Answer::new(status as i64, headers, content) {
        Err(error) => bad(&failure("response", error.to_string())).into(),
        Ok(answer) => {
            // Whoever wanted it may be gone.
            with(|serving| serving.server.dispatcher().answer(answer));
            r!(NULL)
        }
    }
}

/// The values of headers, as they came from R.
fn values_of(values: &Robj) -> Vec<Vec<u8>> {
    if let Some(texts) = values.as_str_iter() {
        texts.map(|text| text.as_bytes().to_vec()).collect()
    } else if let Some(list) = values.as_list() {
        let raw = list.values();
        raw.map(|value| value.as_raw_slice().unwrap_or_default().to_vec())
            .collect()
    } else {
        Vec::new()
    }
}

/// Writes to the stream; waits at most `timeout_ms` for room.
/// @return `"done"`, `"full"` (try again) or `"closed"`: nobody reads it, or its client has left.
/// @noRd
#[extendr]
fn serve_write(chunk: Raw, timeout_ms: f64) -> &'static str {
    let written = with(|serving| {
        let stream = serving.stream.writer()?;
        if serving.server.dispatcher().is_cancelled() {
            return None;
        }
        Some(stream.write(chunk.as_slice(), patience(timeout_ms)))
    });
    match written.flatten() {
        Some(Written::Done) => "done",
        Some(Written::Full) => "full",
        Some(Written::Closed) | None => "closed",
    }
}

/// The stream is complete.
/// @noRd
#[extendr(invisible)]
fn serve_stream_end() {
    with(|serving| {
        if let Stream::Open(writer) = std::mem::replace(&mut serving.stream, Stream::Ended) {
            writer.finish();
        }
    });
}

/// Whether somebody reads the stream.
/// @noRd
#[extendr]
fn serve_is_open() -> bool {
    with(|serving| {
        let read = serving.stream.writer().is_some_and(PipeWriter::is_open);
        read && !serving.server.dispatcher().is_cancelled()
    })
    .unwrap_or(false)
}

/// Whether a stream has been begun for the request in hand.
/// @noRd
#[extendr]
fn serve_has_streamed() -> bool {
    with(|serving| !matches!(serving.stream, Stream::None)).unwrap_or(false)
}

/// Whether the thread that speaks HTTP has ended.
/// @noRd
#[extendr]
fn serve_is_closed() -> bool {
    with(|serving| serving.server.dispatcher().is_closed()).unwrap_or(true)
}

/// Whether an interrupt is pending in R: cheaper than to let R take it.
/// @noRd
#[extendr]
fn serve_has_interrupt() -> bool {
    interrupts::is_pending()
}

/// Whether less than so many milliseconds have passed since this last said that it was not so.
/// @noRd
#[extendr]
fn serve_is_rushed(milliseconds: f64) -> bool {
    with(|serving| {
        let rushed = serving.looked.elapsed() < patience(milliseconds);
        if !rushed {
            serving.looked = Instant::now();
        }
        rushed
    })
    .unwrap_or(false)
}

/// Whether a request is in hand.
/// @noRd
#[extendr]
fn serve_is_busy() -> bool {
    with(|serving| serving.server.dispatcher().is_busy()).unwrap_or(false)
}

/// Whether the client of the request in hand has left, or its time is over.
/// @noRd
#[extendr]
fn serve_is_cancelled() -> bool {
    with(|serving| serving.server.dispatcher().is_cancelled()).unwrap_or(false)
}

/// Whether an interrupt was sent for the request in hand.
/// @noRd
#[extendr]
fn serve_is_interrupted() -> bool {
    with(|serving| serving.server.dispatcher().is_interrupted()).unwrap_or(false)
}

/// Begins (`TRUE`) or ends what a client that leaves does not interrupt.
/// @noRd
#[extendr(invisible)]
fn serve_shield(on: bool) {
    with(|serving| {
        let dispatcher = serving.server.dispatcher();
        if on {
            dispatcher.shield();
        } else {
            dispatcher.unshield();
        }
    });
}

/// The request in hand is over. No interrupt is sent for it from now on, but one that was sent may be pending.
/// @return Whether one was sent.
/// @noRd
#[extendr]
fn serve_finish() -> bool {
    let finished = with(|serving| {
        // A stream that its handler did not end breaks off; the body is not needed any more.
        serving.stream = Stream::None;
        serving.body = Buffered::default();
        serving.inlet = None;
        serving.server.dispatcher().finish()
    });
    let interrupted = finished.is_some_and(|finished| finished.interrupted);
    if interrupted {
        // The signal was sent before the dispatcher let go; on its way back from a system call this thread has
        // taken it, so that whoever polls after this finds it.
        let _ = nix::sys::signal::SigSet::thread_get_mask();
    }
    interrupted
}

extendr_module! {
    mod serve;
    fn serve_start;
    fn serve_stop;
    fn serve_next;
    fn serve_fields;
    fn serve_body;
    fn serve_read;
    fn serve_answer;
    fn serve_stream;
    fn serve_write;
    fn serve_stream_end;
    fn serve_is_open;
    fn serve_has_interrupt;
    fn serve_is_rushed;
    fn serve_has_streamed;
    fn serve_is_closed;
    fn serve_is_busy;
    fn serve_is_cancelled;
    fn serve_is_interrupted;
    fn serve_shield;
    fn serve_finish;
}

//! Requests that R makes: it starts one, then looks at it from time to time, so that Ctrl-C is seen.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::client::{
    feed, feed_from, Client, Exchange, ExchangeLimits, Feed, Head, Offered, Outgoing, Polled, Pour,
    RequestBody, ServerAddress,
};
use faucet_core::environment::SystemError;
use faucet_core::functions::{pack, UnpackLimits, Unpackable};
use faucet_core::sources::Failure;
use faucet_core::tls::ClientTls;
use faucet_core::token::Token;

use crate::answer::{bad, failure, good, text, texts};
use crate::settings::Named;
use crate::{interrupts, panics};

/// A request that was made, until it is given up; and the process that made it.
struct Handle {
    request: Option<Started>,
    pid: u32,
}

struct Started {
    answer: Answer,
    /// Where R puts the body in, if it is not known beforehand.
    feed: Option<Feed>,
}

enum Answer {
    ForR(Exchange),
    /// Goes to standard output.
    Poured(Pour),
}

impl Started {
    /// With `room`, waits no longer once more of the body can be put in.
    fn poll(&self, patience: Duration, room: bool) -> Polled {
        match &self.answer {
            Answer::ForR(exchange) if room => exchange.poll_or_room(patience),
            Answer::ForR(exchange) => exchange.poll(patience),
            Answer::Poured(pour) => pour.poll(patience),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // Its thread is the parent's: what wakes that is shared.
            std::mem::forget(self.request.take());
        }
    }
}

fn with<T>(handle: Robj, f: impl FnOnce(&mut Option<Started>) -> T) -> Result<T, Failure> {
    let lost = || failure("handle", "This request was made by another R process.");
    let mut pointer = ExternalPtr::<Handle>::try_from(handle).map_err(|_| lost())?;
    let inner = pointer.try_addr_mut().map_err(|_| lost())?;
    if inner.pid != std::process::id() {
        return Err(lost());
    }
    Ok(f(&mut inner.request))
}

/// Reads a server's address.
/// @return Its one form, `url`, and whether others can read what is sent there (`exposed`); or what is wrong with it (`problem`).
/// @noRd
#[extendr]
fn client_address(address: &str) -> List {
    match ServerAddress::parse(address) {
        Err(problem) => good([("problem", text(&problem))]),
        Ok(address) => good([
            ("url", text(&address.to_string())),
            ("exposed", address.is_exposed().into()),
            ("tls", address.tls.into()),
        ]),
    }
}

/// Starts a request.
/// @param request Named list, complete and checked: `url`, `ca`, `token`, `connect_timeout`, `timeout`, `most`, `method`, `path`,
///   `headers`; `body` (raw), `file` (a path), `fed` (by `client_feed()`) or `input` (standard input) says what is sent; with
///   `output`, the answer goes to standard output unless it is an error.
/// @noRd
#[extendr]
fn client_start(request: List) -> List {
    panics::install();
    match start(&request) {
        Err(failure) => bad(&failure),
        Ok(started) => {
            let handle = Handle {
                request: Some(started),
                pid: std::process::id(),
            };
            good([("handle", ExternalPtr::new(handle).into())])
        }
    }
}

fn start(request: &List) -> Result<Started, Failure> {
    let named = Named::new(request);
    let address = ServerAddress::parse(&named.string("url")?)
        .map_err(|problem| failure("option", format!("`to`: {problem}")))?;
    let ca = named.if_any("ca", Named::string)?.map(PathBuf::from);
    let tls = address.tls.then(|| ClientTls::load(ca.as_deref()));
    let client = Client {
        tls: tls.transpose()?.map(Arc::new),
        token: named.if_any("token", Named::string)?.map(Token::new),
        connect_timeout: named
            .seconds("connect_timeout")?
            .unwrap_or(Duration::from_secs(60)),
        address,
    };
    let limits = ExchangeLimits {
        timeout: named.seconds("timeout")?,
        most: named.whole("most")?,
    };
    let (body, feed) = body(&named)?;
    let outgoing = outgoing(&named, body)?;
    let exchange = Exchange::start(client, outgoing, limits).map_err(|error| no_thread(&error))?;
    let answer = if is_asked(&named, "output")? {
        let output = descriptor(std::io::stdout())?;
        Answer::Poured(Pour::start(exchange, output).map_err(|error| no_thread(&error))?)
    } else {
        Answer::ForR(exchange)
    };
    Ok(Started { answer, feed })
}

/// Whether a flag is there, and set.
fn is_asked(named: &Named, name: &str) -> Result<bool, Failure> {
    Ok(named.if_any(name, Named::flag)?.unwrap_or(false))
}

fn no_thread(error: &std::io::Error) -> Failure {
    let error = SystemError(error);
    failure("system", format!("No thread could be started: {error}."))
}

/// A standard stream as a file, without what the standard library keeps of it.
fn descriptor(stream: impl AsFd) -> Result<File, Failure> {
    stream.as_fd().try_clone_to_owned().map_or_else(
        |error| {
            let error = SystemError(&error);
            let message = format!("A standard stream cannot be used: {error}.");
            Err(failure("file", message))
        },
        |owned| Ok(owned.into()),
    )
}

/// What is sent, and where R puts it in, if it does.
fn body(named: &Named) -> Result<(RequestBody, Option<Feed>), Failure> {
    if let Some(path) = named.if_any("file", Named::string)? {
        let body = RequestBody::file(Path::new(&path)).map_err(|error| {
            let error = SystemError(&error);
            failure("file", format!("{path} cannot be sent: {error}."))
        })?;
        return Ok((body, None));
    }
    if is_asked(named, "input")? {
        let (feed, body) = feed();
        let input = descriptor(std::io::stdin())?;
        feed_from(input, feed).map_err(|error| no_thread(&error))?;
        return Ok((RequestBody::Fed(body), None));
    }
    if is_asked(named, "fed")? {
        let (feed, body) = feed();
        return Ok((RequestBody::Fed(body), Some(feed)));
    }
    let bytes = named.if_any("body", Named::raw)?.unwrap_or_default();
    Ok((RequestBody::bytes(bytes), None))
}

fn outgoing(named: &Named, body: RequestBody) -> Result<Outgoing, Failure> {
    let given = named.list("headers")?;
    let headers = given
        .iter()
        .map(|(name, value)| (name, value.as_str().unwrap_or_default()));
    let headers: Vec<_> = headers.collect();
    Outgoing::new(
        &named.string("method")?,
        named.string("path")?,
        &headers,
        body,
    )
    .map_err(|what| failure("option", format!("{what} cannot be sent.")))
}

/// Sends a piece of the body, if there is room for it.
/// @return "taken", "full", or "closed": nothing is sent any more.
/// @noRd
#[extendr]
fn client_feed(handle: Robj, bytes: Raw) -> List {
    let piece = bytes.as_slice().to_vec().into();
    let offered = with(handle, |request| {
        let feed = request.as_ref().and_then(|started| started.feed.as_ref());
        feed.map(|feed| feed.put(piece, Duration::ZERO))
    });
    match offered {
        Err(failure) => bad(&failure),
        Ok(Some(Offered::Taken)) => good([("state", "taken".into())]),
        Ok(Some(Offered::Full(_))) => good([("state", "full".into())]),
        Ok(Some(Offered::Closed) | None) => good([("state", "closed".into())]),
    }
}

/// Ends the body.
/// @param problem Why it is not complete: the request is then broken off. `NULL` if it is.
/// @noRd
#[extendr]
fn client_feed_end(handle: Robj, problem: Robj) -> List {
    let outcome = problem.as_str().map_or(Ok(()), |why| Err(why.to_owned()));
    let ended = with(handle, |request| {
        let feed = request.as_mut().and_then(|started| started.feed.take());
        if let Some(feed) = feed {
            feed.end(outcome);
        }
    });
    match ended {
        Err(failure) => bad(&failure),
        Ok(()) => good([]),
    }
}

/// What has come of a request; waits at most `timeout_ms` for something to come.
/// @param room Whether to wait no longer once `client_feed()` has room.
/// @return `status`, once the head has come, with `names` and `values` of its headers; `bytes`; whether it is `done`; and what went
///   wrong, `class` and `message`, if something did.
/// @noRd
#[extendr]
fn client_poll(handle: Robj, timeout_ms: i32, room: bool) -> List {
    let patience = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let polled = with(handle, |request| {
        request.as_ref().map(|started| started.poll(patience, room))
    });
    let polled = match polled {
        Ok(Some(polled)) => polled,
        Ok(None) => return bad(&failure("handle", "This request was given up.")),
        Err(failure) => return bad(&failure),
    };
    let (status, names, values) = match polled.head {
        None => (r!(NULL), r!(NULL), r!(NULL)),
        Some(head) => told(&head),
    };
    let bytes = Raw::from_bytes(&polled.pieces.concat());
    let problem = polled
        .outcome
        .as_ref()
        .and_then(|ended| ended.as_ref().err());
    good([
        ("status", status),
        ("names", names),
        ("values", values),
        ("bytes", bytes.into()),
        ("done", polled.outcome.is_some().into()),
        (
            "class",
            problem.map_or(r!(NULL), |problem| problem.class().into()),
        ),
        (
            "message",
            problem.map_or(r!(NULL), |problem| text(&problem.to_string())),
        ),
    ])
}

fn told(head: &Head) -> (Robj, Robj, Robj) {
    let values: Vec<_> = head
        .headers
        .values()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (
        i32::from(head.status.as_u16()).into(),
        texts(head.headers.keys().map(|name| name.as_str())),
        texts(values.iter().map(String::as_str)),
    )
}

/// Gives a request up, and closes its connection.
/// @noRd
#[extendr(invisible)]
fn client_drop(handle: Robj) {
    // Of another process: not ours to give up.
    drop(with(handle, Option::take));
}

/// Packs a folder.
/// @param archive The file to write, which must not be there.
/// @return `digest`: SHA-256 of that file in hexadecimal digits.
/// @noRd
#[extendr]
fn bundle_pack(folder: &str, archive: &str) -> List {
    let go_on = || !interrupts::is_pending();
    let limits = UnpackLimits::default();
    match pack(Path::new(folder), Path::new(archive), limits, &go_on) {
        Ok(digest) => good([("digest", text(&digest))]),
        Err(Unpackable::Interrupted) => bad(&failure("interrupted", "Interrupted.")),
        Err(error) => bad(&failure(
            "bundle",
            format!("{folder} cannot be packed: {error}."),
        )),
    }
}

extendr_module! {
    mod client;
    fn bundle_pack;
    fn client_address;
    fn client_drop;
    fn client_feed;
    fn client_feed_end;
    fn client_poll;
    fn client_start;
}

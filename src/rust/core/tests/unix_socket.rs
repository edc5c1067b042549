//! Clients that come over a Unix socket: served as over TCP, and nobody's word for an address.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use common::local::{wait_until, Local};
use common::native::{Control, NativeWorker, PATIENT};
use common::{house, until, within, House, Upstream, PATIENCE};
use faucet_core::endpoint::Endpoint;
use faucet_core::front::{accept, Bound, TrustedProxies};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// Lets a house be reached at a Unix socket, too.
struct Door {
    path: PathBuf,
    _dir: TempDir,
}

impl Door {
    fn of(house: &House) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.sock");
        let bound = Bound::listen(&Endpoint::Unix(path.clone())).expect("bound");
        let listener = bound.into_listener().expect("a runtime");
        tokio::spawn(accept(house.front.clone(), listener));
        Self { path, _dir: dir }
    }

    async fn send(&self, bytes: impl AsRef<[u8]>) -> UnixStream {
        let mut client = UnixStream::connect(&self.path).await.expect("it listens");
        client.write_all(bytes.as_ref()).await.expect("it reads");
        client
    }
}

/// All that comes until the connection ends.
async fn rest(mut client: UnixStream) -> String {
    let mut text = String::new();
    within("the end", client.read_to_string(&mut text))
        .await
        .expect("a proper end");
    text
}

const POST: &str = "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn requests_are_answered_one_after_the_other_and_pipelined() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let door = Door::of(&house);
    let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let client = door.send(format!("{POST}{POST}{last}")).await;
    let answers = rest(client).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(worker.targets(), ["/left", "/left", "/last"]);
    // Cleartext HTTP/2, as far as its preface: the first word is the server's settings.
    let mut client = door.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut frame = [0; 9];
    within("settings", client.read_exact(&mut frame))
        .await
        .expect("a frame");
    assert_eq!(frame[3], 4);
}

#[tokio::test]
async fn a_request_that_is_none_hears_why_and_is_logged() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let door = Door::of(&house);
    let answer = rest(door.send("NONSENSE\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    until("the request is logged", || {
        let (lines, _) = house.log.take();
        lines
            .iter()
            .any(|line| line.text.contains(r#""client":"unix:""#))
    })
    .await;
}

#[tokio::test]
async fn who_half_closes_is_answered_and_who_leaves_sets_the_worker_free() {
    let (worker, gate) = NativeWorker::gated(Control::Obey);
    let house = worker.house(PATIENT, |_| {}).await;
    let door = Door::of(&house);
    let mut client = door.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.shutdown().await.expect("half closed");
    worker.arrived(1).await;
    gate.open(1);
    assert!(rest(client).await.starts_with("HTTP/1.1 200 OK"));
    house.idle().await;
    for extra in ["", "\r\n", "x", "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let count = worker.numbers().len();
        let client = door.send(format!("{POST}{extra}")).await;
        worker.arrived(count + 1).await;
        drop(client);
        worker.heard(&format!("interrupt {} left", count + 1)).await;
        house.idle().await;
    }
}

#[tokio::test]
async fn a_client_without_an_address_is_believed_only_if_unix_is_trusted() {
    let worker = Upstream::echo().await;
    let claim = concat!(
        "GET / HTTP/1.1\r\nHost: inner\r\nConnection: close\r\nX-Forwarded-For: 9.9.9.9\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example\r\n\r\n"
    );
    // An address is not everybody's, however many there are in it.
    let stranger = house(&[&worker], |plan| {
        plan.trusted = TrustedProxies::parse(&["0.0.0.0/0", "::/0"]).expect("valid");
    })
    .await;
    rest(Door::of(&stranger).send(claim).await).await;
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("unix:"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("inner"));

    let trusting = house(&[&worker], |plan| {
        plan.trusted = TrustedProxies::parse(&["unix:"]).expect("valid");
    })
    .await;
    rest(Door::of(&trusting).send(claim).await).await;
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, unix:"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example"));
    until("the client is logged", || {
        let (lines, _) = trusting.log.take();
        lines
            .iter()
            .any(|line| line.text.contains(r#""client":"9.9.9.9""#))
    })
    .await;
    // And then, no address is.
    let mut client = trusting.client().await;
    client.send(claim).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(worker.last().header("x-forwarded-for"), Some("127.0.0.1"));
}

fn ask(path: &Path, target: &str) -> String {
    let mut stream = StdStream::connect(path).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a live socket");
    let request = format!("GET {target} HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
        .split_once("\r\n\r\n")
        .unwrap_or_default()
        .1
        .to_owned()
}

/// A server at `app.sock`, with its operators' port at `admin.sock`.
fn server(dir: &Path) -> Local {
    let at = |name: &str| format!("unix:{}", dir.join(name).display());
    Local::ready(1, "says:here", |setup| {
        setup.host = at("app.sock");
        setup.admin_host = at("admin.sock");
    })
}

#[test]
fn a_server_listens_at_a_socket_and_removes_it_at_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let (app, admin) = (dir.path().join("app.sock"), dir.path().join("admin.sock"));
    let mut local = server(dir.path());
    assert_eq!(
        local.server.url().expect("a port"),
        format!("unix:{}", app.display())
    );
    let admin_url = local.server.admin_url().expect("it has one");
    assert_eq!(admin_url, format!("unix:{}", admin.display()));
    assert_eq!(ask(&app, "/says"), "here");
    assert_eq!(ask(&app, "/env:FAUCET_SERVER_PORT"), "80");
    assert_eq!(ask(&app, "/env:FAUCET_SERVER_NAME"), "localhost");
    assert!(ask(&admin, "/status").contains("\"workers\""));
    // The second one finds the first.
    let refused = std::panic::catch_unwind(|| server(dir.path()));
    assert!(refused.is_err());
    assert_eq!(ask(&app, "/says"), "here");
    local.stop().expect("a good end");
    wait_until("the sockets are gone", || !app.exists() && !admin.exists());
}

#[test]
fn a_socket_that_is_somebody_elses_by_then_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let app = dir.path().join("app.sock");
    let mut local = server(dir.path());
    fs::remove_file(&app).expect("removed");
    let other = UnixListener::bind(&app).expect("bound");
    local.stop().expect("a good end");
    let gone = || !local.server.is_running();
    wait_until("the server is gone", gone);
    assert!(app.exists());
    drop(other);
    // Now it is stale.
    let local = server(dir.path());
    assert_eq!(ask(&app, "/says"), "here");
    drop(local);
    wait_until("the socket is gone", || !app.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_needs_no_file() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("faucet-test-{}", std::process::id());
    let host = format!("unix:@{name}");
    let mut local = Local::ready(1, "says:here", |setup| setup.host = host.clone());
    assert_eq!(local.server.url().expect("a port"), host);
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let mut stream = StdStream::connect_addr(&address).expect("it listens");
    let request = "GET /says HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.ends_with("here"), "{answer}");
    local.stop().expect("a good end");
    wait_until("nobody listens there", || {
        StdStream::connect_addr(&address).is_err()
    });
}

#[tokio::test]
async fn a_socket_that_was_passed_keeps_those_who_come_after_the_end() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("passed.sock");
    let passed = UnixListener::bind(&path).expect("bound");
    let twin = passed.try_clone().expect("a second handle");
    let bound = Bound::of(twin.into()).expect("it listens");
    assert_eq!(bound.endpoint(), &Endpoint::Unix(path.clone()));
    let listener = bound.into_listener().expect("a runtime");
    let accepting = tokio::spawn(accept(house.front.clone(), listener));
    let mut first = UnixStream::connect(&path).await.expect("it listens");
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .expect("it reads");
    assert!(rest(first).await.starts_with("HTTP/1.1 200 OK"));
    house.front.connections.close_door();
    within("its end", accepting).await.expect("no panic");
    let _late = StdStream::connect(&path).expect("the socket lives");
    // As whoever has opened it can have it.
    passed.set_nonblocking(true).expect("a live socket");
    assert!(passed.accept().is_ok());
    assert!(path.exists());
    let (one, _other) = StdStream::pair().expect("two");
    assert!(Bound::of(one.into()).is_err(), "it does not listen");
}

//! TLS at the front's port: certificates, handshakes, and all that is promised without TLS.

mod common;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::native::{Control, NativeWorker, PATIENT};
use common::tls::{blocking, dial, expired, self_signed, server, Authority, Files, Identity};
use common::{house, pattern, until, within, Client, Dice, House, Seen, Upstream, Wire, SOON};
use faucet_core::client_stream::ClientStream;
use faucet_core::tls::{ClientTls, ServerTls, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A front with TLS, and a client that believes its CA.
async fn secured(worker: &Upstream) -> (House, ClientTls) {
    let authority = Authority::new();
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[worker], |plan| plan.tls = tls).await;
    (house, authority.believed())
}

/// Answers with what it was sent.
async fn echoing() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await
}

async fn client(house: &House, tls: &ClientTls) -> Client<ClientStream> {
    dial(tls, "localhost", house.address)
        .await
        .expect("a good certificate")
}

#[tokio::test]
async fn requests_are_answered_as_without() {
    let worker = echoing().await;
    let (house, tls) = secured(&worker).await;
    for name in NAMES {
        let mut client = dial(&tls, name, house.address)
            .await
            .expect("a good certificate");
        for _ in 0..3 {
            assert_eq!(client.get("/a").await.status, 200);
        }
        assert_eq!(worker.last().header("x-forwarded-proto"), Some("https"));
        // More than any buffer on the way holds.
        let body = pattern(3_000_000);
        let response = client.post("/", &body).await;
        assert!(
            response.body == body,
            "{} bytes came back",
            response.body.len()
        );
    }
    house.idle().await;
}

#[tokio::test]
async fn a_slow_client_gets_a_large_body_whole_and_holds_no_worker() {
    let worker = echoing().await;
    let (house, tls) = secured(&worker).await;
    let mut client = client(&house, &tls).await;
    let body = pattern(8_000_000);
    client.start_post("/", &body).await;
    // It has not read a byte of it.
    worker.arrived(1).await;
    house.idle().await;
    assert!(client.response().await.body == body);
}

/// Passes bytes on, some at a time.
async fn crumble(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seed: u64) -> io::Result<()> {
    let mut dice = Dice::new(seed);
    let mut bytes = vec![0; 20_000];
    loop {
        let size = dice.below(15);
        let most = 1 + dice.below(1 << size) as usize;
        match from.read(&mut bytes[..most]).await? {
            0 => return to.shutdown().await,
            count => to.write_all(&bytes[..count]).await?,
        }
        if dice.below(3) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The address of a network that splits what it carries anywhere.
async fn crumbling(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for seed in 1.. {
            let (client, _) = listener.accept().await.expect("a client");
            let server = TcpStream::connect(to).await.expect("it listens");
            let ((client_in, client_out), (server_in, server_out)) =
                (client.into_split(), server.into_split());
            tokio::spawn(crumble(client_in, server_out, seed));
            tokio::spawn(crumble(server_in, client_out, seed + 1000));
        }
    });
    address
}

#[tokio::test]
async fn records_may_come_in_any_pieces() {
    let worker = echoing().await;
    let (house, tls) = secured(&worker).await;
    let network = crumbling(house.address).await;
    for round in 0..20 {
        let mut client = dial(&tls, "localhost", network)
            .await
            .expect("a good certificate");
        let mut dice = Dice::new(round);
        let bodies: Vec<_> = (0..5)
            .map(|_| pattern(dice.below(200_000) as usize))
            .collect();
        // All of them before the first answer is read.
        for body in &bodies {
            client.start_post("/", body).await;
        }
        for body in bodies {
            assert!(client.response().await.body == body, "round {round}");
        }
    }
    house.idle().await;
}

#[tokio::test]
async fn certificates_are_looked_at() {
    let authority = Authority::new();
    let (believed, worker) = (authority.believed(), Upstream::echo().await);
    let bad: [(&str, Identity); 4] = [
        ("expired", authority.sign_with(&NAMES, expired)),
        ("for name", authority.sign(&["elsewhere.example"])),
        ("UnknownIssuer", self_signed(&NAMES)),
        ("UnknownIssuer", Authority::new().sign(&NAMES)),
    ];
    for (why, identity) in bad {
        let tls = server(&identity);
        let house = house(&[&worker], |plan| plan.tls = tls).await;
        let error = dial(&believed, "localhost", house.address)
            .await
            .err()
            .expect(why);
        assert!(error.to_string().contains(why), "{error} instead of {why}");
        until("it is counted", || {
            house.metric("faucet_tls_failures_total{reason=\"handshake\"}") == 1.0
        })
        .await;
    }
    // With that very certificate as CA.
    let own = self_signed(&NAMES);
    let files = Files::new();
    let own_ca = ClientTls::load(Some(&files.write("own.pem", &own.cert))).expect("PEM");
    let tls = server(&own);
    let house = house(&[&worker], |plan| plan.tls = tls).await;
    let mut client = dial(&own_ca, "localhost", house.address)
        .await
        .expect("it is believed");
    assert_eq!(client.get("/").await.status, 200);
}

/// What was agreed on, and how the answer begins.
fn spoken(address: SocketAddr, ca: &str, protocols: &[&str]) -> (Option<Vec<u8>>, Vec<u8>) {
    let mut stream = blocking(address, ca, None, protocols);
    let greeting: &[u8] = if protocols.contains(&"h2") {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
    } else {
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    };
    stream.write_all(greeting).expect("sent");
    let mut head = [0u8; 9];
    stream.read_exact(&mut head).expect("an answer");
    let agreed = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    (agreed, head.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_decides_which_http_is_spoken() {
    let (authority, worker) = (Authority::new(), Upstream::echo().await);
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| plan.tls = tls).await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let (address, ca) = (house.address, authority.pem.clone());
        let spoken = tokio::task::spawn_blocking(move || spoken(address, &ca, offered));
        let (found, head) = within("an answer", spoken).await.expect("no panic");
        assert_eq!(found.as_deref(), agreed);
        if agreed == Some(b"h2") {
            assert_eq!(head[3], 4, "the server's settings: {head:?}");
        } else {
            assert!(head.starts_with(b"HTTP/1.1 "), "{head:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_need_a_certificate_if_that_is_asked_for() {
    let (authority, worker) = (Authority::new(), Upstream::echo().await);
    let (files, clients) = (Files::new(), Authority::new());
    let settings = TlsSettings {
        client_ca: Some(files.write("clients.pem", &clients.pem)),
        ..files.identity(&authority.sign(&NAMES))
    };
    let tls = ServerTls::load(&settings).expect("files that are right");
    let house = house(&[&worker], |plan| plan.tls = Some(tls.into())).await;
    let ask = |identity: Option<Identity>| {
        let (address, ca) = (house.address, authority.pem.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = blocking(address, &ca, identity.as_ref(), &[]);
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        async { within("an answer", asked).await.expect("no panic") }
    };
    let answer = ask(Some(clients.sign(&["me"]))).await.expect("served");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The alert arrives, whatever the client has sent meanwhile.
    for (identity, alert) in [
        (None, "CertificateRequired"),
        (Some(authority.sign(&["me"])), "UnknownCA"),
        (Some(clients.sign_with(&["me"], expired)), "Expired"),
    ] {
        let error = ask(identity).await.expect_err(alert).to_string();
        assert!(error.contains(alert), "{error} instead of {alert}");
    }
    until("they are counted", || {
        house.metric("faucet_tls_failures_total{reason=\"client_certificate\"}") == 3.0
    })
    .await;
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_reload_changes_what_newcomers_see_and_nothing_else() {
    let worker = Upstream::echo().await;
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new();
    let settings = files.identity(&before.sign(&NAMES));
    let tls = std::sync::Arc::new(ServerTls::load(&settings).expect("files that are right"));
    let shared = tls.clone();
    let house = house(&[&worker], |plan| plan.tls = Some(shared)).await;
    let mut open = dial(&before.believed(), "localhost", house.address)
        .await
        .expect("served");
    assert_eq!(open.get("/").await.status, 200);

    files.write("key.pem", &after.sign(&NAMES).key);
    let failure = tls.reload().expect_err("another certificate's key");
    assert_eq!(failure.class, "option");
    assert!(dial(&before.believed(), "localhost", house.address)
        .await
        .is_ok());

    files.identity(&after.sign(&NAMES));
    tls.reload().expect("files that are right");
    assert!(dial(&before.believed(), "localhost", house.address)
        .await
        .is_err());
    assert!(dial(&after.believed(), "localhost", house.address)
        .await
        .is_ok());
    assert_eq!(open.get("/").await.status, 200);
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so() {
    let worker = Upstream::echo().await;
    let (house, tls) = secured(&worker).await;
    let _lines = tracing::subscriber::set_default(house.log.subscriber());
    let mut plain = house.client().await;
    let response = plain.post("/", &pattern(200_000)).await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert!(response.text().contains("https://"), "{}", response.text());
    assert!(plain.is_closed().await);
    assert_eq!(
        house.metric("faucet_tls_failures_total{reason=\"plain_http\"}"),
        1.0
    );
    assert_eq!(house.counted(400, "bad_request"), 1.0);

    for garbage in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x00\x01\x02",
        &[0x16; 70_000],
    ] {
        let mut stranger = house.client().await;
        stranger.try_send(garbage).await;
        stranger.stream.shutdown().await.expect("a live socket");
        stranger.rest().await;
    }
    // As a port check does.
    drop(house.client().await);
    until("no connection is left", || {
        house.front.connections.count() == 0
    })
    .await;
    assert!(house.metric("faucet_tls_failures_total{reason=\"handshake\"}") >= 2.0);
    let lines = house.log.take().0;
    let told = lines
        .iter()
        .filter(|line| line.text.contains("TLS handshake"));
    assert_eq!(told.count(), 1, "one line for many: {lines:?}");
    assert_eq!(client(&house, &tls).await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_stops_ends() {
    let (authority, worker) = (Authority::new(), Upstream::echo().await);
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| {
        plan.tls = tls;
        plan.limits.header_timeout = SOON;
    })
    .await;
    let mut silent = house.client().await;
    let mut slow = house.client().await;
    slow.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
    until("they count as connections", || {
        house.front.connections.count() == 2
    })
    .await;
    assert!(slow.is_closed().await && silent.is_closed().await);
    until("nothing is left", || house.front.connections.count() == 0).await;
    assert_eq!(
        house.metric("faucet_tls_failures_total{reason=\"timeout\"}"),
        2.0
    );
    // Hands are shaken, and then there is no head.
    let mut idle = dial(&authority.believed(), "localhost", house.address)
        .await
        .expect("served");
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn handshakes_make_room_for_others() {
    let (authority, worker) = (Authority::new(), Upstream::echo().await);
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| {
        plan.tls = tls;
        plan.limits.max_connections = 2;
    })
    .await;
    let _stuck = [house.client().await, house.client().await];
    until("they are in", || house.front.connections.count() == 2).await;
    let mut client = dial(&authority.believed(), "localhost", house.address)
        .await
        .expect("room");
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn who_is_turned_away_hears_why() {
    let authority = Authority::new();
    let (worker, gate) = Upstream::gated().await;
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| {
        plan.tls = tls;
        plan.limits.max_connections = 1;
    })
    .await;
    let believed = authority.believed();
    let mut first = dial(&believed, "localhost", house.address)
        .await
        .expect("room");
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut second = dial(&believed, "localhost", house.address)
        .await
        .expect("a handshake");
    let response = second.get("/").await;
    assert_eq!(response.cause(), "too_many_connections");
    gate.open(1);
    assert_eq!(first.response().await.text(), "/first");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaving {
    Close,
    Reset,
    /// `close_notify`, then the socket is closed.
    Goodbye,
}

async fn leave(mut client: Client<ClientStream>, how: Leaving) {
    match how {
        Leaving::Close => {}
        Leaving::Reset => socket2::SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a live socket"),
        Leaving::Goodbye => client.stream.shutdown().await.expect("a live socket"),
    }
}

const POST: &str = "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn who_leaves_while_a_worker_works_sets_it_free() {
    let authority = Authority::new();
    let behind = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n".repeat(900);
    for how in [Leaving::Close, Leaving::Reset, Leaving::Goodbye] {
        for extra in [&b""[..], &behind] {
            let (worker, _gate) = NativeWorker::gated(Control::Obey);
            let tls = server(&authority.sign(&NAMES));
            let house = worker.house(PATIENT, |plan| plan.tls = tls).await;
            let mut client = client(&house, &authority.believed()).await;
            client.send(POST).await;
            worker.arrived(1).await;
            client.send(extra).await;
            leave(client, how).await;
            worker.heard("interrupt 1 left").await;
            house.idle().await;
            assert_eq!(worker.numbers(), [1], "{how:?}");
            until("the connection is gone", || {
                house.front.connections.count() == 0
            })
            .await;
        }
    }
}

#[tokio::test]
async fn who_only_says_that_it_sends_no_more_is_answered() {
    let (worker, gate) = Upstream::gated().await;
    let (house, tls) = secured(&worker).await;
    let mut client = client(&house, &tls).await;
    client.start_get("/waits").await;
    client.stream.shutdown().await.expect("a live socket");
    worker.arrived(1).await;
    // Some bytes of the answer may come before there is one.
    tokio::time::sleep(SOON).await;
    gate.open(1);
    assert_eq!(client.response().await.text(), "/waits");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_too_long_is_cut() {
    let authority = Authority::new();
    // More than sockets hold.
    let worker =
        Upstream::start(|_, wire: Wire| async move { wire.ok(pattern(20_000_000)).await }).await;
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| {
        plan.tls = tls;
        plan.limits.idle_timeout = Some(Duration::from_millis(500));
    })
    .await;
    let mut deaf = client(&house, &authority.believed()).await;
    deaf.start_get("/").await;
    worker.arrived(1).await;
    house.idle().await;
    until("it is cut", || house.front.connections.count() == 0).await;
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_ends_when_its_worker_drains() {
    let worker = Upstream::start(|_: Seen, mut wire: Wire| async move {
        wire.raw(SWITCH).await;
        wire.answered();
        loop {
            let bytes = wire.read_some().await;
            if bytes.is_empty() {
                return None;
            }
            wire.raw(bytes).await;
        }
    })
    .await;
    let (house, tls) = secured(&worker).await;
    let mut client = client(&house, &tls).await;
    client.send(UPGRADE).await;
    assert_eq!(client.response().await.status, 101);
    house.idle().await;
    // Frames of 126 and more bytes, so that it ends at a boundary.
    let frame = |length: u16| {
        let mut frame = vec![0x82, 0x7e];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend(pattern(length.into()));
        frame
    };
    for length in [200, 60_000] {
        let sent = frame(length);
        client.send(&sent).await;
        while client.unread.len() < sent.len() {
            assert!(client.fill().await, "the tunnel ended");
        }
        assert!(std::mem::take(&mut client.unread) == sent);
    }
    house.worker(0).tunnels.drain();
    assert_eq!(client.rest().await, [0x88, 0x02, 0x03, 0xe9]);
}

const UPGRADE: &str = concat!(
    "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
);

const SWITCH: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
);

#[tokio::test]
async fn an_idle_client_goes_properly_and_one_that_returns_is_served() {
    let (authority, worker) = (Authority::new(), Upstream::echo().await);
    let tls = server(&authority.sign(&NAMES));
    let house = house(&[&worker], |plan| {
        plan.tls = tls;
        plan.limits.idle_timeout = Some(Duration::from_secs(3));
    })
    .await;
    let mut client = client(&house, &authority.believed()).await;
    assert_eq!(client.get("/").await.status, 200);
    // Long enough for the connection to have put its machinery away.
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(client.get("/").await.status, 200);
    // An end without `close_notify` is an error to a client of ours.
    let mut byte = [0u8];
    let read = client.stream.read(&mut byte);
    assert_eq!(within("the end", read).await.expect("a proper end"), 0);
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let (authority, files) = (Authority::new(), Files::new());
    let right = files.identity(&authority.sign(&NAMES));
    let refused = |settings: &TlsSettings| {
        let failure = ServerTls::load(settings).err().expect("refused");
        assert_eq!(failure.class, "option");
        failure.message
    };
    let with_cert = |path: &Path| TlsSettings {
        cert: path.to_owned(),
        ..right.clone()
    };
    let with_key = |path: &Path| TlsSettings {
        key: path.to_owned(),
        ..right.clone()
    };
    let wrong = [
        (with_cert(Path::new("/none.pem")), "`tls$cert` cannot be used: /none.pem: there is no such file"),
        (with_cert(Path::new("/")), "`tls$cert` cannot be used: /: it is no regular file"),
        (with_cert(&right.key), "no certificate in it"),
        (with_cert(&files.write("der", "\u{0}\u{1}")), "makes PEM of DER"),
        (with_cert(&files.write("big", &"x".repeat(1 << 21))), "larger than 1 MB"),
        (with_cert(&files.write("cut", "-----BEGIN CERTIFICATE-----\nMII")), "no valid PEM"),
        (with_key(&right.cert), "no private key in it"),
        (
            with_key(&files.write("other", &authority.sign(&NAMES).key)),
            "`tls$key` cannot be used",
        ),
        (
            with_key(&files.write("pkcs8", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n")),
            "encrypted",
        ),
        (
            with_key(&files.write("old", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n")),
            "encrypted",
        ),
        (
            TlsSettings {
                client_ca: Some(right.key.clone()),
                ..right.clone()
            },
            "`tls$client_ca`",
        ),
    ];
    for (settings, what) in wrong {
        let message = refused(&settings);
        assert!(message.contains(what), "{message} instead of {what}");
    }
    let other = files.write("other", &authority.sign(&NAMES).key);
    assert!(refused(&with_key(&other)).contains("does not fit"));
}

#[test]
fn a_client_without_tls_pays_nothing_for_it() {
    let either = std::mem::size_of::<ClientStream>();
    assert!(either <= std::mem::size_of::<tokio::net::UnixStream>() + 8);
}

//! What travels on between client and worker, what does not, and what is added.

mod common;

use common::{house, Seen, Upstream, Wire};
use faucet_core::front::TrustedProxies;

#[tokio::test]
async fn what_concerns_one_hop_stays_there() {
    let worker = Upstream::start(|_, wire: Wire| {
        wire.answer(
            200,
            "Connection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\nX-Public: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n",
            "body",
        )
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send(concat!(
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "Connection: keep-alive, X-Secret\r\nConnection: x-other\r\nX-Secret: 1\r\nX-Other: 1\r\n",
            "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n",
            "Trailer: X\r\nAccept: */*\r\nAccept: text/html\r\nX-Empty:\r\n\r\n"
        ))
        .await;
    let response = client.response().await;
    for name in [
        "connection",
        "x-private",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
    ] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-public"), Some("2"));
    let cookies = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2);

    let seen = worker.last();
    for name in [
        "connection",
        "x-secret",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.count("accept"), 2);
    assert_eq!(seen.header("x-empty"), Some(""));
}

#[tokio::test]
async fn a_client_cannot_make_the_framing_or_the_origin_disappear() {
    let worker =
        Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send(concat!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
            "Connection: Host, Content-Length, X-Forwarded-For, X-Request-Id\r\n\r\nhello"
        ))
        .await;
    assert_eq!(client.response().await.text(), "hello");
    let seen = worker.last();
    for name in ["host", "content-length", "x-forwarded-for", "x-request-id"] {
        assert_eq!(seen.count(name), 1, "{name}");
    }
}

#[tokio::test]
async fn the_worker_learns_who_asks() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send(concat!(
            "GET / HTTP/1.1\r\nHost: api.example:8080\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example:8080"));
    assert_eq!(seen.header("host"), Some("api.example:8080"));
    assert_eq!(seen.header("forwarded"), None);
    assert_eq!(seen.header("x-real-ip"), None);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| {
        plan.trusted = TrustedProxies::parse(&["127.0.0.0/8"]).expect("valid");
    })
    .await;
    let mut client = house.client().await;
    client
        .send(concat!(
            "GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: api.example\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example"));
    common::until("the request is logged", || {
        let (lines, _) = house.log.take();
        lines
            .iter()
            .any(|line| line.text.contains(r#""client":"9.9.9.9""#))
    })
    .await;
}

#[tokio::test]
async fn a_given_request_id_is_honoured_and_returned() {
    let worker =
        Upstream::start(|_, wire: Wire| wire.answer(200, "X-Request-Id: wrong\r\n", "")).await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.header("x-request-id"), Some("mine-1"));
    assert_eq!(worker.last().header("x-request-id"), Some("mine-1"));
}

#[tokio::test]
async fn a_request_id_is_made_and_returned() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    let mut ids = std::collections::HashSet::new();
    for given in [
        "",
        "X-Request-Id: not sound\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
    ] {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{given}\r\n"))
            .await;
        let response = client.response().await;
        let id = response.header("x-request-id").expect("made").to_owned();
        assert_eq!(worker.last().header("x-request-id"), Some(&id[..]));
        assert_eq!(worker.last().count("x-request-id"), 1);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn faucets_own_answers_have_a_request_id() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    assert!(client
        .get("/__faucet__/livez")
        .await
        .header("x-request-id")
        .is_some());
    house
        .pool
        .table
        .refuse(faucet_core::lock::Refused::NoWorkers);
    assert!(client.get("/").await.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_refused_head_has_a_request_id() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send("non(sense\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.cause(), "bad_request");
    assert!(response.header("x-request-id").is_some());
}

async fn with_trailers() -> Upstream {
    Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n")
            .await;
        wire.end()
    })
    .await
}

#[tokio::test]
async fn response_trailers_reach_a_client_that_wants_them() {
    let worker = with_trailers().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.trailer("x-sum")),
        ("body", Some("42"))
    );
    let response = client.get("/").await;
    assert_eq!((response.text(), response.trailer("x-sum")), ("body", None));
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn request_trailers_end_at_the_front() {
    let worker =
        Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "body");
    let seen = worker.last();
    assert_eq!(seen.header("x-sum"), None);
    assert_eq!(seen.header("content-length"), Some("4"));
    // It would announce what does not come.
    assert_eq!(seen.header("trailer"), None);
}

#[tokio::test]
async fn what_front_and_worker_say_to_each_other_stays_between_them() {
    let worker = Upstream::start(|_, wire: Wire| async move {
        wire.answer(
            200,
            "Faucet-File: /etc/hostname\r\nFaucet-Stream: 1\r\nX-Own: 1\r\n",
            "own",
        )
        .await
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nFaucet-Request: 7\r\nfaucet-body-file: 1 /etc/passwd\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.header("x-own")),
        ("own", Some("1"))
    );
    for (name, _) in worker.last().headers.iter().chain(&response.headers) {
        assert!(!name.starts_with("faucet-"), "{name}");
    }
}

const UNDERSCORES: &str = concat!(
    "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nX_Request_Id: forged\r\n",
    "X_Real-IP: 6.6.6.6\r\nContent_Length: 7\r\nTransfer_Encoding: chunked\r\nFaucet_Request: 7\r\n",
    "Proxy_Connection: x\r\nX_Own: mine\r\nX-Own: too\r\n\r\n"
);

/// CGI's variables (`HTTP_X_FORWARDED_FOR`) cannot tell them from the names with dashes.
#[tokio::test]
async fn names_with_underscores_are_dropped() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send(UNDERSCORES).await;
    assert_eq!(client.response().await.status, 200);
    let seen = worker.last();
    for (name, _) in &seen.headers {
        assert!(!name.contains('_'), "{name}");
    }
    assert_eq!(seen.header("x-own"), Some("too"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn names_with_underscores_are_kept_if_wanted_unless_faucet_means_something_by_them() {
    let worker = Upstream::echo().await;
    for trusted in [&[][..], &["127.0.0.1"]] {
        let house = house(&[&worker], |plan| {
            plan.limits.underscores_in_headers = true;
            plan.trusted = TrustedProxies::parse(trusted).expect("valid");
        })
        .await;
        let mut client = house.client().await;
        client.send(UNDERSCORES).await;
        assert_eq!(client.response().await.status, 200);
        let seen = worker.last();
        let kept = seen.headers.iter().filter(|(name, _)| name.contains('_'));
        let kept: Vec<_> = kept.map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["x_own"]);
    }
}

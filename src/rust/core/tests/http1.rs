//! HTTP/1 towards clients: connections, versions, methods and the bodies that may not be there.

mod common;

use common::{house, Seen, Upstream, Wire};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let workers = [Upstream::echo().await, Upstream::echo().await];
    let house = house(&workers.iter().collect::<Vec<_>>(), |_| {}).await;
    let mut client = house.client().await;
    let requests: String = (0..50)
        .map(|number| match number % 2 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
        })
        .collect();
    client.send(requests).await;
    for number in 0..50 {
        assert_eq!(client.response().await.text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for number in 0..20 {
        let target = format!("/{number}");
        assert_eq!(client.get(&target).await.text(), target);
        assert_eq!(client.post(&target, b"body").await.text(), target);
    }
    assert_eq!(house.front.connections.count(), 1);
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_a_while_serves_on() {
    let worker =
        Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = common::SOON).await;
    let mut client = house.client().await;
    let large = common::pattern(300_000);
    for _ in 0..3 {
        assert_eq!(client.post("/", b"body").await.text(), "body");
        let mut silent = house.client().await;
        assert!(silent.is_closed().await);
        assert!(client.post("/", &large).await.body == large, "differs");
        let mut silent = house.client().await;
        assert!(silent.is_closed().await);
        client
            .send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        assert_eq!(client.response().await.text(), "");
        assert_eq!(client.response().await.text(), "hi");
    }
    assert_eq!(house.front.connections.count(), 1);
}

#[tokio::test]
async fn connection_close_is_obeyed() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed().await);
    // The worker's connection is another matter.
    assert_eq!(house.client().await.get("/").await.status, 200);
    assert_eq!(worker.connections(), 1);
    assert_eq!(worker.last().header("connection"), None);
}

#[tokio::test]
async fn a_worker_that_closes_does_not_close_the_client() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        wire.answer(200, "Connection: close\r\n", seen.target).await;
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..5 {
        let response = client.post("/x", b"body").await;
        assert_eq!(
            (response.status, response.header("connection")),
            (200, None)
        );
    }
    assert_eq!(worker.connections(), 5);
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let worker = Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.0 200 OK\r\nX: y\r\n\r\nuntil the end")
            .await;
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        let response = client.get("/").await;
        assert_eq!(response.text(), "until the end");
        assert_eq!(response.version, "HTTP/1.1");
    }
}

#[tokio::test]
async fn http_1_0_is_closed_unless_it_asks() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.text(), "/kept");
    let connection = response.header("connection").expect("said");
    assert!(connection.eq_ignore_ascii_case("keep-alive"));
    client.send("GET /last HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "/last");
    assert!(client.is_closed().await);
    assert_eq!(worker.last().version, "HTTP/1.1");
}

#[tokio::test]
async fn http_1_0_gets_no_chunks() {
    let worker = Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n4\r\nrest\r\n0\r\n\r\n")
            .await;
        wire.end()
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.text(), "halfrest");
}

/// Each of these answers has bytes after its head that must not be there. They belong to nobody.
#[tokio::test]
async fn a_body_where_there_must_be_none_harms_nobody() {
    let answers = [
        ("HEAD", "200 OK\r\nContent-Length: 6"),
        ("HEAD", "404 Not Found\r\nTransfer-Encoding: chunked"),
        ("GET", "204 No Content\r\nContent-Length: 6"),
        ("GET", "204 No Content\r\nX: y"),
        ("GET", "304 Not Modified\r\nContent-Length: 6"),
        ("GET", "304 Not Modified\r\nX: y"),
    ];
    for (method, head) in answers {
        for together in [true, false] {
            let worker = Upstream::start(move |seen: Seen, mut wire: Wire| async move {
                if seen.target == "/after" {
                    return wire.ok("right").await;
                }
                if together {
                    wire.raw(format!(
                        "HTTP/1.1 {head}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
                    ))
                    .await;
                } else {
                    wire.raw(format!("HTTP/1.1 {head}\r\n\r\n")).await;
                    tokio::task::yield_now().await;
                    wire.raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
                        .await;
                }
                wire.end()
            })
            .await;
            let house = house(&[&worker], |_| {}).await;
            let mut client = house.client().await;
            for _ in 0..3 {
                client
                    .send(format!("{method} /first HTTP/1.1\r\nHost: a\r\n\r\n"))
                    .await;
                let response = client.response_to_head().await;
                assert_eq!(response.status.to_string(), head[..3], "{head}");
                assert_eq!(client.get("/after").await.text(), "right", "{head}");
                let mut other = house.client().await;
                assert_eq!(other.get("/after").await.text(), "right", "{head}");
            }
            assert!(client.unread.is_empty());
        }
    }
}

#[tokio::test]
async fn bytes_behind_a_complete_answer_harm_nobody() {
    let worker = Upstream::start(move |seen: Seen, mut wire: Wire| async move {
        if seen.target == "/after" {
            return wire.ok("right").await;
        }
        wire.raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nrightHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
            .await;
        wire.end()
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        for target in ["/first", "/after", "/after"] {
            assert_eq!(client.get(target).await.text(), "right");
            assert_eq!(client.post(target, b"body").await.text(), "right");
        }
    }
}

#[tokio::test]
async fn head_keeps_the_length_it_announces() {
    let worker = Upstream::start(|seen: Seen, mut wire: Wire| async move {
        assert_eq!(seen.method, "HEAD");
        wire.raw("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            .await;
        wire.end()
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let response = client.response_to_head().await;
        assert_eq!(response.header("content-length"), Some("1234"));
    }
    assert!(client.unread.is_empty());
}

#[tokio::test]
async fn errors_to_head_have_no_body() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    house
        .pool
        .table
        .refuse(faucet_core::lock::Refused::NoWorkers);
    let mut client = house.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response_to_head().await.cause(), "no_workers");
    house.pool.table.admit();
    assert_eq!(client.get("/after").await.text(), "/after");
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body() {
    let worker =
        Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            .await;
        while client.unread.len() < 25 {
            assert!(client.fill().await);
        }
        assert_eq!(client.unread, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello").await;
        let response = client.response().await;
        assert_eq!(
            (response.text(), &response.interim[..]),
            ("hello", &[100][..])
        );
    }
    assert_eq!(worker.last().header("expect"), None);
}

#[tokio::test]
async fn expect_continue_is_refused_when_the_body_is_too_large() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.max_body = 4).await;
    let mut client = house.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (413, "body_too_large"));
    assert!(response.interim.is_empty());
    assert!(client.is_closed().await);
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn interim_responses_of_a_worker_do_not_confuse() {
    let worker = Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            .await;
        wire.ok("final").await
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "final");
    }
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for (target, path) in [
        ("http://a.example/x?y=1", "/x?y=1"),
        ("http://a.example", "/"),
        ("HTTP://a.example:80/x/%2F", "/x/%2F"),
    ] {
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.text(), path);
    }
}

/// RFC 9112, 3.2.2: the target's authority counts, not the Host header.
#[tokio::test]
async fn an_absolute_target_says_the_host() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET http://right.example/ HTTP/1.1\r\nHost: wrong.example\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(worker.last().header("host"), Some("right.example"));
    assert_eq!(
        worker.last().header("x-forwarded-host"),
        Some("right.example")
    );
}

#[tokio::test]
async fn an_absolute_target_reaches_the_health_paths() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    let response = client.get("http://test/__faucet__/livez").await;
    assert_eq!(response.text(), r#"{"status":"live"}"#);
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn options_for_the_whole_server_travels_as_it_is() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "*");
    assert_eq!(worker.last().method, "OPTIONS");
}

#[tokio::test]
async fn connect_is_refused() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert!(client.is_closed().await);
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn unusual_methods_and_targets_travel_as_they_are() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for (method, target) in [
        ("PROPFIND", "/"),
        ("DELETE", "/a%20b?c=d&e=%C3%A9"),
        ("PATCH", "//double//slash/../up"),
        ("PUT", "/?"),
        ("GET", "/a;b=c,d|e"),
    ] {
        client
            .send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.text(), target);
        assert_eq!(worker.last().method, method);
    }
}

#[tokio::test]
async fn a_post_without_a_body_says_so_to_the_worker() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    assert_eq!(client.post("/", b"").await.status, 200);
    // Without it some servers answer 411, others wait.
    assert_eq!(worker.last().header("content-length"), Some("0"));
}

/// Not every server's parser takes them as they are; percent-encoded they mean the same (RFC 3987, 3.1).
#[tokio::test]
async fn bytes_of_a_target_that_are_not_ascii_are_percent_encoded() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for (target, sent) in [
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/a?q=\u{65e5}&r=%C3%A9", "/a?q=%E6%97%A5&r=%C3%A9"),
        ("http://a/\u{e9}", "/%C3%A9"),
    ] {
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.text(), sent);
    }
    client.send(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let status = client.response().await.status;
    assert_eq!(status, 400);
}

/// httpuv's parser hangs up on them.
#[tokio::test]
async fn a_method_that_http_workers_do_not_know_is_not_sent_to_one() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    for method in ["FOO", "get", "M-SEARCHX", "QUERY", "SOURCE"] {
        let mut client = house.client().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (501, "not_implemented"),
            "{method}"
        );
    }
    assert_eq!(worker.count(), 0);
    let mut client = house.client().await;
    for method in ["PURGE", "M-SEARCH", "UNLINK", "TRACE", "MKCALENDAR", "LOCK"] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, 200, "{method}");
    }
    house.idle().await;
}

#[tokio::test]
async fn a_method_of_ones_own_reaches_a_native_worker() {
    use common::native::{text, Asked, Control, NativeWorker, PATIENT};
    let worker = NativeWorker::start(Control::Obey, |asked: Asked| async move {
        text(200, asked.method.clone())
    });
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    for method in ["FOO", "QUERY"] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.text(), method);
    }
}

//! Requests whose framing is in doubt get 400 and never reach a worker.

mod common;

use common::{house, House, Upstream};

async fn start() -> (Upstream, House) {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    (worker, house)
}

/// Sends each in one piece and in two, on a connection of its own; each must be refused.
async fn refused(requests: &[&str]) {
    refused_with(400, "bad_request", requests).await;
}

async fn refused_with(status: u16, cause: &str, requests: &[&str]) {
    let (worker, house) = start().await;
    for request in requests {
        for cut in [request.len(), request.len() / 2, 1] {
            let mut client = house.client().await;
            client.send(&request[..cut]).await;
            // Two segments, not one: the second is sent when the first has been acknowledged.
            tokio::task::yield_now().await;
            client.try_send(&request[cut..]).await;
            let response = client.try_response(false).await;
            let response = response.unwrap_or_else(|broken| panic!("{request:?}: {broken:?}"));
            assert_eq!(response.status, status, "{request:?}");
            assert_eq!(response.cause(), cause, "{request:?}");
            assert!(client.is_closed().await, "{request:?}");
            assert_eq!(worker.count(), 0, "{request:?}");
        }
    }
    assert_eq!(house.client().await.get("/after").await.status, 200);
}

#[tokio::test]
async fn both_length_and_chunks() {
    refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\ncontent-length:5\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn both_length_and_chunks_after_an_empty_line() {
    refused(&[
        "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn both_length_and_chunks_on_a_connection_in_use() {
    let (worker, house) = start().await;
    let mut client = house.client().await;
    assert_eq!(client.post("/first", b"body").await.status, 200);
    client
        .send("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert_eq!(worker.targets(), ["/first"]);
}

#[tokio::test]
async fn both_length_and_chunks_on_a_connection_that_was_idle() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = common::SOON).await;
    let mut client = house.client().await;
    assert_eq!(client.post("/first", b"body").await.status, 200);
    let mut silent = house.client().await;
    assert!(silent.is_closed().await);
    client
        .send("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert_eq!(worker.targets(), ["/first"]);
}

#[tokio::test]
async fn both_length_and_chunks_behind_another_request() {
    let (worker, house) = start().await;
    let mut client = house.client().await;
    client
        .send(concat!(
            "GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.text(), "/first");
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert_eq!(worker.targets(), ["/first"]);
}

#[tokio::test]
async fn both_length_and_chunks_while_another_request_is_served() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/first").await;
    worker.arrived(1).await;
    client
        .send("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    gate.open(2);
    assert_eq!(client.response().await.text(), "/first");
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert_eq!(worker.targets(), ["/first"]);
}

/// The rule must not refuse what only looks like it.
#[tokio::test]
async fn a_length_beside_chunks_in_another_request_or_in_a_body_is_no_smuggling() {
    let (worker, house) = start().await;
    let mut client = house.client().await;
    for _ in 0..3 {
        assert_eq!(client.post("/length", b"body").await.status, 200);
        client
            .send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n14\r\nContent-Length: 5\r\n\r\n\r\n0\r\n\r\n".replace("14\r\n", "15\r\n"))
            .await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(worker.count(), 6);
    assert_eq!(worker.last().body, b"Content-Length: 5\r\n\r\n");
}

#[tokio::test]
async fn pipelined_chunked_requests_are_told_apart() {
    let (worker, house) = start().await;
    let chunked = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            concat!(
                "1a;name=\"value\"\r\nContent-Length: 5\r\n\r\n12345\r\n",
                "0001 ;x\r\nz\r\n000\r\nX-Trailer: 1\r\nContent-Length: 7\r\n\r\n"
            )
        )
    };
    let requests = ["/1", "/2", "/3", "/4"].map(chunked).concat();
    for cut in [requests.len(), 1, 70, 90, 130, 200, 230] {
        let mut client = house.client().await;
        for piece in requests.as_bytes().chunks(cut) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        for number in 1..=4 {
            let response = client.response().await;
            assert_eq!(response.text(), format!("/{number}"), "{cut}");
        }
        assert_eq!(worker.last().body, b"Content-Length: 5\r\n\r\n12345z");
    }
}

#[tokio::test]
async fn both_length_and_chunks_behind_chunked_requests() {
    let (worker, house) = start().await;
    const GOOD: &str =
        "POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    const BAD: &str = concat!(
        "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    let mut client = house.client().await;
    client.send(format!("{GOOD}{GOOD}{BAD}{GOOD}")).await;
    assert_eq!(client.response().await.text(), "/good");
    assert_eq!(client.response().await.text(), "/good");
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert!(client.is_closed().await);
    assert_eq!(worker.targets(), ["/good", "/good"]);
}

#[tokio::test]
async fn bad_chunks() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (worker, house) = start().await;
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "11111111111111111\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = house.client().await;
        client.send(format!("{HEAD}{body}")).await;
        let response = client.try_response(false).await;
        let response = response.unwrap_or_else(|broken| panic!("{body:?}: {broken:?}"));
        assert_eq!(
            (response.status, response.cause()),
            (400, "bad_request"),
            "{body:?}"
        );
        assert!(client.is_closed().await, "{body:?}");
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn doubtful_transfer_encodings() {
    refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

/// What is chunked last could be undone, but that is not all that was done to it.
#[tokio::test]
async fn transfer_encodings_that_are_not_served() {
    refused_with(
        501,
        "not_implemented",
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn lengths_beyond_all_numbers() {
    refused_with(
        413,
        "body_too_large",
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551613\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551614\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:18446744073709551616\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  99999999999999999999 \r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00099999999999999999999999999999999999999999\r\n\r\nhello",
        ],
    )
    .await;
}

#[tokio::test]
async fn doubtful_lengths() {
    refused(&[
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello1",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello1",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999x\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999, 5\r\n\r\nhello",
    ])
    .await;
}

#[tokio::test]
async fn control_characters_in_the_head() {
    refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0Y: b\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn malformed_lines() {
    refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.9\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "nonsense\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn not_exactly_one_host() {
    refused(&[
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_host_that_is_none() {
    for host in [
        "a b", "a/b", "user@a", "a:b", "a:99999", "a:80:80", "[::1", "::1", "[::1]x", "[a]",
        "a\\b", "a?b", "a#b", "a%zz", "<a>", "\u{e9}", "a\tb", "http://a", ":80",
    ] {
        refused(&[&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")]).await;
        refused(&[&format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")]).await;
    }
    refused(&[
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://user:secret@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_host_that_is_one() {
    let (worker, house) = start().await;
    let mut client = house.client().await;
    for host in [
        "a",
        "A.example",
        "a_b",
        "a:80",
        "a:",
        "127.0.0.1:8000",
        "[::1]",
        "[::1]:8000",
        "xn--caf-dma.example",
        "a%41b",
        "",
    ] {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, 200, "{host:?}");
        assert_eq!(worker.last().header("host"), Some(host));
    }
}

/// Only what a server is asked: a path, or the whole server, or either with the server's name.
#[tokio::test]
async fn targets_of_other_forms() {
    refused(&[
        "GET a.example:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a.example HTTP/1.1\r\nHost: a\r\n\r\n",
        "DELETE index.html HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET user@a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn garbage_behind_a_good_request() {
    let (worker, house) = start().await;
    let mut client = house.client().await;
    client
        .send("GET /first HTTP/1.1\r\nHost: a\r\n\r\nnon(sense\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "/first");
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (400, "bad_request"));
    assert!(client.is_closed().await);
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_response_that_looks_like_a_status_line_passes_untouched() {
    let worker =
        Upstream::start(|_, wire: common::Wire| wire.ok("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        assert_eq!(
            client.get("/").await.text(),
            "HTTP/1.1 400 Bad Request\r\n\r\n"
        );
    }
}

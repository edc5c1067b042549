//! A native worker is told when nobody wants its answer any more: it stops, and serves the next request.

mod common;

use common::native::{text, Asked, Control, NativeWorker, CANCEL};

#[tokio::test]
async fn requests_are_numbered_and_nobody_else_numbers_them() {
    let worker = NativeWorker::start(Control::Obey, |asked: Asked| async move {
        let mut answer = text(200, asked.target.clone());
        let number = asked.number.into();
        answer.headers_mut().insert("faucet-request", number);
        answer
    });
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    for number in 1..=3 {
        client
            .send("GET /a HTTP/1.1\r\nHost: test\r\nFaucet-Request: 77\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "/a"));
        assert_eq!(response.header("faucet-request"), None);
        assert_eq!(worker.numbers().last(), Some(&number));
    }
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
}

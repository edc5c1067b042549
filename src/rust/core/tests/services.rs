//! Services that know nothing of faucet: reached below a path, by a name of their own, with TLS.

mod common;

use std::path::PathBuf;

use common::replicas::Replicas;
use common::tls::{server, Authority, Files};
use common::{house, until, Upstream};
use faucet_core::ops::status::State;
use faucet_core::pool::Route;
use faucet_core::server::Phase;
use faucet_core::sources::replicas::Target;

/// A server whose pool is that service, and what it believes.
fn over(url: &str, ca: Option<PathBuf>) -> Replicas {
    let target = Target::of_service(url).expect("a URL");
    Replicas::start("http://localhost", None, |setup| {
        setup.replicas.target = target;
        setup.replicas.ca = ca;
    })
}

async fn serves(server: &Replicas) {
    server
        .until("the service is there", || {
            let workers = server.status().workers;
            workers.iter().any(|worker| worker.state == State::Ready)
        })
        .await;
}

#[tokio::test]
async fn requests_are_below_its_path_and_have_its_name() {
    let service = Upstream::echo().await;
    let port = service.address.port();
    let server = over(&format!("http://127.0.0.1:{port}/function/echo/"), None);
    serves(&server).await;
    let mut client = server.client().await;
    for (target, expected) in [
        ("/", "/function/echo/"),
        ("/?x=1", "/function/echo/?x=1"),
        ("/a/b?x=../y", "/function/echo/a/b?x=../y"),
    ] {
        assert_eq!(client.get(target).await.status, 200);
        let seen = service.last();
        assert_eq!(seen.target, expected);
        assert_eq!(seen.header("host"), Some(&*format!("127.0.0.1:{port}")));
        assert_eq!(seen.header("x-forwarded-host"), Some("test"));
    }
    let count = service.count();
    for out in ["/..", "/a/../../admin", "/%2e%2e/admin", "/%2E%2e%2fadmin"] {
        let answer = server.client().await.get(out).await;
        assert_eq!((answer.status, answer.cause()), (400, "bad_request"));
    }
    assert_eq!(service.count(), count);
}

#[tokio::test]
async fn what_leads_to_its_pool_is_not_in_its_path() {
    let service = Upstream::echo().await;
    let url = format!("http://{}/function/echo", service.address);
    let target = Target::of_service(&url).expect("a URL");
    let server = Replicas::start("http://localhost", None, |setup| {
        setup.replicas.target = target;
        setup.route = Route::parse("/functions/echo").expect("a route");
    });
    serves(&server).await;
    let mut client = server.client().await;
    for (target, expected) in [
        ("/functions/echo", "/function/echo"),
        ("/functions/echo?x=1", "/function/echo?x=1"),
        ("/functions/echo/", "/function/echo/"),
        ("/functions/echo/a", "/function/echo/a"),
    ] {
        assert_eq!(client.get(target).await.status, 200);
        assert_eq!(service.last().target, expected);
    }
    assert_eq!(client.get("/functions/other").await.status, 404);
}

#[tokio::test]
async fn one_with_tls_is_believed_by_its_certificate() {
    let (authority, files) = (Authority::new(), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let service = Upstream::echo().await;
    let tls = server(&authority.sign(&["localhost", "127.0.0.1"]));
    let secured = house(&[&service], |plan| plan.tls = tls).await;
    let port = secured.address.port();
    for name in ["127.0.0.1", "localhost"] {
        let server = over(&format!("https://{name}:{port}/base"), Some(ca.clone()));
        serves(&server).await;
        let mut client = server.client().await;
        for _ in 0..3 {
            assert_eq!(client.post("/a", b"body").await.status, 200);
            assert_eq!(service.last().target, "/base/a");
        }
    }
}

#[tokio::test]
async fn one_that_is_not_believed_gets_no_request() {
    let (authority, files) = (Authority::new(), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let service = Upstream::echo().await;
    let other = server(&authority.sign(&["other.test"]));
    let stranger = server(&Authority::new().sign(&["127.0.0.1"]));
    for tls in [other, stranger] {
        let secured = house(&[&service], |plan| plan.tls = tls).await;
        let url = format!("https://{}", secured.address);
        let target = Target::of_service(&url).expect("a URL");
        let server = Replicas::start("http://localhost", None, |setup| {
            setup.replicas.target = target;
            setup.replicas.ca = Some(ca.clone());
            setup.replicas.boot_timeout = common::SOON;
        });
        let failure = server.failed().await;
        assert_eq!(failure.class, "boot");
        assert!(failure.message.contains("TLS: "), "{}", failure.message);
    }
    assert_eq!(service.count(), 0);
}

#[tokio::test]
async fn without_anyone_to_believe_it_fails_at_once_and_says_why() {
    let files = Files::new();
    let missing = files.write("ca.pem", "").with_file_name("other.pem");
    let server = over("https://127.0.0.1:1", Some(missing));
    let failure = server.failed().await;
    assert_eq!(failure.class, "option");
    assert!(failure.message.contains("other.pem"), "{}", failure.message);
    until("it has failed", || {
        matches!(server.server.phase(), Phase::Failed(_))
    })
    .await;
}

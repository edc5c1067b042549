//! Several pools behind one front: each with its own queue, limits, workers and end.

mod common;

use std::sync::Arc;

use common::{house, until, within, House, Upstream, SOON};
use faucet_core::lock::Refused;
use faucet_core::pool::{Membership, Pool, PoolLimits, Route};
use faucet_core::sources::fixed;

/// Adds a pool over `upstream` to a front.
async fn add(house: &House, route: &str, upstream: &Upstream, limits: PoolLimits) -> Arc<Pool> {
    let route = Route::parse(route).expect("a route");
    let ops = house.front.ops.of_pool(route.name(), &house.front.metrics);
    let pool = Pool::new(route, limits, ops);
    let (table, roster) = (pool.table.clone(), pool.roster.clone());
    tokio::spawn(fixed::run(table, roster, vec![upstream.address], 1));
    until("its worker is there", || pool.table.capacity() == 1).await;
    house.front.pools.add(pool.clone(), Membership::Routed);
    pool
}

#[tokio::test]
async fn requests_find_their_pool_and_no_other() {
    let (root, sales) = (Upstream::echo().await, Upstream::echo().await);
    let house = house(&[&root], |_| {}).await;
    add(&house, "/sales", &sales, PoolLimits::default()).await;
    let mut client = house.client().await;
    assert_eq!(client.get("/a").await.text(), "/a");
    assert_eq!(client.get("/sales/a?b=1").await.text(), "/a?b=1");
    assert_eq!(client.get("/sales?b=1").await.text(), "/?b=1");
    assert_eq!(client.get("/salesman").await.text(), "/salesman");
    assert_eq!((root.count(), sales.count()), (2, 2));
}

#[tokio::test]
async fn what_has_no_route_is_not_found() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.route = "/only").await;
    let mut client = house.client().await;
    for path in ["/", "/other", "/onlyx"] {
        let response = client.get(path).await;
        assert_eq!(
            (response.status, response.cause()),
            (404, "no_route"),
            "{path}"
        );
    }
    assert_eq!(client.post("/other", b"body").await.status, 404);
    assert_eq!(client.get("/only/a").await.text(), "/a");
    assert_eq!(house.counted(404, "no_route"), 4.0);
    assert_eq!(client.get("/__faucet__/readyz/only").await.status, 200);
    assert_eq!(client.get("/__faucet__/readyz/other").await.status, 404);
}

#[tokio::test]
async fn a_browser_is_sent_to_where_relative_links_lead_into_the_app() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.route = "/a/sales").await;
    let mut client = house.client().await;
    for (target, location) in [("/a/sales", "./sales/"), ("/a/sales?id=1", "./sales/?id=1")] {
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: test\r\nAccept: text/html,*/*;q=0.8\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.header("location")),
            (307, Some(location))
        );
    }
    assert_eq!(client.get("/a/sales").await.text(), "/");
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn one_pools_full_queue_and_slowness_touch_no_other() {
    let (slow, _gate) = Upstream::gated().await;
    let quick = Upstream::echo().await;
    let house = house(&[&quick], |_| {}).await;
    let limits = PoolLimits {
        queue: 1,
        timeout: None,
        ..PoolLimits::default()
    };
    let pool = add(&house, "/slow", &slow, limits).await;
    let (mut first, mut second) = (house.client().await, house.client().await);
    first.start_get("/slow/1").await;
    slow.arrived(1).await;
    second.start_get("/slow/2").await;
    until("one waits", || pool.table.waiting() == 1).await;
    let mut third = house.client().await;
    let refused = third.get("/slow/3").await;
    assert_eq!((refused.status, refused.cause()), (503, "queue_full"));
    for _ in 0..20 {
        assert_eq!(third.get("/quick").await.status, 200);
    }
}

#[tokio::test]
async fn each_pool_has_limits_of_its_own() {
    let (strict, lax) = (Upstream::echo().await, Upstream::echo().await);
    let house = house(&[&lax], |_| {}).await;
    let limits = PoolLimits {
        max_body: 3,
        ..PoolLimits::default()
    };
    add(&house, "/strict", &strict, limits).await;
    assert_eq!(
        house.client().await.post("/strict/", b"1234").await.status,
        413
    );
    assert_eq!(house.client().await.post("/lax", b"1234").await.status, 200);
}

#[tokio::test]
async fn a_pool_that_leaves_waits_for_requests_that_have_found_it() {
    let (worker, gate) = Upstream::gated().await;
    let other = Upstream::echo().await;
    let house = house(&[&other], |_| {}).await;
    let pool = add(&house, "/a", &worker, PoolLimits::default()).await;
    let (mut served, mut arriving) = (house.client().await, house.client().await);
    served.start_get("/a/1").await;
    worker.arrived(1).await;
    // Its body is still to come.
    arriving
        .send("POST /a/2 HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n12")
        .await;
    until("both have found it", || pool.requests() == 2).await;
    house.front.pools.set(&pool, Membership::Leaving);
    // Nobody finds it any more.
    assert_eq!(house.client().await.get("/a/3").await.text(), "/a/3");
    let left = pool.deserted();
    tokio::pin!(left);
    assert!(tokio::time::timeout(SOON, left.as_mut()).await.is_err());
    gate.open(2);
    assert_eq!(served.response().await.status, 200);
    arriving.send("34").await;
    assert_eq!(arriving.response().await.status, 200);
    assert_eq!(worker.count(), 2);
    within("the last one leaves", left).await;
    pool.table.refuse(Refused::Closed);
    assert_eq!(house.client().await.get("/a/4").await.text(), "/a/4");
}

//! Sessions: a client stays with the worker that its cookie names, and each worker has no more of them than it may.

mod common;

use std::time::Duration;

use common::wire2::{Frame, Wire2};
use common::{
    add_sticky, house, until, within, Client, House, Response, Seen, Upstream, Wire, SOON,
};
use faucet_core::front::TrustedProxies;
use faucet_core::pool::{Membership, Pool, PoolLimits, Route};
use faucet_core::sessions::{Ending, SessionLimits};

const HOUR: Duration = Duration::from_secs(3600);

fn limits(slots: u32) -> SessionLimits {
    SessionLimits {
        slots,
        timeout: HOUR,
        drain_timeout: Some(HOUR),
    }
}

async fn sticky(workers: &[&Upstream], slots: u32) -> House {
    house(workers, |plan| plan.sessions = Some(limits(slots))).await
}

/// A worker that says who it is, and opens tunnels.
async fn worker(name: &'static str) -> Upstream {
    Upstream::start(move |seen: Seen, mut wire: Wire| async move {
        if seen.header("upgrade").is_none() {
            return wire.ok(name).await;
        }
        wire.raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
        wire.answered();
        while !wire.read_some().await.is_empty() {}
        None
    })
    .await
}

fn request(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

async fn ask(house: &House, target: &str, headers: &str) -> Response {
    let mut client = house.client().await;
    client.send(request(target, headers)).await;
    client.response().await
}

/// The cookie of a new session, as a header of its requests.
fn cookie(response: &Response) -> String {
    let cookie = response.header("set-cookie").expect("a new session");
    let (pair, _) = cookie.split_once(';').expect("attributes");
    format!("Cookie: {pair}\r\n")
}

fn sessions(house: &House) -> Vec<u32> {
    let workers = house.pool.status().workers;
    assert!(workers.is_empty(), "this house has no roster");
    let members = house.pool.table.snapshot().members;
    members.iter().map(|member| member.in_flight).collect()
}

async fn open_tunnel(house: &House, cookie: &str) -> (Client, Response) {
    let mut client = house.client().await;
    let upgrade = concat!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    );
    client
        .send(request("/socket", &format!("{upgrade}{cookie}")))
        .await;
    let response = client.response().await;
    assert_eq!(response.status, 101);
    (client, response)
}

#[tokio::test]
async fn a_session_goes_where_it_began_and_the_app_sees_nothing_of_that() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = sticky(&[&one, &two], 5).await;
    let first = ask(&house, "/", "").await;
    let said = first.header("set-cookie").expect("a cookie");
    assert!(said.starts_with("faucet_session="), "{said}");
    assert!(said.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{said}");
    let mine = cookie(&first);
    for _ in 0..5 {
        let again = ask(&house, "/", &mine).await;
        assert_eq!(again.text(), first.text());
        assert_eq!(again.header("set-cookie"), None);
    }
    let pair = mine.trim_start_matches("Cookie: ").trim_end();
    let both = format!("Cookie: a=\"b c\"; {pair}; d=e\r\n");
    assert_eq!(ask(&house, "/", &both).await.text(), first.text());
    let seen = if first.text() == "one" { &one } else { &two };
    assert_eq!(seen.last().header("cookie"), Some("a=\"b c\"; d=e"));
    assert_eq!(ask(&house, "/", &mine).await.text(), first.text());
    assert_eq!(seen.last().header("cookie"), None);
    assert_eq!(house.metric("faucet_sessions{pool=\"/\"}"), 0.0);
}

#[tokio::test]
async fn new_sessions_go_to_the_worker_with_the_fewest() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = sticky(&[&one, &two], 3).await;
    for number in 1..=6 {
        cookie(&ask(&house, "/", "").await);
        let sessions = sessions(&house);
        assert_eq!(sessions.iter().sum::<u32>(), number);
        assert!(sessions[0].abs_diff(sessions[1]) <= 1, "{sessions:?}");
    }
}

#[tokio::test]
async fn a_new_session_waits_for_a_slot_while_those_that_are_there_go_on() {
    let one = worker("one").await;
    let house = house(&[&one], |plan| {
        plan.sessions = Some(limits(1));
        plan.pool.queue = 1;
    })
    .await;
    let mine = cookie(&ask(&house, "/", "").await);
    let mut waiting = house.client().await;
    waiting.start_get("/new").await;
    house.queued(1).await;
    let refused = ask(&house, "/", "").await;
    assert_eq!((refused.status, refused.cause()), (503, "queue_full"));
    for _ in 0..3 {
        assert_eq!(ask(&house, "/mine", &mine).await.status, 200);
    }
    assert_eq!(sessions(&house), [1]);
    house.pool.sessions.as_ref().expect("some").end_of_worker(1);
    let response = waiting.response().await;
    assert_eq!(response.status, 200);
    assert_ne!(cookie(&response), mine);
}

#[tokio::test]
async fn a_new_session_does_not_wait_for_ever() {
    let one = worker("one").await;
    let house = house(&[&one], |plan| {
        plan.sessions = Some(limits(1));
        plan.pool.queue_timeout = Some(SOON);
    })
    .await;
    ask(&house, "/", "").await;
    let refused = ask(&house, "/", "").await;
    assert_eq!((refused.status, refused.cause()), (503, "queue_timeout"));
}

/// A browser loads a page's parts at the same time. R serves them one after the other, httpuv its static files beside that.
#[tokio::test]
async fn requests_of_one_session_may_overlap_and_their_number_is_bounded() {
    let (one, gate) = Upstream::gated().await;
    let house = sticky(&[&one], 1).await;
    gate.open(1);
    let mine = cookie(&ask(&house, "/", "").await);
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = house.client().await;
        client.send(request(&format!("/{number}"), &mine)).await;
        clients.push(client);
    }
    house.queued(8).await;
    one.arrived(33).await;
    assert_eq!((one.in_flight(), sessions(&house)), (32, vec![1]));
    gate.open(40);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    until("no more connections are kept than needed", || {
        one.open() <= 8
    })
    .await;
}

#[tokio::test]
async fn what_is_no_cookie_of_a_session_begins_one() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = sticky(&[&one, &two], 100).await;
    let other = sticky(&[&one], 5).await;
    let foreign = cookie(&ask(&other, "/", "").await);
    let mine = cookie(&ask(&house, "/", "").await);
    let (head, tail) = mine.trim_end().split_at(mine.trim_end().len() - 1);
    let last = if tail == "0" { "1" } else { "0" };
    for bad in [
        foreign,
        format!("{head}{last}\r\n"),
        "Cookie: faucet_session=\r\n".into(),
        "Cookie: faucet_session=1.0.00\r\n".into(),
        format!("Cookie: faucet_session={}\r\n", "9".repeat(3000)),
        "Cookie: faucet_session=\u{e9}.1.2\r\n".into(),
    ] {
        let response = ask(&house, "/", &bad).await;
        assert_eq!(response.status, 200, "{bad}");
        assert_ne!(cookie(&response), bad);
    }
    assert_eq!(ask(&house, "/", &mine).await.header("set-cookie"), None);
    // A forged one beside the right one does no harm.
    let pair = mine.trim_start_matches("Cookie: ");
    let both = format!("Cookie: faucet_session=1.0.00; {pair}");
    assert_eq!(ask(&house, "/", &both).await.header("set-cookie"), None);
}

#[tokio::test]
async fn a_tunnel_keeps_its_session_and_tells_its_client_of_a_new_one() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = house(&[&one, &two], |plan| {
        plan.sessions = Some(SessionLimits {
            timeout: Duration::from_millis(1),
            ..limits(1)
        });
    })
    .await;
    let (first, response) = open_tunnel(&house, "").await;
    let mine = cookie(&response);
    let (_second, response) = open_tunnel(&house, &mine).await;
    assert_eq!(response.header("set-cookie"), None);
    let (third, _) = open_tunnel(&house, "").await;
    assert_eq!(sessions(&house), [1, 1]);
    assert_eq!(house.pool.table.named(), 0, "a tunnel holds no lease");
    let mut waiting = house.client().await;
    waiting.start_get("/").await;
    house.queued(1).await;
    drop(first);
    assert_eq!(ask(&house, "/", &mine).await.status, 200);
    drop(third);
    // The session whose last tunnel has closed is over soon.
    assert_eq!(waiting.response().await.text(), "two");
}

#[tokio::test]
async fn a_worker_that_ends_without_a_close_is_followed_by_one() {
    let one = worker("one").await;
    let house = sticky(&[&one], 5).await;
    let (mut client, _) = open_tunnel(&house, "").await;
    one.kill();
    assert_eq!(client.rest().await, [0x88, 0x02, 0x03, 0xe9]);
}

#[tokio::test]
async fn a_session_whose_worker_is_gone_is_a_new_one_elsewhere() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = sticky(&[&one], 5).await;
    let mine = cookie(&ask(&house, "/", "").await);
    let lost = house.pool.table.snapshot().members[0].id;
    // It waits for what becomes of its worker.
    house.pool.table.suspend(lost);
    let mut waiting = house.client().await;
    waiting.send(request("/", &mine)).await;
    house.queued(1).await;
    add_sticky(&house.pool, 2, two.address);
    house.pool.table.remove(lost);
    let response = waiting.response().await;
    assert_eq!(response.text(), "two");
    let new = cookie(&response);
    assert_eq!(ask(&house, "/", &new).await.header("set-cookie"), None);
    // Whoever has the old one is given another.
    cookie(&ask(&house, "/", &mine).await);
}

#[tokio::test]
async fn a_request_that_fails_leaves_no_session() {
    let one = Upstream::start(|_: Seen, _: Wire| async move { None }).await;
    let house = sticky(&[&one], 1).await;
    let response = ask(&house, "/", "").await;
    assert_eq!(response.status, 502);
    assert_eq!(response.header("set-cookie"), None);
    house.idle().await;
    assert_eq!(sessions(&house), [0]);
}

#[tokio::test]
async fn a_worker_that_leaves_keeps_its_sessions_but_for_pages_that_are_loaded_anew() {
    let (old, new) = (worker("old").await, worker("new").await);
    let house = sticky(&[&old], 5).await;
    let mine = cookie(&ask(&house, "/", "Accept: text/html\r\n").await);
    let (tab, _) = open_tunnel(&house, &mine).await;
    let leaving = house.pool.table.snapshot().members[0].id;
    let drained = house.pool.table.drain(leaving);
    add_sticky(&house.pool, 2, new.address);
    assert_eq!(ask(&house, "/", "").await.text(), "new");
    assert_eq!(ask(&house, "/data", &mine).await.text(), "old");
    let page = format!("{mine}Accept: text/html\r\n");
    // As a link to a download asks.
    assert_eq!(ask(&house, "/session/1", &page).await.text(), "old");
    let response = ask(&house, "/", &page).await;
    assert_eq!(response.text(), "new");
    cookie(&response);
    drop(tab);
    within("nobody needs the old worker", drained).await;
}

#[tokio::test]
async fn the_cookie_says_how_the_client_has_come() {
    let one = worker("one").await;
    let house = house(&[&one], |plan| {
        plan.sessions = Some(limits(5));
        plan.route = "/shiny";
        plan.trusted = TrustedProxies::parse(&["127.0.0.1"]).expect("valid");
    })
    .await;
    let of = |headers: &'static str| async { ask(&house, "/shiny/", headers).await };
    let said = |response: &Response| response.header("set-cookie").expect("a cookie").to_owned();
    let plain = said(&of("").await);
    assert!(
        plain.ends_with("; Path=/shiny; HttpOnly; SameSite=Lax"),
        "{plain}"
    );
    let proxied = said(&of("X-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /outer\r\n").await);
    assert!(
        proxied.ends_with("; Path=/outer/shiny; HttpOnly; SameSite=Lax; Secure"),
        "{proxied}"
    );
    let mut client = house.client().await;
    client
        .send("GET /shiny/ HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        .await;
    assert!(said(&client.response().await).starts_with("faucet_session_8080="));
}

#[tokio::test]
async fn nobody_who_is_not_trusted_has_come_over_tls() {
    let one = worker("one").await;
    let house = sticky(&[&one], 5).await;
    let response = ask(&house, "/", "X-Forwarded-Proto: https\r\n").await;
    let said = response.header("set-cookie").expect("a cookie");
    assert!(said.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{said}");
}

async fn add(house: &House, route: &str, limits: Option<SessionLimits>) -> std::sync::Arc<Pool> {
    let route = Route::parse(route).expect("a route");
    let ops = house.front.ops.of_pool(route.name(), &house.front.metrics);
    let pool = match limits {
        None => Pool::new(route, PoolLimits::default(), ops),
        Some(limits) => {
            Pool::sticky(route, PoolLimits::default(), ops, limits).expect("random numbers")
        }
    };
    house.front.pools.add(pool.clone(), Membership::Routed);
    pool
}

#[tokio::test]
async fn a_pool_below_does_not_see_the_cookie_of_one_above() {
    let (above, below) = (worker("above").await, worker("below").await);
    let house = sticky(&[&above], 5).await;
    let api = add(&house, "/api", None).await;
    let (table, roster) = (api.table.clone(), api.roster.clone());
    let addresses = vec![below.address];
    tokio::spawn(faucet_core::sources::fixed::run(
        table, roster, addresses, 1,
    ));
    until("its worker is there", || api.table.capacity() == 1).await;
    let mine = cookie(&ask(&house, "/", "").await);
    let headers = format!("{}; a=b\r\n", mine.trim_end());
    assert_eq!(ask(&house, "/api/", &headers).await.text(), "below");
    assert_eq!(below.last().header("cookie"), Some("a=b"));
}

#[tokio::test]
async fn a_pool_that_leaves_is_found_by_its_sessions_until_they_end() {
    let (old, new) = (worker("old").await, worker("new").await);
    let house = sticky(&[&old], 5).await;
    let mine = cookie(&ask(&house, "/", "Accept: text/html\r\n").await);
    let (tab, _) = open_tunnel(&house, &mine).await;
    let successor = add(&house, "/", Some(limits(5))).await;
    add_sticky(&successor, 2, new.address);
    house.front.pools.set(&house.pool, Membership::Leaving);
    let leaving = house.pool.sessions.as_ref().expect("some");
    leaving.end(Ending::Pool);
    assert_eq!(ask(&house, "/", &mine).await.text(), "old");
    let (other, _) = open_tunnel(&house, &mine).await;
    let page = format!("{mine}Accept: text/html\r\n");
    assert_eq!(ask(&house, "/", &page).await.text(), "old", "two pages");
    drop(other);
    until("there is one", || house.worker(0).tunnels.count() == 1).await;
    assert_eq!(ask(&house, "/", &page).await.text(), "new", "loaded anew");
    assert_eq!(ask(&house, "/", "").await.text(), "new");
    house.front.pools.set(&successor, Membership::Leaving);
    assert_eq!(ask(&house, "/", "").await.cause(), "no_route");
    assert_eq!(ask(&house, "/", &mine).await.text(), "old");
    drop(tab);
    within("it has ended", house.pool.table.idle()).await;
    assert_eq!(ask(&house, "/", &mine).await.cause(), "no_route");
}

#[tokio::test]
async fn fronts_get_no_turns_where_slots_are_sessions() {
    let one = worker("one").await;
    let house = sticky(&[&one], 1).await;
    let turn = ask(&house, "/__faucet__/turn", "").await;
    assert_eq!(turn.status, 404);
    assert_eq!(sessions(&house), [0]);
    let mine = ask(&house, "/", "Faucet-Wait: 0\r\n").await;
    cookie(&mine);
    assert_eq!(mine.header("faucet-workers"), None);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_takes_nothing_with_it() {
    let (one, gate) = Upstream::gated().await;
    let house = sticky(&[&one], 1).await;
    let mut first = house.client().await;
    first.start_get("/").await;
    one.arrived(1).await;
    let mut second = house.client().await;
    second.start_get("/").await;
    house.queued(1).await;
    drop(second);
    house.queued(0).await;
    // Nor does one that leaves while its worker is at work.
    drop(first);
    gate.open(1);
    until("it was answered", || house.pool.table.named() == 0).await;
    assert_eq!(sessions(&house), [1]);
}

/// HTTP/2 sends each cookie in a field of its own.
#[tokio::test]
async fn cookies_that_are_split_are_found_and_the_others_passed_on() {
    let (one, two) = (worker("one").await, worker("two").await);
    let house = sticky(&[&one, &two], 5).await;
    let first = ask(&house, "/", "").await;
    let mine = cookie(&first);
    let mine = mine.trim_start_matches("Cookie: ").trim_end();
    let mut wire = Wire2::connect(house.address, 1 << 16).await;
    let fields = [
        (":authority", "a"),
        ("cookie", "a=1"),
        ("cookie", mine),
        ("cookie", "b=2"),
    ];
    wire.send(Frame::get(1, "/", &fields)).await;
    wire.settle().await;
    let seen = if first.text() == "one" { &one } else { &two };
    seen.arrived(2).await;
    assert_eq!(seen.last().header("cookie"), Some("a=1; b=2"));
    assert_eq!(sessions(&house).iter().sum::<u32>(), 1);
}

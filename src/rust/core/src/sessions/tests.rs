//! Who has a session, for how long, and where.

use hyper::header::{HeaderMap, HeaderValue, COOKIE};
use proptest::prelude::*;

use super::*;
use crate::worker::Address;

struct House {
    table: Arc<Table<Worker>>,
    sessions: Arc<Sessions>,
}

fn house(slots: u32, timeout: Duration) -> House {
    let table = Table::spreading(8);
    let limits = SessionLimits {
        slots,
        timeout,
        drain_timeout: None,
    };
    let sessions = Sessions::new(limits, table.clone()).expect("random numbers");
    House { table, sessions }
}

impl House {
    fn add(&self, generation: u64) -> MemberId {
        let address = Address::Tcp(([127, 0, 0, 1], 1).into());
        let worker = Worker::new(1, generation, address, Box::new(|_, _| {}));
        self.sessions.add_worker(Arc::new(worker))
    }

    fn slot(&self) -> Option<Lease<Worker>> {
        self.table.acquire_now(None).expect("not refused")
    }

    fn begin(&self) -> (Hold, String) {
        let hold = self
            .sessions
            .begin(self.slot().expect("a slot"), Some(page()));
        let token = self.sessions.token(hold.id());
        (hold, token)
    }
}

fn page() -> Page {
    Page::at("/")
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_session_keeps_its_worker_and_its_slot() {
    let house = house(1, LONG);
    let first = house.add(1);
    house.add(2);
    let (hold, token) = house.begin();
    assert_eq!(hold.member(), first);
    drop(hold);
    let other = house.slot().expect("the other worker is free");
    assert_eq!(other.generation, 2);
    assert!(house.slot().is_none());
    let again = house.sessions.resume(&token, None).expect("it is open");
    assert_eq!(again.member(), first);
    house.table.remove(first);
    assert_eq!(house.sessions.end_of_worker(1), 1);
    assert!(house.sessions.resume(&token, None).is_none());
    assert_eq!(house.sessions.end_of_worker(1), 0);
}

#[test]
fn a_quiet_session_gives_its_slot_back_and_takes_one_again() {
    let house = house(1, Duration::ZERO);
    house.add(1);
    let (hold, token) = house.begin();
    let tunnel = hold.another().into_tunnel();
    drop(hold);
    let expired = || {
        // The clock is coarse.
        std::thread::sleep(Duration::from_millis(20));
        house.sessions.expire();
        house.slot()
    };
    assert!(expired().is_none(), "its tunnel keeps it");
    drop(tunnel);
    let slot = expired().expect("it is over");
    assert!(!house.sessions.keeps(&token, None));
    assert!(house.sessions.resume(&token, None).is_none(), "no room");
    drop(slot);
    let hold = house.sessions.resume(&token, None).expect("there is");
    assert!(house.sessions.keeps(&token, None));
    assert!(house.slot().is_none());
    drop(hold);
}

#[test]
fn who_keeps_no_cookies_is_not_waited_for_as_long_as_others() {
    let house = house(2, LONG);
    house.add(1);
    drop(house.begin());
    assert!(house.sessions.expire() <= UNRETURNED + Duration::from_millis(1));
    let (hold, token) = house.begin();
    house.sessions.forget(hold.id());
    drop(hold);
    assert!(!house.sessions.keeps(&token, None));
    assert!(house.slot().is_some());
}

#[test]
fn a_page_that_is_loaded_anew_leaves_a_worker_that_leaves() {
    let house = house(2, LONG);
    let old = house.add(1);
    let (hold, token) = house.begin();
    let tab = hold.another().into_tunnel();
    let other = hold.another().into_tunnel();
    drop(hold);
    drop(house.table.drain(old));
    let new = house.add(2);
    let resumed = house
        .sessions
        .resume(&token, Some(page()))
        .expect("another tab");
    assert_eq!(resumed.member(), old);
    drop((resumed, other));
    let other = Some(Page::at("/session/download"));
    let resumed = house.sessions.resume(&token, other).expect("another page");
    assert_eq!(resumed.member(), old);
    drop(resumed);
    let resumed = house.sessions.resume(&token, None).expect("no page");
    assert_eq!(resumed.member(), old);
    drop(resumed);
    assert!(house.sessions.resume(&token, Some(page())).is_none());
    assert_eq!(house.table.standing(old), Some(Standing::Draining));
    drop(tab);
    assert_eq!(house.table.standing(old), None, "nobody needs it any more");
    assert_eq!(house.begin().0.member(), new);
}

#[test]
fn an_end_comes_for_each_when_it_may() {
    let house = house(4, LONG);
    house.add(1);
    let (quiet, _) = house.begin();
    drop(quiet);
    let (requesting, token) = house.begin();
    let (tunnel, _) = house.begin();
    let tunnel = tunnel.into_tunnel();
    let taken = || house.table.snapshot().members[0].in_flight;
    assert_eq!(taken(), 3);
    house.sessions.end(Ending::Pool);
    assert_eq!(taken(), 2);
    house.sessions.end(Ending::Server);
    assert_eq!(taken(), 1);
    drop(requesting);
    assert_eq!(taken(), 0);
    drop(tunnel);
    assert!(house.sessions.resume(&token, None).is_none());
}

#[test]
fn only_what_was_signed_here_is_a_name() {
    let (here, there) = (Signer::new().expect("a key"), Signer::new().expect("a key"));
    let id = SessionId {
        generation: u64::MAX,
        number: 10,
    };
    let token = here.sign(id);
    assert_eq!(token.len(), 16 + 1 + 1 + 1 + 64);
    assert_eq!(here.verify(&token), Some(id));
    assert_eq!(there.verify(&token), None);
    for at in 0..token.len() {
        for new in ["0", "f", ".", "+", "\u{e9}", ""] {
            let mut forged = token.clone();
            forged.replace_range(at..=at, new);
            assert!(
                forged == token || here.verify(&forged).is_none(),
                "{forged}"
            );
        }
    }
    for text in ["", ".", "..", "1.2", "1.2.3", &"1".repeat(1000)] {
        assert_eq!(here.verify(text), None);
    }
}

fn cookies(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(COOKIE, HeaderValue::from_str(value).expect("valid"));
    }
    headers
}

#[test]
fn our_cookie_is_taken_and_the_apps_are_left() {
    for (before, taken, after) in [
        (&["a=b; c=d"][..], &[][..], &["a=b; c=d"][..]),
        (&["faucet_session=1.2.3"], &["1.2.3"], &[]),
        (
            &["a=b; faucet_session=x; c=\"d e\""],
            &["x"],
            &["a=b; c=\"d e\""],
        ),
        (&["faucet_session=x; a=b"], &["x"], &["a=b"]),
        (&["a=b;faucet_session=x"], &["x"], &["a=b"]),
        (
            &["a=1", "faucet_session_8080=x", "b=2"],
            &["x"],
            &["a=1", "b=2"],
        ),
        (
            &["faucet_session=x; faucet_session_80=y; a==; b"],
            &["x", "y"],
            &["a==; b"],
        ),
        (
            &["faucet_sessions=x; faucet_session_a=y; my_faucet_session=z"],
            &[],
            &["faucet_sessions=x; faucet_session_a=y; my_faucet_session=z"],
        ),
        (&["a=faucet_session=x"], &[], &["a=faucet_session=x"]),
    ] {
        let mut headers = cookies(before);
        assert_eq!(take_cookies(&mut headers), taken, "{before:?}");
        let left: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        let after: Vec<&[u8]> = after.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(left, after, "{before:?}");
    }
}

#[test]
fn a_cookie_is_for_the_apps_path_and_says_how_it_came() {
    assert_eq!(cookie_name(None), "faucet_session");
    assert_eq!(cookie_name(Some("a.example")), "faucet_session");
    assert_eq!(cookie_name(Some("localhost:8080")), "faucet_session_8080");
    assert_eq!(cookie_name(Some("[::1]:81")), "faucet_session_81");
    assert_eq!(cookie_name(Some("[::1]")), "faucet_session");
    let cookie = |path, secure| new_cookie("n", "t", path, secure).expect("valid");
    assert_eq!(
        cookie("/a/b", false),
        "n=t; Path=/a/b; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        cookie("/", true),
        "n=t; Path=/; HttpOnly; SameSite=Lax; Secure"
    );
    for path in ["/a;b", "/a b", "", "a", "/a\r\nX: y", "/\u{e9}"] {
        assert_eq!(cookie(path, false), cookie("/", false), "{path}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    AddWorker,
    Begin(bool),
    Resume(usize, bool),
    Another(usize),
    Tunnel(usize),
    Drop(usize),
    Forget(usize),
    Expire,
    Drain(usize),
    Die(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>;
    prop_oneof![
        1 => Just(Step::AddWorker),
        4 => any::<bool>().prop_map(Step::Begin),
        5 => (at(), any::<bool>()).prop_map(|(at, page)| Step::Resume(at, page)),
        3 => at().prop_map(Step::Another),
        3 => at().prop_map(Step::Tunnel),
        8 => at().prop_map(Step::Drop),
        1 => at().prop_map(Step::Forget),
        1 => Just(Step::Expire),
        1 => at().prop_map(Step::Drain),
        1 => at().prop_map(Step::Die),
    ]
}

fn pick<T>(items: &[T], at: usize) -> Option<usize> {
    (!items.is_empty()).then(|| at % items.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_any_history_sessions_and_slots_are_the_same(steps in proptest::collection::vec(step(), 1..150)) {
        const SLOTS: u32 = 2;
        // Whatever is quiet when sessions expire is over.
        let house = house(SLOTS, Duration::from_millis(1));
        let (mut workers, mut holds, mut tokens) = (Vec::new(), Vec::<Hold>::new(), Vec::new());
        let mut generation = 0;
        for step in steps {
            match step {
                Step::AddWorker => {
                    generation += 1;
                    workers.push((generation, house.add(generation)));
                }
                Step::Begin(opens) => {
                    if let Some(slot) = house.slot() {
                        let hold = house.sessions.begin(slot, opens.then(page));
                        tokens.push((hold.id(), house.sessions.token(hold.id())));
                        holds.push(hold);
                    }
                }
                Step::Resume(at, opens) => {
                    if let Some(at) = pick(&tokens, at) {
                        let (id, token) = &tokens[at];
                        if let Some(hold) = house.sessions.resume(token, opens.then(page)) {
                            prop_assert_eq!(hold.id(), *id);
                            holds.push(hold);
                        }
                    }
                }
                Step::Another(at) => {
                    if let Some(at) = pick(&holds, at) {
                        holds.push(holds[at].another());
                    }
                }
                Step::Tunnel(at) => {
                    if let Some(at) = pick(&holds, at) {
                        let hold = holds.swap_remove(at).into_tunnel();
                        holds.push(hold);
                    }
                }
                Step::Drop(at) => {
                    if let Some(at) = pick(&holds, at) {
                        drop(holds.swap_remove(at));
                    }
                }
                Step::Forget(at) => {
                    // As a request does that began it and failed.
                    if let Some(at) = pick(&holds, at) {
                        let id = holds.swap_remove(at).id();
                        house.sessions.forget(id);
                        holds.retain(|hold| hold.id() != id);
                        tokens.retain(|(known, _)| *known != id);
                    }
                }
                Step::Expire => {
                    house.sessions.expire();
                }
                Step::Drain(at) => {
                    if let Some(at) = pick(&workers, at) {
                        drop(house.table.drain(workers[at].1));
                    }
                }
                Step::Die(at) => {
                    if let Some(at) = pick(&workers, at) {
                        let (generation, member) = workers.swap_remove(at);
                        house.table.remove(member);
                        house.sessions.end_of_worker(generation);
                    }
                }
            }
            let snapshot = house.table.snapshot();
            let state = house.sessions.lock();
            prop_assert_eq!(snapshot.leases, state.open.len(), "a slot for each session");
            for member in &snapshot.members {
                prop_assert!(member.in_flight <= SLOTS);
            }
            for (id, session) in &state.open {
                let held = holds.iter().filter(|hold| hold.id() == *id).count();
                prop_assert_eq!(held, (session.requests + session.tunnels) as usize);
            }
        }
        holds.clear();
        house.sessions.end(Ending::Pool);
        prop_assert_eq!(house.table.snapshot().leases, 0, "nothing is left");
    }
}

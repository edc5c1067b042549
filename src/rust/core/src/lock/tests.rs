//! Random histories of arrivals, departures, deaths and drains, checked against the promises.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::*;

struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Request {
    acquire: Pin<Box<Acquire<u32>>>,
    /// The member that it names.
    on: Option<MemberId>,
    flag: Arc<Flag>,
}

impl Request {
    fn new(table: &Arc<Table<u32>>) -> Self {
        Self::of(table.acquire(), None)
    }

    fn on(table: &Arc<Table<u32>>, id: MemberId) -> Self {
        Self::of(table.acquire_on(id, None), Some(id))
    }

    fn of(acquire: Acquire<u32>, on: Option<MemberId>) -> Self {
        Self {
            acquire: Box::pin(acquire),
            on,
            flag: Arc::new(Flag(AtomicUsize::new(0))),
        }
    }

    fn poll(&mut self) -> Poll<Result<Lease<u32>, Refused>> {
        self.flag.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(self.flag.clone());
        self.acquire.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst) > 0
    }
}

#[derive(Clone, Debug)]
enum Step {
    AddWorker(u32),
    Arrive,
    /// A request that does not wait.
    ArriveNow,
    /// A request for one worker, which may be gone.
    ArriveOn(usize),
    /// One that takes a slot of one worker and does not wait.
    ArriveAt(usize),
    /// A waiting request is polled, woken or not.
    Look(usize),
    /// A client leaves the queue, perhaps in the moment its worker was handed over.
    Leave(usize),
    Finish(usize),
    Unreachable(usize),
    Resume(usize),
    Die(usize),
    Drain(usize),
    /// A worker that may not be needed any more.
    RemoveIfIdle(usize),
    Resize(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1u32..3).prop_map(Step::AddWorker),
        8 => Just(Step::Arrive),
        3 => Just(Step::ArriveNow),
        6 => any::<usize>().prop_map(Step::ArriveOn),
        2 => any::<usize>().prop_map(Step::ArriveAt),
        4 => any::<usize>().prop_map(Step::Look),
        3 => any::<usize>().prop_map(Step::Leave),
        8 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Unreachable),
        1 => any::<usize>().prop_map(Step::Resume),
        1 => any::<usize>().prop_map(Step::Die),
        1 => any::<usize>().prop_map(Step::Drain),
        1 => any::<usize>().prop_map(Step::RemoveIfIdle),
        1 => (any::<usize>(), 1u32..4).prop_map(|(at, slots)| Step::Resize(at, slots)),
    ]
}

/// How many leases at a time each worker takes by name.
const NAMED: u32 = 2;

/// Everything a history has produced so far.
struct World {
    table: Arc<Table<u32>>,
    limit: usize,
    spreads: bool,
    workers: Vec<(MemberId, u32)>,
    /// Those that ever were.
    known: Vec<MemberId>,
    waiting: Vec<Request>,
    leases: Vec<Lease<u32>>,
    drains: Vec<(MemberId, Pin<Box<Drained<u32>>>)>,
    /// Who had how many in flight at the last check.
    held: HashMap<MemberId, u32>,
}

fn pick<T>(items: &[T], at: usize) -> Option<usize> {
    (!items.is_empty()).then(|| at % items.len())
}

impl World {
    fn new(limit: usize, spreads: bool) -> Self {
        Self {
            table: if spreads {
                Table::spreading(limit)
            } else {
                Table::new(limit)
            },
            limit,
            spreads,
            workers: Vec::new(),
            known: Vec::new(),
            waiting: Vec::new(),
            leases: Vec::new(),
            drains: Vec::new(),
            held: HashMap::new(),
        }
    }

    fn look(&mut self, index: usize) {
        if let Poll::Ready(outcome) = self.waiting[index].poll() {
            let on = self.waiting.remove(index).on;
            match (outcome, on) {
                (Ok(lease), on) => {
                    assert!(on.map_or(true, |id| lease.member() == id));
                    self.leases.push(lease);
                }
                (Err(Refused::Gone), Some(id)) => assert_eq!(self.table.standing(id), None),
                (Err(why), _) => panic!("refused with {why} once queued"),
            }
        }
    }

    /// Those who wait for any worker, as far as nothing is decided.
    fn unnamed(&self) -> usize {
        let waiting = self.waiting.iter();
        waiting
            .filter(|request| request.on.is_none() && !request.woken())
            .count()
    }

    /// The fewest leases on a worker with room.
    fn fewest(&self) -> Option<u32> {
        let members = self.table.snapshot().members;
        let free = members.iter().filter(|member| {
            member.standing == Standing::Serving && member.in_flight < member.slots
        });
        free.map(|member| member.in_flight).min()
    }

    /// The leases on a worker that take its slots.
    fn leases_of(&self, id: MemberId) -> u32 {
        let members = self.table.snapshot().members;
        let member = members.iter().find(|member| member.id == id);
        member.map_or(0, |member| member.in_flight)
    }

    /// A lease on any worker was had at once.
    fn check_spread(&self, lease: &Lease<u32>, fewest: Option<u32>) {
        if self.spreads {
            assert_eq!(
                Some(self.leases_of(lease.member())),
                fewest.map(|fewest| fewest + 1)
            );
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::AddWorker(slots) => {
                let id = self.table.add_sticky(Arc::new(slots), slots, NAMED);
                self.workers.push((id, slots));
                self.known.push(id);
            }
            Step::Arrive => {
                let (before, unnamed) = (self.table.waiting(), self.unnamed());
                let fewest = self.fewest();
                let mut request = Request::new(&self.table);
                match request.poll() {
                    Poll::Ready(Ok(lease)) => {
                        assert_eq!(unnamed, 0, "a newcomer overtook {unnamed} waiting requests");
                        self.check_spread(&lease, fewest);
                        self.leases.push(lease);
                    }
                    // Requests that came back do not count against the limit, so it may be passed.
                    Poll::Ready(Err(Refused::QueueFull)) => assert!(before >= self.limit),
                    Poll::Ready(Err(other)) => panic!("refused with {other}"),
                    Poll::Pending => {
                        assert!(before < self.limit, "the queue is bounded");
                        self.waiting.push(request);
                    }
                }
            }
            Step::ArriveNow => {
                let before = self.table.snapshot();
                let room = self.table.has_room();
                let (unnamed, fewest) = (self.unnamed(), self.fewest());
                match self.table.acquire_now(None).expect("never refused") {
                    Some(lease) => {
                        assert_eq!(unnamed, 0, "it overtook those who wait");
                        assert!(room);
                        self.check_spread(&lease, fewest);
                        self.leases.push(lease);
                    }
                    None => assert!(
                        !room
                            && before.members.iter().all(|member| {
                                member.standing != Standing::Serving
                                    || member.in_flight >= member.slots
                            })
                    ),
                }
                assert_eq!(self.table.waiting(), before.waiting);
            }
            Step::ArriveOn(at) => {
                let Some(index) = pick(&self.known, at) else {
                    return;
                };
                let id = self.known[index];
                let (before, standing) = (self.table.waiting(), self.table.standing(id));
                let mut request = Request::on(&self.table, id);
                match request.poll() {
                    Poll::Ready(Ok(lease)) => {
                        assert_eq!(lease.member(), id);
                        assert_ne!(standing, Some(Standing::Suspended));
                        let waits = |other: &Request| other.on == Some(id) && !other.woken();
                        assert!(
                            !self.waiting.iter().any(waits),
                            "it overtook those who wait"
                        );
                        self.leases.push(lease);
                    }
                    Poll::Ready(Err(Refused::Gone)) => assert_eq!(standing, None),
                    Poll::Ready(Err(Refused::QueueFull)) => assert!(before >= self.limit),
                    Poll::Ready(Err(other)) => panic!("refused with {other}"),
                    Poll::Pending => {
                        assert!(before < self.limit, "the queue is bounded");
                        self.waiting.push(request);
                    }
                }
            }
            Step::ArriveAt(at) => {
                let Some(index) = pick(&self.known, at) else {
                    return;
                };
                let id = self.known[index];
                let before = self.leases_of(id);
                if let Some(lease) = self.table.acquire_slot_of(id) {
                    assert_eq!(self.table.standing(id), Some(Standing::Serving));
                    assert_eq!((lease.member(), self.leases_of(id)), (id, before + 1));
                    self.leases.push(lease);
                }
            }
            Step::Look(at) => {
                if let Some(index) = pick(&self.waiting, at) {
                    self.look(index);
                }
            }
            Step::Leave(at) => {
                if let Some(index) = pick(&self.waiting, at) {
                    drop(self.waiting.remove(index));
                }
            }
            Step::Finish(at) => {
                if let Some(index) = pick(&self.leases, at) {
                    drop(self.leases.swap_remove(index));
                }
            }
            Step::Unreachable(at) => {
                if let Some(index) = pick(&self.leases, at) {
                    let lease = self.leases.swap_remove(index);
                    let on = lease.is_named().then(|| lease.member());
                    let ticket = lease.suspend();
                    let mut again = match on {
                        None => Request::of(self.table.acquire_again(ticket), None),
                        Some(id) => Request::of(self.table.acquire_on(id, Some(ticket)), on),
                    };
                    match again.poll() {
                        Poll::Ready(Err(Refused::Gone)) => assert!(on.is_some()),
                        Poll::Ready(outcome) => self.leases.push(outcome.expect("never refused")),
                        Poll::Pending => self.waiting.insert(0, again),
                    }
                }
            }
            Step::Resume(at) => {
                if let Some(index) = pick(&self.workers, at) {
                    self.table.resume(self.workers[index].0);
                }
            }
            Step::Die(at) => {
                if let Some(index) = pick(&self.workers, at) {
                    self.table.remove(self.workers.remove(index).0);
                }
            }
            Step::Drain(at) => {
                if let Some(index) = pick(&self.workers, at) {
                    let (id, _) = self.workers.remove(index);
                    self.drains.push((id, Box::pin(self.table.drain(id))));
                }
            }
            Step::RemoveIfIdle(at) => {
                if let Some(index) = pick(&self.workers, at) {
                    let (id, _) = self.workers[index];
                    let busy = self.table.in_flight(id) > 0 || self.table.demand().waiting > 0;
                    // Some may wait that name it, or another.
                    let awaited = self.table.waiting() > 0;
                    let removed = self.table.remove_if_idle(id);
                    assert!(!(removed && busy), "it was needed");
                    assert!(removed || busy || awaited, "it was not");
                    if removed {
                        self.workers.remove(index);
                    }
                }
            }
            Step::Resize(at, slots) => {
                if let Some(index) = pick(&self.workers, at) {
                    self.workers[index].1 = slots;
                    self.table.resize(self.workers[index].0, slots);
                }
            }
        }
    }

    fn check(&mut self) {
        let snapshot = self.table.snapshot();
        let gone = |id: MemberId| self.table.standing(id).is_none();
        let granted = self.waiting.iter().filter(|request| request.woken());
        // Who is refused has none; who was granted one on a worker that went is not told apart from that.
        let doubtful = granted
            .clone()
            .filter(|request| request.on.is_some_and(gone))
            .count();
        let granted = granted.count() - doubtful;
        let least = self.leases.len() + granted;
        assert!(
            (least..=least + doubtful).contains(&snapshot.leases),
            "leases leak"
        );
        let unnamed = self.unnamed();
        for request in self.waiting.iter().filter(|request| !request.woken()) {
            assert!(
                !request.on.is_some_and(gone),
                "nobody waits for who is gone"
            );
        }

        let mut held: HashMap<MemberId, u32> = HashMap::new();
        for member in &snapshot.members {
            let before = self.held.get(&member.id).copied().unwrap_or(0);
            assert!(
                // Those of a time when it had more slots stay.
                member.in_flight <= member.slots.max(before),
                "more in flight than slots on {:?}",
                member.id
            );
            held.insert(member.id, member.in_flight);
            let has_room = member.standing == Standing::Serving && member.in_flight < member.slots;
            assert!(
                !(has_room && unnamed > 0),
                "a worker idles while {unnamed} wait"
            );
            assert!(member.named <= NAMED, "more than it takes by name");
            let waits = |request: &Request| request.on == Some(member.id) && !request.woken();
            assert!(
                member.standing == Standing::Suspended
                    || member.named == NAMED
                    || !self.waiting.iter().any(waits),
                "a worker idles while some wait for it"
            );
        }
        for (id, drained) in &mut self.drains {
            let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
            let done = drained
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready();
            assert_eq!(
                done,
                !held.contains_key(id),
                "drain ends with the last lease"
            );
        }
        self.held = held;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_in_any_history(
        limit in 0usize..6,
        spreads: bool,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(limit, spreads);
        for step in steps {
            world.apply(step);
            world.check();
        }
        // Whatever happened: once all is given back, the table is idle and every worker can be had.
        world.waiting.clear();
        world.leases.clear();
        for (id, _) in &world.workers {
            world.table.resume(*id);
        }
        let snapshot = world.table.snapshot();
        prop_assert_eq!((snapshot.leases, snapshot.waiting), (0, 0));
        let room: u32 = world.workers.iter().map(|(_, slots)| slots).sum();
        for _ in 0..room {
            match Request::new(&world.table).poll() {
                Poll::Ready(Ok(lease)) => world.leases.push(lease),
                _ => prop_assert!(false, "a slot was lost"),
            }
        }
        for (id, _) in &world.workers {
            for _ in 0..NAMED {
                match Request::on(&world.table, *id).poll() {
                    Poll::Ready(Ok(lease)) => world.leases.push(lease),
                    _ => prop_assert!(false, "a lease by name was lost"),
                }
            }
        }
        prop_assert_eq!(world.table.named(), world.workers.len() * NAMED as usize);
    }

    #[test]
    fn first_come_is_first_served(count in 1usize..40, leavers in proptest::collection::vec(any::<usize>(), 0..10)) {
        let table = Table::new(64);
        let mut waiting: Vec<(usize, Request)> = (0..count)
            .map(|number| (number, Request::new(&table)))
            .collect();
        for (_, request) in &mut waiting {
            prop_assert!(request.poll().is_pending());
        }
        for at in leavers {
            if let Some(index) = pick(&waiting, at) {
                waiting.remove(index);
            }
        }
        table.add(Arc::new(1), 1);
        while !waiting.is_empty() {
            let woken: Vec<usize> = waiting.iter().enumerate().filter(|(_, (_, r))| r.woken()).map(|(i, _)| i).collect();
            prop_assert_eq!(&woken, &vec![0], "exactly the first one is woken");
            let (_, mut first) = waiting.remove(0);
            prop_assert!(matches!(first.poll(), Poll::Ready(Ok(_))));
        }
    }
}

/// Real threads that come, leave in the moment of the hand-over, and count who is inside.
#[test]
fn no_two_threads_hold_one_worker() {
    let table = Table::new(1024);
    let inside: Arc<Vec<AtomicUsize>> = Arc::new((0..3).map(|_| AtomicUsize::new(0)).collect());
    for worker in 0..3u32 {
        table.add(Arc::new(worker), 1);
    }
    let threads: Vec<_> = (0..8)
        .map(|seed: usize| {
            let (table, inside) = (table.clone(), inside.clone());
            std::thread::spawn(move || {
                for round in 0..2_000 {
                    let mut request = Request::new(&table);
                    let patience = (seed * 7 + round) % 5;
                    let mut looks = 0;
                    loop {
                        match request.poll() {
                            Poll::Ready(lease) => {
                                let lease = lease.expect("room in the queue");
                                let counter = &inside[*lease as usize];
                                assert_eq!(counter.fetch_add(1, Ordering::SeqCst), 0);
                                std::thread::yield_now();
                                assert_eq!(counter.fetch_sub(1, Ordering::SeqCst), 1);
                                break;
                            }
                            Poll::Pending if patience > 0 && looks > patience => break,
                            Poll::Pending => {
                                looks += 1;
                                std::thread::yield_now();
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no assertion failed");
    }
    let snapshot = table.snapshot();
    assert_eq!((snapshot.leases, snapshot.waiting), (0, 0));
    assert!(snapshot.members.iter().all(|member| member.in_flight == 0));
}

#[test]
fn a_refusing_table_tells_those_who_wait_and_admits_again() {
    let table: Arc<Table<u32>> = Table::new(8);
    let mut waiting = Request::new(&table);
    assert!(waiting.poll().is_pending());
    table.refuse(Refused::NoWorkers);
    assert!(waiting.woken());
    assert!(matches!(
        waiting.poll(),
        Poll::Ready(Err(Refused::NoWorkers))
    ));
    assert!(matches!(
        Request::new(&table).poll(),
        Poll::Ready(Err(Refused::NoWorkers))
    ));
    table.admit();
    table.add(Arc::new(1), 1);
    assert!(matches!(Request::new(&table).poll(), Poll::Ready(Ok(_))));
}

#[test]
fn who_asks_for_now_takes_no_place_and_keeps_the_one_it_had() {
    let table = Table::new(0);
    assert!(table.acquire_now(None).expect("not refused").is_none());
    let id = table.add(Arc::new(1), 1);
    let first = table.acquire_now(None).expect("not refused").expect("free");
    assert!(table.acquire_now(None).expect("not refused").is_none());
    let ticket = first.suspend();
    assert!(table
        .acquire_now(Some(ticket))
        .expect("not refused")
        .is_none());
    // Nobody who came later goes first.
    let mut later = Request::of(table.acquire_again(ticket), None);
    assert!(later.poll().is_pending());
    table.resume(id);
    assert!(table.acquire_now(None).expect("not refused").is_none());
    assert!(matches!(later.poll(), Poll::Ready(Ok(_))));
    let again = table.acquire_now(Some(ticket)).expect("not refused");
    assert_eq!(again.expect("free").ticket(), ticket);
    table.refuse(Refused::Closed);
    assert_eq!(table.acquire_now(None).err(), Some(Refused::Closed));
}

#[test]
fn slots_come_and_go() {
    let table = Table::new(8);
    let id = table.add(Arc::new(1), 1);
    let now = || table.acquire_now(None).expect("not refused");
    let first = now().expect("free");
    let mut waiting = Request::new(&table);
    assert!(waiting.poll().is_pending());
    assert!(first.anyone_waits());
    table.resize(id, 2);
    let Poll::Ready(Ok(second)) = waiting.poll() else {
        panic!("there is one more");
    };
    table.resize(id, 1);
    drop(second);
    assert!(now().is_none(), "there is one less");
    drop(first);
    let first = now().expect("free");
    let suspender = first.suspender();
    table.resize(id, 3);
    suspender.suspend();
    assert!(now().is_none());
    table.resize(id, 2);
    table.resume(id);
    assert!(now().is_some());
    let other = table.add(Arc::new(2), 4);
    assert_eq!(table.capacity(), 6);
    table.resize(other, u32::MAX);
    assert_eq!(table.capacity(), u32::MAX);
    let _drained = table.drain(other);
    let _drained = table.drain(id);
    assert_eq!(table.capacity(), 0, "those that leave do not count");
}

#[test]
fn idle_waits_for_leases_and_for_the_queue() {
    let table = Table::new(8);
    table.add(Arc::new(1), 1);
    let Poll::Ready(Ok(lease)) = Request::new(&table).poll() else {
        panic!("a worker is free");
    };
    let mut second = Request::new(&table);
    assert!(second.poll().is_pending());
    let flag = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(flag.clone());
    let mut idle = Box::pin(table.idle());
    let mut poll = || idle.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    drop(lease);
    assert!(poll().is_pending(), "the second request holds a lease now");
    drop(second);
    assert!(flag.0.load(Ordering::SeqCst) > 0);
    assert!(poll().is_ready());
}

#[test]
fn a_queue_that_grows_is_told_of() {
    let table = Table::new(8);
    let flag = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(flag.clone());
    let mut longer = Box::pin(table.longer_than(1));
    let mut poll = || longer.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    let mut first = Request::new(&table);
    assert!(first.poll().is_pending());
    assert_eq!(flag.0.load(Ordering::SeqCst), 0, "one is not more than one");
    let mut second = Request::new(&table);
    assert!(second.poll().is_pending());
    assert_eq!(flag.0.load(Ordering::SeqCst), 1);
    assert!(poll().is_ready());
    assert_eq!(table.demand().waiting, 2);
    let mut third = Request::new(&table);
    assert!(third.poll().is_pending());
    assert_eq!(flag.0.load(Ordering::SeqCst), 1, "told once");
    drop((first, second, third));
    assert_eq!(table.demand().waiting, 0);
    assert_eq!(table.demand().longest, std::time::Duration::ZERO);
}

#[test]
fn whoever_waits_for_room_is_told_once_there_is_more_than_a_number() {
    let table = Table::new(8);
    table.add(Arc::new(1), 2);
    let first = Request::new(&table).poll();
    let second = Request::new(&table).poll();
    assert_eq!((table.room(), table.leases()), (0, 2));
    let flag = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(flag.clone());
    let mut roomier = Box::pin(table.roomier_than(1));
    let mut poll = || roomier.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    drop(first);
    assert_eq!(flag.0.load(Ordering::SeqCst), 0, "one is not more than one");
    drop(second);
    assert_eq!(flag.0.load(Ordering::SeqCst), 1);
    assert!(poll().is_ready());
    table.add(Arc::new(2), 1);
    assert_eq!(flag.0.load(Ordering::SeqCst), 1, "told once");
    assert_eq!((table.room(), table.leases()), (3, 0));
}

#[test]
fn only_an_idle_worker_is_taken_away() {
    let table = Table::new(8);
    let id = table.add(Arc::new(1), 1);
    let Poll::Ready(Ok(lease)) = Request::new(&table).poll() else {
        panic!("a worker is free");
    };
    assert!(!table.remove_if_idle(id), "a request is in flight");
    table.suspend(id);
    drop(lease);
    let mut waiting = Request::new(&table);
    assert!(waiting.poll().is_pending());
    assert!(!table.remove_if_idle(id), "someone waits");
    drop(waiting);
    assert!(table.remove_if_idle(id));
    assert!(!table.remove_if_idle(id), "it is gone");
}

#[test]
fn who_names_a_worker_waits_for_no_other() {
    let table: Arc<Table<u32>> = Table::spreading(8);
    let (one, two) = (
        table.add_sticky(Arc::new(1), 1, 1),
        table.add_sticky(Arc::new(2), 1, 1),
    );
    let lease = |request: &mut Request| match request.poll() {
        Poll::Ready(Ok(lease)) => lease,
        _ => panic!("no lease"),
    };
    let place = lease(&mut Request::new(&table));
    assert_eq!(*place, 1);
    // Its slot is taken, and who names it is served beside that, one at a time.
    let first = lease(&mut Request::on(&table, one));
    let mut second = Request::on(&table, one);
    assert!(second.poll().is_pending());
    assert_eq!(
        (table.waiting(), table.named(), table.in_flight(one)),
        (1, 2, 2)
    );
    assert_eq!(*lease(&mut Request::on(&table, two)), 2);
    assert_eq!(
        *lease(&mut Request::new(&table)),
        2,
        "it is in nobody's way"
    );
    drop(first);
    assert!(second.woken());
    drop(lease(&mut second));
    assert_eq!((table.waiting(), table.named()), (0, 0));
}

#[test]
fn a_worker_that_drains_serves_those_who_name_it_until_its_slots_are_given_back() {
    let table: Arc<Table<u32>> = Table::spreading(8);
    let id = table.add_sticky(Arc::new(1), 2, 1);
    let place = table.acquire_slot_of(id).expect("room");
    let mut drained = Box::pin(table.drain(id));
    let flag = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(flag);
    let mut is_drained = || {
        drained
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    };
    assert!(table.acquire_slot_of(id).is_none());
    assert!(Request::new(&table).poll().is_pending());
    let Poll::Ready(Ok(request)) = Request::on(&table, id).poll() else {
        panic!("it is one of its own");
    };
    let mut waiting = Request::on(&table, id);
    assert!(waiting.poll().is_pending());
    drop(place);
    assert!(!is_drained(), "a request is in flight");
    drop(request);
    assert!(!is_drained(), "another has come");
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(_))));
    assert!(is_drained());
    assert!(matches!(
        Request::on(&table, id).poll(),
        Poll::Ready(Err(Refused::Gone))
    ));
}

#[test]
fn who_waits_for_a_worker_by_name_hears_of_its_end_and_of_its_return() {
    let table: Arc<Table<u32>> = Table::spreading(2);
    let id = table.add_sticky(Arc::new(1), 1, 1);
    table.suspend(id);
    let mut first = Request::on(&table, id);
    let mut second = Request::on(&table, id);
    assert!(first.poll().is_pending() && second.poll().is_pending());
    assert!(matches!(
        Request::on(&table, id).poll(),
        Poll::Ready(Err(Refused::QueueFull))
    ));
    table.refuse(Refused::NoWorkers);
    assert!(!first.woken(), "that no other starts is nothing to it");
    table.resume(id);
    let Poll::Ready(Ok(lease)) = first.poll() else {
        panic!("it is back");
    };
    table.remove(id);
    assert!(second.woken());
    assert!(matches!(second.poll(), Poll::Ready(Err(Refused::Gone))));
    drop(lease);
    assert_eq!((table.waiting(), table.named()), (0, 0));
    table.admit();
    let id = table.add_sticky(Arc::new(2), 1, 0);
    let mut third = Request::on(&table, id);
    assert!(third.poll().is_pending());
    table.expire(std::time::Duration::ZERO);
    while !third.woken() {
        // The clock is coarse.
        std::thread::yield_now();
        table.expire(std::time::Duration::ZERO);
    }
    assert!(matches!(third.poll(), Poll::Ready(Err(Refused::Expired))));
    let mut fourth = Request::on(&table, id);
    assert!(fourth.poll().is_pending());
    table.refuse(Refused::Closed);
    assert!(matches!(fourth.poll(), Poll::Ready(Err(Refused::Closed))));
}

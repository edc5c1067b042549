//! Random histories of arrivals, departures, deaths and drains, checked against the promises.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;

use super::*;

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

//! The promises, one by one; and in random histories.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::*;

mod histories;

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

//! The front and a worker's own side, over the sockets that are between them.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::native::{CANCEL, PATIENT};
use common::{pattern, until, Client, Dice, House, Plan, SOON};
use faucet_core::serve::{pipe, Answer, Content, Dispatcher, Request, Server, Settings, Written};
use faucet_core::worker::native::{Cancelling, Native};
use faucet_core::worker::{Address, Report, Worker};

/// A worker whose handler is a thread, as R is.
struct Whole {
    server: Server,
    handler: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    reports: Arc<Mutex<Vec<Report>>>,
    folder: tempfile::TempDir,
}

impl Whole {
    /// The handler gets a request and a flag that is set when it is to stop.
    fn start(handle: impl Fn(&Dispatcher, Request, &AtomicBool) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let dispatcher = Arc::new(Dispatcher::new(move || flag.store(true, Ordering::SeqCst)));
        let settings = Settings {
            socket: folder.path().join("1"),
            body_memory: 1000,
            docs: None,
            signature: None,
            routes: None,
        };
        let server = Server::start(settings, dispatcher.clone()).expect("it starts");
        let ended = over.clone();
        let handler = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                if let Some(request) = dispatcher.next(Duration::from_millis(10)) {
                    assert!(!stop.load(Ordering::SeqCst), "interrupted for another");
                    handle(&dispatcher, request, &stop);
                    dispatcher.finish();
                    stop.store(false, Ordering::SeqCst);
                }
            }
        });
        Self {
            server,
            handler: Some(handler),
            over,
            reports: Arc::default(),
            folder,
        }
    }

    async fn house(&self, cancelling: Cancelling, change: impl FnOnce(&mut Plan)) -> House {
        let house = House::start(Vec::new(), change).await;
        let (socket, sink) = (self.folder.path().join("1"), self.reports.clone());
        let native = Native::new(&socket, cancelling);
        let report =
            Box::new(move |_: &Worker, report| sink.lock().expect("no panic").push(report));
        let worker = Worker::new(1, 1, Address::Unix(socket), report).with_native(native);
        house.pool.table.add(Arc::new(worker), 1);
        house
    }

    fn only_served(&self) -> bool {
        let reports = self.reports.lock().expect("no panic");
        reports.iter().all(|report| *report == Report::Served)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let failed = self.handler.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(failed, Some(Ok(()))), "the handler failed");
        }
    }
}

fn answer(dispatcher: &Dispatcher, content: Content) {
    let answer = Answer::new(200, [], content).expect("valid");
    dispatcher.answer(answer);
}

fn bytes(text: impl Into<Bytes>) -> Content {
    Content::Bytes(text.into())
}

/// Works for a while, unless it is to stop.
fn work(time: Duration, stop: &AtomicBool) {
    let start = Instant::now();
    while start.elapsed() < time && !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[tokio::test]
async fn clients_leave_at_any_moment_and_nobody_else_is_hit() {
    let worker = Whole::start(|dispatcher, request, stop| {
        let path = request.target.path().to_owned();
        work(Duration::from_micros(700), stop);
        answer(dispatcher, bytes(path));
    });
    let house = worker.house(PATIENT, |_| {}).await;
    let mut dice = Dice::new(7);
    let clients: Vec<_> = (0..400)
        .map(|number| {
            let (address, stays) = (house.address, dice.below(2) == 0);
            let pause = Duration::from_micros(dice.below(400_000));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let mut client = Client::connect(address).await;
                let path = format!("/{number}");
                client.start_get(&path).await;
                if stays {
                    assert_eq!(client.response().await.text(), path);
                } else {
                    tokio::time::sleep(pause / 100).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("its own answer");
    }
    house.idle().await;
    assert!(worker.only_served());
}

#[tokio::test]
async fn a_worker_is_free_soon_after_its_client_or_its_deadline() {
    let worker = Whole::start(|dispatcher, request, stop| {
        if request.target.path() == "/long" {
            work(common::PATIENCE * 2, stop);
        }
        answer(dispatcher, bytes("done"));
    });
    for timeout in [None, Some(SOON)] {
        let house = worker
            .house(PATIENT, |plan| plan.pool.timeout = timeout)
            .await;
        let mut client = house.client().await;
        client.start_get("/long").await;
        match timeout {
            None => until("it is at work", || worker.server.dispatcher().is_busy()).await,
            Some(_) => assert_eq!(client.response().await.cause(), "timeout"),
        }
        drop(client);
        assert_eq!(house.client().await.get("/short").await.text(), "done");
    }
    assert!(worker.only_served());
}

#[tokio::test]
async fn a_stream_ends_with_its_client_whether_it_is_finished_or_broken_off() {
    let worker = Whole::start(|dispatcher, request, stop| {
        let (writer, reader) = pipe();
        answer(dispatcher, Content::Stream(reader));
        let chunk = Bytes::from_static(&[0; 50_000]);
        while !stop.load(Ordering::SeqCst) {
            if writer.write(&chunk, Duration::from_millis(10)) == Written::Closed {
                break;
            }
            if request.target.path() == "/short" {
                return writer.finish();
            }
        }
        if request.target.path() == "/finished" {
            writer.finish();
        }
    });
    for cancelling in [PATIENT, CANCEL] {
        let house = worker
            .house(cancelling, |plan| plan.limits.body_memory = 1000)
            .await;
        for path in ["/finished", "/broken"] {
            let mut client = house.client().await;
            client.start_get(path).await;
            while client.unread.len() < 200_000 {
                assert!(client.fill().await);
            }
            drop(client);
            let next = house.client().await.get("/short").await;
            assert_eq!(next.body.len(), 50_000);
        }
    }
    assert!(worker.only_served());
}

#[tokio::test]
async fn bodies_and_files_travel_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy");
    let target = path.clone();
    let worker = Whole::start(move |dispatcher, request, _| {
        let mut body = vec![0; request.body.len() as usize];
        request.body.copy_to(0, &mut body).expect("readable");
        std::fs::write(&target, body).expect("written");
        answer(dispatcher, Content::File(Path::to_owned(&target)));
    });
    for body_memory in [0, 1_000_000, 100_000_000] {
        let house = worker
            .house(CANCEL, |plan| plan.limits.body_memory = body_memory)
            .await;
        let mut client = house.client().await;
        for length in [0, 10, 5_000_000] {
            let body = pattern(length);
            assert!(client.post("/", &body).await.body == body, "{length}");
        }
    }
    assert!(worker.only_served());
}

//! The source of a command's pool: as many workers as programs may run at a time, and none of them costs anything.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::call::{Call, Calls};
use super::program::Program;
use super::programs::{numbers_above, worker_of, Programs};
use super::CommandSettings;
use crate::clock::until;
use crate::environment::SystemError;
use crate::lock::{MemberId, Refused, Table};
use crate::ops::status::State;
use crate::serve::{Listening, Terms};
use crate::sources::local::Resources;
use crate::sources::{
    Command, Entry, Failure, Notifier, Roster, SourceContext, SourceEvent, SourceHandle, SourceTask,
};
use crate::worker::native::Cancelling;
use crate::worker::{Address, Native, Report, Worker};

/// How much of a request's body stays in memory here, in bytes: what comes as a file stays one.
const BODY_MEMORY: u64 = 1024 * 1024;

/// What becomes of requests that nobody waits for. A program that is not gone by then cannot be killed at all.
const CANCELLING: Cancelling = Cancelling {
    cancel: true,
    interrupt_timeout: Duration::from_secs(5),
};

/// After the front could not reach a worker, though it is in this process: the system is out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// How long programs may take to end when the server stops, before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long the system may take to end those that were killed.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Between two looks for a program that is not there.
const BETWEEN_TRIES: Duration = Duration::from_secs(5);

/// A command's pool before it is started.
pub struct CommandPool {
    settings: CommandSettings,
    resources: Arc<Resources>,
}

/// What happens to a worker.
enum Event {
    /// The front says something of it.
    Reported(u32, Report),
    /// It was set aside, and has nothing in flight now.
    Rested(u32),
    /// It is not needed any more, and has nothing in flight now.
    Drained(u32),
}

/// One worker.
struct Slot {
    place: MemberId,
    worker: Arc<Worker>,
    leaving: bool,
}

/// The source's work.
struct Commands {
    program: Arc<Program>,
    calls: Arc<Calls>,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    notify: Notifier,
    events: mpsc::UnboundedSender<Event>,
    slots: BTreeMap<u32, Slot>,
    /// How many there are to be.
    wanted: u32,
    /// Where all of them are served, once they are.
    socket: Option<PathBuf>,
    /// What ends with the pool.
    tasks: JoinSet<()>,
}

impl CommandPool {
    pub fn new(settings: CommandSettings, resources: Arc<Resources>) -> Self {
        Self {
            settings,
            resources,
        }
    }

    /// The source's work and its handle.
    pub fn start(self, context: SourceContext) -> (SourceTask, SourceHandle) {
        let SourceContext {
            table,
            roster,
            ops,
            notify,
            // What runs for one request has no sessions.
            sessions: _,
        } = context;
        let (sender, asked) = mpsc::unbounded_channel();
        let handle = SourceHandle::new(move |command| {
            // Fails only when this source is gone.
            let _ = sender.send(command);
        });
        let (events, happened) = mpsc::unbounded_channel();
        let commands = Commands {
            wanted: self.settings.workers.max,
            program: Arc::new(Program {
                settings: self.settings,
                resources: self.resources,
                ops,
            }),
            calls: Arc::default(),
            table,
            roster,
            notify,
            events,
            slots: BTreeMap::new(),
            socket: None,
            tasks: JoinSet::new(),
        };
        (Box::pin(commands.run(asked, happened)), handle)
    }
}

impl Commands {
    /// Runs until it is told to stop.
    async fn run(
        mut self,
        mut asked: mpsc::UnboundedReceiver<Command>,
        mut happened: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut next_try = None;
        if let Err(failure) = self.begin() {
            self.notify.send(SourceEvent::BootFailed(failure));
        }
        loop {
            tokio::select! {
                biased;
                command = asked.recv() => match command {
                    None | Some(Command::Kill) => {
                        self.end().await;
                        return;
                    }
                    Some(Command::Stop(reply)) => {
                        self.stop(&mut asked).await;
                        let _ = reply.send(Ok(()));
                        return;
                    }
                    // The next request starts whatever is there then.
                    Some(Command::Reload(reply)) => {
                        let _ = reply.send(self.is_well());
                    }
                    Some(Command::KeepTrying) if self.socket.is_none() => {
                        self.table.refuse(Refused::NoWorkers);
                        next_try = Some(Instant::now() + BETWEEN_TRIES);
                    }
                    Some(Command::KeepTrying) => {}
                    Some(Command::Scale(workers, reply)) => {
                        self.wanted = workers.max;
                        if self.socket.is_some() {
                            self.resize();
                        }
                        let _ = reply.send(Ok(()));
                    }
                },
                Some(event) = happened.recv() => self.handle(event),
                () = until(next_try) => {
                    next_try = match self.begin() {
                        Ok(()) => None,
                        Err(_) => Some(Instant::now() + BETWEEN_TRIES),
                    };
                }
            }
        }
    }

    /// Whether its program can be run, as far as that can be seen.
    fn is_well(&self) -> Result<(), Failure> {
        self.program.problem().map_or(Ok(()), |problem| {
            Err(Failure::new(
                "boot",
                format!("The command cannot be run: {problem}."),
            ))
        })
    }

    /// Begins to serve.
    fn begin(&mut self) -> Result<(), Failure> {
        self.is_well()?;
        let socket = self.listen().map_err(|error| {
            let error = SystemError(&error);
            Failure::new("system", format!("The command cannot be served: {error}."))
        })?;
        let signature = self.program.settings.signature.clone();
        // Before the first request, which is not to wait for a worker if its options do not fit.
        self.roster.set_signature(signature);
        self.socket = Some(socket);
        self.resize();
        self.table.admit();
        self.notify.send(SourceEvent::Ready);
        Ok(())
    }

    fn listen(&mut self) -> io::Result<PathBuf> {
        let resources = &self.program.resources;
        let socket = resources.socket(resources.next_generation(), None)?;
        let listening = Listening::bind(&socket)?;
        let terms = Terms {
            store: resources.store()?,
            body_memory: BODY_MEMORY,
            docs: None,
            signature: None,
            routes: None,
        };
        let programs = Arc::new(Programs {
            program: self.program.clone(),
            calls: self.calls.clone(),
        });
        let serving = async move {
            if let Err(error) = listening.serve(programs, terms).await {
                tracing::error!("cannot serve: {}", SystemError(&error));
            }
        };
        self.tasks.spawn(serving.in_current_span());
        Ok(socket)
    }

    /// Has as many workers as are wanted.
    fn resize(&mut self) {
        let serving = |slot: &Slot| !slot.leaving;
        let mut count = self.slots.values().filter(|slot| serving(slot)).count() as u32;
        while count < self.wanted {
            self.add();
            count += 1;
        }
        let surplus = (count - self.wanted) as usize;
        let last = self.slots.iter().rev().filter(|(_, slot)| serving(slot));
        let last: Vec<u32> = last.take(surplus).map(|(id, _)| *id).collect();
        for id in last {
            self.dismiss(id);
        }
    }

    fn add(&mut self) {
        let (Some(socket), Some(id)) = (
            self.socket.clone(),
            (1..).find(|id| !self.slots.contains_key(id)),
        ) else {
            return;
        };
        let events = self.events.clone();
        let reporter = move |worker: &Worker, report| {
            if matches!(
                report,
                Report::Stuck(..) | Report::Unreachable | Report::Doubtful
            ) {
                // Fails only when this source is gone.
                let _ = events.send(Event::Reported(worker.id, report));
            }
        };
        let generation = self.program.resources.next_generation();
        let native = Native::new(&socket, CANCELLING);
        let worker = Worker::new(id, generation, Address::Unix(socket), Box::new(reporter))
            .with_native(native)
            // It is this very process.
            .with_pulse(Box::new(|| Some(true)))
            .with_numbers_above(numbers_above(id));
        let worker = Arc::new(worker);
        self.roster.put(Entry {
            id,
            generation,
            pid: None,
            state: State::Ready,
            restarts: 0,
            started: Some(SystemTime::now()),
            boot: None,
            next_try: None,
            worker: Some(worker.clone()),
        });
        let place = self.table.add(worker.clone(), 1);
        let slot = Slot {
            place,
            worker,
            leaving: false,
        };
        self.slots.insert(id, slot);
    }

    /// Lets a worker finish what it does; then it is forgotten.
    fn dismiss(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.leaving = true;
            let (drained, events) = (self.table.drain(slot.place), self.events.clone());
            self.tasks.spawn(async move {
                drained.await;
                let _ = events.send(Event::Drained(id));
            });
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Reported(id, report) => {
                if let Report::Stuck(_, number) = report {
                    self.calls.each(|other| other == number, Call::kill);
                }
                self.rest(id);
            }
            Event::Rested(id) => {
                if let Some(slot) = self.slots.get(&id).filter(|slot| !slot.leaving) {
                    self.table.resume(slot.place);
                }
            }
            Event::Drained(id) => self.forget(id),
        }
        // So that tasks that are over are forgotten.
        while self.tasks.try_join_next().is_some() {}
    }

    /// The front may have set a worker aside: it is used again once nothing of it runs.
    fn rest(&mut self, id: u32) {
        let (calls, events) = (self.calls.clone(), self.events.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(PAUSE).await;
            calls.over(|number| worker_of(number) == id).await;
            let _ = events.send(Event::Rested(id));
        });
    }

    fn forget(&mut self, id: u32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.table.remove(slot.place);
            self.roster.forget(id, slot.worker.generation);
            slot.worker.close_connections();
        }
    }

    /// Ends what runs in order, unless there is no time for that.
    async fn stop(&mut self, asked: &mut mpsc::UnboundedReceiver<Command>) {
        let killed = async { while !matches!(asked.recv().await, None | Some(Command::Kill)) {} };
        self.calls.each(|_| true, Call::end);
        tokio::select! {
            _ = tokio::time::timeout(STOP_GRACE, self.calls.over(|_| true)) => {}
            () = killed => {}
        }
        self.end().await;
    }

    /// The end: nothing runs, and nobody is a worker any more.
    async fn end(&mut self) {
        self.calls.each(|_| true, Call::kill);
        // What cannot be killed is the system's.
        let _ = tokio::time::timeout(KILL_GRACE, self.calls.over(|_| true)).await;
        let ids: Vec<u32> = self.slots.keys().copied().collect();
        for id in ids {
            self.forget(id);
        }
    }
}

//! What the supervisor makes of what it is told, without processes.

use std::time::SystemTime;

use super::*;
use crate::environment::Environment;
use crate::ops::access::AccessLog;
use crate::ops::log::Log;
use crate::ops::metrics::Metrics;
use crate::sources::local::boot::ReservedPort;
use crate::sources::local::output::Gate;
use crate::sources::local::{Confinement, WorkerRange};
use crate::worker::native::Cancelling;
use crate::worker::Unwanted;

/// A supervisor with one ready worker.
async fn supervisor() -> (Supervisor, Arc<Worker>) {
    let settings = LocalSettings {
        command: vec!["true".into()],
        dir: ".".into(),
        env: BTreeMap::new(),
        workers: WorkerRange::fixed(1),
        grow_after: None,
        shrink_after: None,
        worker_type: None,
        compile: true,
        cancelling: Cancelling {
            cancel: true,
            interrupt_timeout: Duration::from_secs(5),
        },
        preload: false,
        shared_template: false,
        confinement: Confinement::default(),
        boot_timeout: Duration::from_secs(5),
        max_requests: None,
        max_memory: None,
        max_failures: 5,
        give_up_after: None,
        watch: false,
    };
    let table = Table::new(10);
    let log = Arc::new(Log::default());
    let context = SourceContext {
        table: table.clone(),
        roster: Arc::new(Roster::new(table)),
        ops: Arc::new(Ops {
            pool: "/".into(),
            metrics: Metrics::default().of_pool(&"/".into()),
            access: Arc::new(AccessLog::none()),
            log,
        }),
        sessions: None,
        notify: Notifier::new(0, mpsc::unbounded_channel().0),
    };
    let environment = Environment::read();
    let resources = Arc::new(Resources::prepare(&environment, None).expect("a folder"));
    let generation = resources.next_generation();
    let temporary = resources.temporary(generation, None).expect("a folder");
    let counted = context
        .ops
        .metrics
        .process(temporary.path().join("metrics"));
    let (mut supervisor, _) = Supervisor::new(settings, resources, context);
    supervisor.positions.insert(1, Position::default());
    let port = ReservedPort::take().expect("a free port");
    let address = Address::Tcp(port.address);
    let member = Member {
        id: 1,
        state: State::Starting,
        process: None,
        started: SystemTime::now(),
        began: std::time::Instant::now(),
        boot: None,
        ready_since: None,
        port,
        socket: None,
        _counted: counted,
        temporary,
        inherited: None,
        gate: Gate::default(),
        worker: None,
        lease_id: None,
        replaces: None,
        recycle_after: None,
        fresh: None,
        heavy_until: None,
        idle_since: None,
        requests_seen: 0,
        problem: None,
    };
    supervisor.members.insert(0, member);
    supervisor.ready(0, address).await;
    let worker = supervisor.members[&0].worker.clone().expect("it is ready");
    (supervisor, worker)
}

async fn take(supervisor: &mut Supervisor) {
    let event = supervisor.events.recv().await.expect("an event");
    supervisor.handle(event).await;
}

#[tokio::test]
async fn a_worker_that_is_stuck_is_replaced() {
    for why in [Unwanted::Deadline, Unwanted::ClientLeft, Unwanted::Silent] {
        let (mut supervisor, worker) = supervisor().await;
        worker.begin();
        worker.report(Report::Stuck(why, worker.begin()));
        take(&mut supervisor).await;
        assert_eq!(supervisor.members[&0].state, State::Stopping);
    }
}

/// The news of a request that has ended meanwhile must not kill what came after it.
#[tokio::test]
async fn who_comes_after_a_stuck_request_is_none_of_its_business() {
    let (mut supervisor, worker) = supervisor().await;
    let stuck = worker.begin();
    worker.report(Report::Stuck(Unwanted::Deadline, stuck));
    worker.answered(stuck);
    take(&mut supervisor).await;
    assert_eq!(supervisor.members[&0].state, State::Ready);

    let stuck = worker.begin();
    worker.report(Report::Stuck(Unwanted::ClientLeft, stuck));
    worker.answered(stuck);
    worker.begin();
    take(&mut supervisor).await;
    assert_eq!(supervisor.members[&0].state, State::Ready);
}

use std::path::Path;

use super::*;
use crate::cgroup::tests::{tree, write};

/// A machine of so many cores, whose load is set.
struct Fake {
    root: tempfile::TempDir,
    gates: Arc<Gates>,
    cores: u64,
    /// In ticks.
    busy: u64,
    idle: u64,
    looking: tokio::task::JoinHandle<()>,
}

impl Fake {
    fn new(cores: u64, gates: Vec<Gate>) -> Self {
        let root = tree(&[]);
        let settings = GateSettings {
            gates,
            strict: false,
        };
        let gates = Gates::of_machine(settings, root.path());
        let mut fake = Self {
            root,
            looking: tokio::spawn(gates.clone().run()),
            gates,
            cores,
            busy: 0,
            idle: 0,
        };
        fake.count(0, 0);
        fake
    }

    fn write(&self, path: &str, text: &str) {
        write(self.root.path(), path, text);
    }

    fn count(&mut self, busy: u64, idle: u64) {
        self.busy += busy;
        self.idle += idle;
        // The first core has all the ticks: it is their sum that counts.
        let mut stat = format!("cpu0 {} 0 0 {}\n", self.busy, self.idle);
        for core in 1..self.cores {
            stat += &format!("cpu{core} 0 0 0 0\n");
        }
        self.write("proc/stat", &stat);
    }

    /// Lets time pass in which so many cores are busy, up to and with the next look.
    async fn pass(&mut self, looks: u32, busy: f64) {
        for _ in 0..looks {
            let ticks = self.cores * 1000;
            let of_busy = (1000.0 * busy) as u64;
            self.count(of_busy, ticks - of_busy);
            self.next_look().await;
        }
    }

    /// Paused time moves when all else waits, among it the look itself.
    async fn next_look(&self) {
        let before = self.looks();
        while self.looks() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn looks(&self) -> u64 {
        self.gates.state().for_cpu.looks()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn without_gates_nothing_is_bounded_and_nothing_is_looked_at() {
    let gates = Gates::of_machine(GateSettings::default(), Path::new("/nowhere"));
    assert_eq!(gates.room(), u32::MAX);
    let _job = gates.took();
    assert_eq!(gates.room(), u32::MAX);
    let looking = tokio::spawn(gates.clone().run());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(gates.state().for_cpu.looks(), 0);
    looking.abort();
}

#[tokio::test(start_paused = true)]
async fn each_offer_needs_its_idle_cores() {
    let mut fake = Fake::new(4, vec![Gate::Cpu { idle: 1.0 }]);
    assert_eq!(fake.gates.room(), 0, "nothing is known yet");
    fake.next_look().await;
    fake.pass(4, 0.05).await;
    assert_eq!(fake.gates.room(), 4, "something always runs");
    fake.pass(8, 2.5).await;
    assert_eq!(fake.gates.room(), 1);
    fake.pass(8, 4.0).await;
    assert_eq!(fake.gates.room(), 0);
    // Within two seconds.
    fake.pass(7, 0.0).await;
    assert_eq!(fake.gates.room(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_burst_cannot_overcommit() {
    for cores in [2, 4, 16] {
        let mut fake = Fake::new(cores, vec![Gate::Cpu { idle: 1.0 }]);
        fake.next_look().await;
        fake.pass(4, 0.0).await;
        let mut jobs = Vec::new();
        // In one moment, as fast as they are offered.
        while fake.gates.room() > 0 {
            jobs.push(fake.gates.took());
        }
        assert_eq!(jobs.len() as u64, cores);
        // Each has a core from now on.
        for _ in 0..80 {
            fake.pass(1, cores as f64).await;
            assert_eq!(fake.gates.room(), 0);
        }
        drop(jobs);
        fake.pass(7, 0.0).await;
        assert_eq!(u64::from(fake.gates.room()), cores);
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_that_turn_out_to_need_little_make_room_for_others() {
    let mut fake = Fake::new(4, vec![Gate::Cpu { idle: 1.0 }]);
    fake.next_look().await;
    fake.pass(4, 0.0).await;
    let jobs: Vec<_> = (0..4).map(|_| fake.gates.took()).collect();
    assert_eq!(fake.gates.room(), 0);
    // They wait for a database.
    fake.pass(40, 0.0).await;
    assert_eq!(fake.gates.room(), 4);
    drop(jobs);
    assert_eq!(fake.gates.room(), 4);
}

#[tokio::test(start_paused = true)]
async fn short_jobs_give_back_at_once_what_they_reserved() {
    let mut fake = Fake::new(2, vec![Gate::Cpu { idle: 1.0 }]);
    fake.next_look().await;
    fake.pass(4, 0.0).await;
    for _ in 0..1000 {
        let _jobs = [fake.gates.took(), fake.gates.took()];
        assert_eq!(fake.gates.room(), 0);
    }
    assert_eq!(fake.gates.room(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_offer_needs_its_memory() {
    let giga = 1 << 30;
    let mut fake = Fake::new(1, vec![Gate::Memory { free: 4 * giga }]);
    let set = |fake: &Fake, gigas: u64| {
        fake.write(
            "proc/meminfo",
            &format!("MemAvailable: {} kB\n", gigas << 20),
        );
    };
    set(&fake, 10);
    fake.pass(2, 0.0).await;
    assert_eq!(fake.gates.room(), 2);
    let job = fake.gates.took();
    assert_eq!(fake.gates.room(), 1);
    set(&fake, 6);
    fake.pass(1, 0.0).await;
    assert_eq!(fake.gates.room(), 0, "what it has may be all that it takes");
    fake.pass(100, 0.0).await;
    assert_eq!(fake.gates.room(), 1);
    drop(job);
    fake.write("proc/self/cgroup", "0::/a\n");
    fake.write("sys/fs/cgroup/a/memory.max", &format!("{}\n", 8 * giga));
    fake.write("sys/fs/cgroup/a/memory.current", &format!("{}\n", 5 * giga));
    fake.pass(1, 0.0).await;
    assert_eq!(fake.gates.room(), 0, "the cgroup leaves 3 GB");
}

#[tokio::test(start_paused = true)]
async fn all_gates_have_to_be_open_and_r_has_its_say() {
    let gates = vec![Gate::Cpu { idle: 2.0 }, Gate::Asked, Gate::Asked];
    let mut fake = Fake::new(8, gates);
    fake.next_look().await;
    fake.pass(4, 0.0).await;
    assert_eq!(fake.gates.room(), 0, "R has said nothing");
    fake.gates.answer(1, true);
    assert_eq!(fake.gates.room(), 0);
    fake.gates.answer(2, true);
    assert_eq!(fake.gates.room(), 4);
    fake.gates.answer(1, false);
    // Neither R's, nor any.
    fake.gates.answer(0, true);
    fake.gates.answer(17, true);
    assert_eq!(fake.gates.room(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_of_each_change() {
    let mut fake = Fake::new(2, vec![Gate::Cpu { idle: 1.0 }, Gate::Asked]);
    let gates = fake.gates.clone();
    fake.next_look().await;
    fake.pass(4, 0.0).await;

    let changed = gates.changed();
    gates.answer(1, true);
    changed.await;
    let changed = gates.changed();
    let job = gates.took();
    changed.await;
    let changed = gates.changed();
    drop(job);
    changed.await;
    let changed = gates.changed();
    fake.pass(5, 2.0).await;
    changed.await;
    assert_eq!(gates.room(), 0);

    // Nobody is woken for nothing.
    let changed = gates.changed();
    fake.pass(5, 2.0).await;
    gates.answer(1, true);
    let woken = tokio::time::timeout(Duration::from_millis(1), changed).await;
    assert!(woken.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_tell_any_more_has_no_room() {
    let log = Arc::new(crate::ops::log::Log::default());
    let _lines = tracing::subscriber::set_default(log.subscriber());
    let mut fake = Fake::new(2, vec![Gate::Cpu { idle: 1.0 }]);
    fake.next_look().await;
    fake.pass(4, 0.0).await;
    assert_eq!(fake.gates.room(), 2);
    fake.write("proc/stat", "");
    for _ in 0..10 {
        fake.next_look().await;
    }
    assert_eq!(fake.gates.room(), 0);
    fake.pass(4, 0.0).await;
    assert_eq!(fake.gates.room(), 2);
    let (lines, _) = log.take();
    let said: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("the system does not tell how many cores are idle"));
}

#[test]
fn this_machine_tells() {
    let told = cfg!(any(target_os = "linux", target_os = "android"));
    assert_eq!((is_cpu_told(), is_memory_told()), (told, told));
}

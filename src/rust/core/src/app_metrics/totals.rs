//! What all processes of a server count together: those that live, and those that are gone.
//!
//! A process is `living`, then `ended`, and then folded into what is kept. Only who holds `kept` reads files and folds, so that
//! at any moment each process is counted once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::exposition::render;
use super::kept::Kept;
use super::source::Source;
use super::MOST_BYTES;

/// What the apps of one server count. Cheap to clone.
#[derive(Clone, Default)]
pub struct AppMetrics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Held for a moment only: the thread that serves takes it, too.
    processes: Mutex<Processes>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Processes {
    next: u64,
    living: BTreeMap<u64, Arc<Process>>,
    ended: Vec<Arc<Process>>,
}

pub(super) struct Process {
    pub pool: Arc<str>,
    pub source: Source,
}

/// That a process is counted, for as long as it lives. Dropped when it has ended, and before its folder is removed.
pub struct Counted {
    metrics: AppMetrics,
    number: u64,
}

impl AppMetrics {
    /// A process will begin that counts for a pool, in a file that it may make there.
    pub fn process(&self, pool: &Arc<str>, path: PathBuf) -> Counted {
        let mut processes = lock(&self.0.processes);
        let number = processes.next;
        processes.next += 1;
        let process = Process {
            pool: pool.clone(),
            source: Source::new(path),
        };
        processes.living.insert(number, Arc::new(process));
        Counted {
            metrics: self.clone(),
            number,
        }
    }

    /// All of it as OpenMetrics text, without an end; empty if nothing was counted. Reads the file of each process.
    pub fn render(&self) -> String {
        let mut kept = lock(&self.0.kept);
        let living = self.settle(&mut kept);
        let mut look = kept.look(&living);
        if kept.replace(&look) {
            look = kept.look(&living);
        }
        kept.tell_of(&look);
        let (text, whole) = render(look.families.values(), &look.dropped, MOST_BYTES);
        if !whole || look.is_full {
            kept.tell_of_room();
        }
        text
    }

    /// Adds what processes have counted that are gone to what is kept. Returns those that live.
    fn settle(&self, kept: &mut Kept) -> Vec<Arc<Process>> {
        let (ended, living) = {
            let mut processes = lock(&self.0.processes);
            let living: Vec<_> = processes.living.values().cloned().collect();
            (std::mem::take(&mut processes.ended), living)
        };
        for process in ended {
            // One after the other, as there may be much in each.
            let Some(contents) = process.source.read() else {
                continue;
            };
            let mut series = contents.series.iter();
            if series.any(|series| kept.has(&series.definition) == Some(false)) {
                let mut look = kept.look(&living);
                look.note_definitions(&contents);
                kept.replace(&look);
                kept.tell_of(&look);
            }
            kept.fold(&process.pool, contents);
        }
        living
    }

    fn ended(&self, number: u64) {
        let process = lock(&self.0.processes).living.get(&number).cloned();
        if let Some(process) = process {
            // While its folder is there.
            process.source.open();
            let mut processes = lock(&self.0.processes);
            processes.living.remove(&number);
            processes.ended.push(process);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.ended(self.number);
        let metrics = self.metrics.clone();
        let fold = move || drop(metrics.settle(&mut lock(&metrics.0.kept)));
        match Handle::try_current() {
            Ok(runtime) => drop(aside(&runtime, fold)),
            Err(_) => fold(),
        }
    }
}

/// Does something where it holds nobody up. What it says goes where lines from here go.
pub fn aside<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let lines = tracing::dispatcher::get_default(Clone::clone);
    runtime.spawn_blocking(move || tracing::dispatcher::with_default(&lines, work))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{
        labels, Change, Definition, Kind, Labels, Recorder, MOST_KEPT, MOST_SERIES, MOST_SHOWN,
    };
    use super::*;

    struct Worker {
        recorder: Recorder,
        counted: Option<Counted>,
    }

    impl Worker {
        fn start(metrics: &AppMetrics, pool: &str, path: &Path) -> Self {
            let mut recorder = Recorder::default();
            recorder.begin(Some(path.to_owned()));
            Self {
                recorder,
                counted: Some(metrics.process(&pool.into(), path.to_owned())),
            }
        }

        fn define(mut self, kind: Kind, name: &str, bounds: &[f64]) -> Self {
            let definition = Definition::new(kind, name, "", bounds.to_vec()).expect("a metric");
            self.recorder.define(definition).expect("new");
            self
        }

        fn change(&mut self, name: &str, label: &str, change: Change) {
            let labels = match label {
                "" => Labels::new(),
                label => labels([("l", label)]).expect("a label"),
            };
            self.recorder.change(name, labels, change).expect("counted");
        }

        /// As by SIGKILL.
        fn die(mut self) {
            self.counted.take();
        }
    }

    fn samples(metrics: &AppMetrics) -> Vec<String> {
        let text = metrics.render();
        let lines = text.lines();
        let own = |line: &&str| !line.starts_with('#') && !line.starts_with("faucet_");
        lines.filter(own).map(str::to_owned).collect()
    }

    #[test]
    fn counts_of_the_dead_are_kept_once_and_their_gauges_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = AppMetrics::default();
        assert_eq!(metrics.render(), "");
        let start = |name: &str| {
            let path = folder.path().join(name);
            let worker = Worker::start(&metrics, "/", &path);
            worker
                .define(Kind::Counter, "c", &[])
                .define(Kind::Gauge, "g", &[])
                .define(Kind::Histogram, "h", &[1.0])
        };
        let [mut first, mut second] = ["1", "2"].map(start);
        first.change("c", "x", Change::Add(2.0));
        first.change("g", "", Change::Set(5.0));
        first.change("h", "", Change::Observe(0.5));
        second.change("c", "x", Change::Add(1.0));
        second.change("g", "", Change::Set(-1.0));
        let histogram = |low: u32, all: u32, sum: &str| {
            [
                format!("h_bucket{{pool=\"/\",le=\"1.0\"}} {low}"),
                format!("h_bucket{{pool=\"/\",le=\"+Inf\"}} {all}"),
                format!("h_sum{{pool=\"/\"}} {sum}"),
                format!("h_count{{pool=\"/\"}} {all}"),
            ]
        };
        let expect = |count: &str, gauge: Option<&str>, histogram: [String; 4]| {
            let count = format!("c_total{{pool=\"/\",l=\"x\"}} {count}");
            let gauge = gauge.map(|gauge| format!("g{{pool=\"/\"}} {gauge}"));
            let all: Vec<_> = [count].into_iter().chain(gauge).chain(histogram).collect();
            assert_eq!(samples(&metrics), all);
        };
        expect("3", Some("4"), histogram(1, 1, "0.5"));
        first.die();
        for _ in 0..2 {
            expect("3", Some("-1"), histogram(1, 1, "0.5"));
        }
        let mut third = start("3");
        third.change("c", "x", Change::Add(0.5));
        third.change("h", "", Change::Observe(2.0));
        expect("3.5", Some("-1"), histogram(1, 2, "2.5"));
        second.die();
        third.die();
        expect("3.5", None, histogram(1, 2, "2.5"));
        std::fs::remove_dir_all(folder.path()).expect("removed");
        expect("3.5", None, histogram(1, 2, "2.5"));
    }

    #[test]
    fn pools_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = AppMetrics::default();
        let mut workers = ["/", "/a\"b"].map(|pool| {
            let path = folder.path().join(pool.len().to_string());
            Worker::start(&metrics, pool, &path).define(Kind::Counter, "c", &[])
        });
        for worker in &mut workers {
            worker.change("c", "", Change::Add(1.0));
        }
        let expected = ["c_total{pool=\"/\"} 1", "c_total{pool=\"/a\\\"b\"} 1"];
        assert_eq!(samples(&metrics), expected);
        workers.into_iter().for_each(Worker::die);
        assert_eq!(samples(&metrics), expected);
    }

    #[test]
    fn the_first_definition_counts_until_no_living_process_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = AppMetrics::default();
        let start = |name: &str, kind, bounds: &[f64], change| {
            let path = folder.path().join(name);
            let mut worker = Worker::start(&metrics, "/", &path).define(kind, "m", bounds);
            worker.change("m", "", change);
            worker
        };
        let count = |number: &str| {
            assert_eq!(
                samples(&metrics),
                [format!("m_total{{pool=\"/\"}} {number}")]
            )
        };
        let old = start("1", Kind::Counter, &[], Change::Add(1.0));
        count("1");
        // One that comes and goes meanwhile.
        let other = start("2", Kind::Gauge, &[], Change::Set(9.0));
        count("1");
        other.die();
        count("1");
        // New code, while the old one still runs.
        let new = start("3", Kind::Histogram, &[1.0], Change::Observe(2.0));
        count("1");
        old.die();
        assert_eq!(samples(&metrics).len(), 4);
        new.die();
        assert_eq!(samples(&metrics).len(), 4);
        // Nobody lives who has it, and nobody asked in between.
        start("4", Kind::Gauge, &[], Change::Set(9.0)).die();
        let last = start("5", Kind::Gauge, &[], Change::Set(9.0));
        assert_eq!(samples(&metrics), ["m{pool=\"/\"} 9"]);
        last.die();
        assert!(samples(&metrics).is_empty());
        assert!(lock(&metrics.0.kept).families.is_empty());
    }

    #[test]
    fn what_is_kept_and_what_is_shown_has_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = AppMetrics::default();
        let start = |number: usize| {
            let path = folder.path().join(number.to_string());
            let mut worker = Worker::start(&metrics, "/", &path).define(Kind::Counter, "c", &[]);
            for series in 0..=MOST_SERIES {
                worker.change("c", &format!("{number}-{series}"), Change::Add(1.0));
            }
            worker
        };
        let processes = MOST_KEPT / MOST_SERIES + 1;
        (0..processes).for_each(|number| start(number).die());
        assert_eq!(samples(&metrics).len(), MOST_KEPT);
        let dropped = format!("faucet_metric_updates_dropped_total{{pool=\"/\"}} {processes}\n");
        assert!(metrics.render().ends_with(&dropped));
        let living: Vec<Worker> = (processes..3 * processes).map(start).collect();
        assert_eq!(samples(&metrics).len(), MOST_SHOWN);
        living.into_iter().for_each(Worker::die);
        assert_eq!(samples(&metrics).len(), MOST_KEPT);
    }

    #[test]
    fn a_process_that_has_counted_nothing_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = AppMetrics::default();
        let path = folder.path().join("1");
        let counted = metrics.process(&"/".into(), path.clone());
        assert_eq!(metrics.render(), "");
        let process = Arc::downgrade(&lock(&metrics.0.processes).living[&0]);
        drop(counted);
        assert!(process.upgrade().is_none());
    }
}

//! What all processes of a server count together: those that live, and those that are gone.
//!
//! A process is `living`, then `ended`, and then folded into what is kept. Only who holds `kept` reads files and folds, so that
//! at any moment each process is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::definition::Definition;
use super::exposition::{render, Family};
use super::layout::Series;
use super::source::{Contents, Source};
use super::{MOST_BYTES, MOST_KEPT, MOST_SERIES, MOST_SHOWN};

/// What the apps of one server count. Cheap to clone.
#[derive(Clone, Default)]
pub struct AppMetrics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Never held while a file is read.
    processes: Mutex<Processes>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Processes {
    next: u64,
    living: BTreeMap<u64, Arc<Process>>,
    ended: Vec<Arc<Process>>,
}

struct Process {
    pool: Arc<str>,
    source: Source,
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
        // What nobody counts any more is forgotten.
        kept.families
            .retain(|name, _| look.families.contains_key(name));
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
        let mut processes = lock(&self.0.processes);
        if let Some(process) = processes.living.remove(&number) {
            // While its folder is there.
            process.source.open();
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

/// What processes have counted that are gone.
#[derive(Default)]
struct Kept {
    families: BTreeMap<String, Family>,
    /// Series in them.
    count: usize,
    dropped: BTreeMap<Arc<str>, u64>,
    /// Metrics of which it was said that two differ.
    told: BTreeSet<String>,
    told_of_room: bool,
}

impl Kept {
    fn has(&self, definition: &Definition) -> Option<bool> {
        let known = self.families.get(&definition.name)?;
        Some(known.definition.adds_up_with(definition))
    }

    /// Sums up what is kept and what those count that live.
    fn look(&self, living: &[Arc<Process>]) -> Look {
        let mut look = Look {
            families: self.families.clone(),
            dropped: self.dropped.clone(),
            count: self.count,
            ..Look::default()
        };
        for process in living {
            if let Some(contents) = process.source.read() {
                look.add(&process.pool, contents);
            }
        }
        look
    }

    /// Lets the definitions of new code take the place of those that no process uses any more that lives. Returns whether
    /// there were some.
    fn replace(&mut self, look: &Look) -> bool {
        let outdated = |name: &&String| !look.in_use.contains(*name);
        let names: Vec<&String> = look.others.keys().filter(outdated).collect();
        for name in &names {
            tracing::info!("metric `{name}` is another one from now on, and begins anew");
            self.told.remove(*name);
            self.forget(name);
        }
        !names.is_empty()
    }

    fn tell_of(&mut self, look: &Look) {
        for name in look
            .others
            .keys()
            .filter(|name| look.in_use.contains(*name))
        {
            if self.told.len() < MOST_SERIES && self.told.insert(name.clone()) {
                tracing::warn!(
                    "metric `{name}` is not the same in all processes: what is of another kind, or has other buckets, than the \
                     first is not counted"
                );
            }
        }
    }

    fn tell_of_room(&mut self) {
        if !std::mem::replace(&mut self.told_of_room, true) {
            tracing::warn!("there are too many series of metrics, and some are not shown: is a label different for each request?");
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(family) = self.families.remove(name) {
            self.count -= family.series.len();
        }
    }

    /// Keeps what a process has counted that is gone. What it said of itself as a gauge goes with it.
    fn fold(&mut self, pool: &Arc<str>, contents: Contents) {
        add_dropped(&mut self.dropped, pool, contents.dropped);
        for series in contents.series {
            if series.definition.kind.is_kept() {
                let added =
                    add_series(&mut self.families, &mut self.count, MOST_KEPT, pool, series);
                if added == Added::Full {
                    self.tell_of_room();
                }
            }
        }
    }
}

/// All of it at one moment.
#[derive(Default)]
struct Look {
    families: BTreeMap<String, Family>,
    dropped: BTreeMap<Arc<str>, u64>,
    /// Series in them.
    count: usize,
    is_full: bool,
    /// Metrics that living processes have as they are known.
    in_use: BTreeSet<String>,
    /// The same of those that are another one to some process.
    others: BTreeMap<String, Definition>,
}

impl Look {
    fn add(&mut self, pool: &Arc<str>, contents: Contents) {
        add_dropped(&mut self.dropped, pool, contents.dropped);
        for series in contents.series {
            let definition = series.definition.clone();
            match add_series(
                &mut self.families,
                &mut self.count,
                MOST_SHOWN,
                pool,
                series,
            ) {
                Added::Done => drop(self.in_use.insert(definition.name)),
                Added::Full => self.is_full = true,
                Added::IsAnother => drop(self.others.insert(definition.name.clone(), definition)),
            }
        }
    }

    /// Without what was counted.
    fn note_definitions(&mut self, contents: &Contents) {
        for Series { definition, .. } in &contents.series {
            let known = self.families.get(&definition.name);
            if known.is_some_and(|known| !known.definition.adds_up_with(definition)) {
                self.others
                    .insert(definition.name.clone(), definition.clone());
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Done,
    /// There are too many.
    Full,
    /// The metric of this name is another one.
    IsAnother,
}

fn add_series(
    families: &mut BTreeMap<String, Family>,
    count: &mut usize,
    most: usize,
    pool: &Arc<str>,
    series: Series,
) -> Added {
    let key = (pool.clone(), series.labels);
    if let Some(known) = families.get_mut(&series.definition.name) {
        if !known.definition.adds_up_with(&series.definition) {
            return Added::IsAnother;
        }
        if let Some(numbers) = known.series.get_mut(&key) {
            add(numbers, &series.numbers);
            return Added::Done;
        }
    }
    if *count >= most {
        return Added::Full;
    }
    *count += 1;
    let family = families.entry(series.definition.name.clone());
    let family = family.or_insert_with(|| Family {
        definition: series.definition,
        series: BTreeMap::new(),
    });
    family.series.insert(key, series.numbers);
    Added::Done
}

fn add(numbers: &mut [f64], more: &[f64]) {
    for (number, more) in numbers.iter_mut().zip(more) {
        *number += more;
    }
}

fn add_dropped(dropped: &mut BTreeMap<Arc<str>, u64>, pool: &Arc<str>, count: u64) {
    let all = dropped.entry(pool.clone()).or_default();
    *all = all.saturating_add(count);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{labels, Change, Kind, Labels, Recorder};
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

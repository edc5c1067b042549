//! What is known of processes that are gone, and how it adds up with what those count that live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::definition::Definition;
use super::exposition::Family;
use super::layout::Series;
use super::source::Contents;
use super::totals::Process;
use super::{MOST_KEPT, MOST_SERIES, MOST_SHOWN};

/// What processes have counted that are gone.
#[derive(Default)]
pub(super) struct Kept {
    pub families: BTreeMap<String, Family>,
    /// Series in them.
    count: usize,
    pub dropped: BTreeMap<Arc<str>, u64>,
    /// Metrics of which it was said that two differ.
    told: BTreeSet<String>,
    told_of_room: bool,
}

impl Kept {
    pub(super) fn has(&self, definition: &Definition) -> Option<bool> {
        let known = self.families.get(&definition.name)?;
        Some(known.definition.adds_up_with(definition))
    }

    /// Sums up what is kept and what those count that live.
    pub(super) fn look(&self, living: &[Arc<Process>]) -> Look {
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
    pub(super) fn replace(&mut self, look: &Look) -> bool {
        let outdated = |name: &&String| !look.in_use.contains(*name);
        let names: Vec<&String> = look.others.keys().filter(outdated).collect();
        for name in &names {
            tracing::info!("metric `{name}` is another one from now on, and begins anew");
            self.told.remove(*name);
            self.forget(name);
        }
        !names.is_empty()
    }

    pub(super) fn tell_of(&mut self, look: &Look) {
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

    pub(super) fn tell_of_room(&mut self) {
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
    pub(super) fn fold(&mut self, pool: &Arc<str>, contents: Contents) {
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
pub(super) struct Look {
    pub families: BTreeMap<String, Family>,
    pub dropped: BTreeMap<Arc<str>, u64>,
    /// Series in them.
    count: usize,
    pub is_full: bool,
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
    pub(super) fn note_definitions(&mut self, contents: &Contents) {
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

//! What the app's code counts, as R counts it: on R's main thread, like all that it calls.

use std::cell::RefCell;
use std::path::PathBuf;

use extendr_api::prelude::*;
use faucet_core::app_metrics::{labels, Change, Definition, Invalid, Kind, Recorder, Unrecorded};
use nix::unistd::{getpid, Pid};

use crate::answer::{bad, failure, good, text};

/// What is counted, and by which process: one that R forks has a copy of it, and begins anew.
struct Own {
    process: Pid,
    recorder: Recorder,
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Recorder) -> T) -> T {
    OWN.with(|own| {
        let mut own = own.borrow_mut();
        let process = getpid();
        let own = own.get_or_insert_with(|| Own {
            process,
            recorder: Recorder::default(),
        });
        if own.process != process {
            own.process = process;
            // The file is that of the process that it was forked from.
            own.recorder.begin(None);
        }
        f(&mut own.recorder)
    })
}

/// This process is a worker, which counts in a file for its front if it has a `path`.
pub fn begin(path: Option<PathBuf>) {
    with(|recorder| recorder.begin(path));
}

/// As the argument is not what it may be; its name is an attribute.
fn invalid(invalid: &Invalid) -> List {
    let Invalid { argument, message } = invalid;
    let mut told = bad(&failure("option", message.clone()));
    let _ = told.set_attrib("argument", *argument);
    told
}

/// Makes a metric known.
/// @param kind "counter", "gauge" or "histogram".
/// @param buckets Upper bounds of a histogram's buckets; else none.
/// @return `ok`, and its `name` as it is known. If one of that name is another, that one's `kind`.
/// @noRd
#[extendr]
fn metric_define(kind: &str, name: &str, help: &str, buckets: Doubles) -> List {
    let bounds = buckets.iter().map(|bound| bound.0).collect();
    let Some(kind) = Kind::named(kind) else {
        return bad(&failure("internal", "There is no such kind of metric."));
    };
    let definition = match Definition::new(kind, name, help, bounds) {
        Ok(definition) => definition,
        Err(error) => return invalid(&error),
    };
    let name = definition.name.clone();
    match with(|recorder| recorder.define(definition)) {
        Ok(()) => good([("name", name.into())]),
        Err(known) => List::from_pairs([
            ("ok", Robj::from(false)),
            ("class", "metric".into()),
            ("kind", known.kind.name().into()),
        ]),
    }
}

/// Counts.
/// @param how "add", "set" or "observe".
/// @param names,values The labels.
/// @return `NULL`, or what went wrong; with `ok` a `note` for the user; without a `message`, the metric is not known.
/// @noRd
#[extendr]
fn metric_change(name: &str, how: &str, number: f64, names: Strings, values: Strings) -> Robj {
    let change = match how {
        "add" => Change::Add(number),
        "set" => Change::Set(number),
        _ => Change::Observe(number),
    };
    let pairs = names.iter().zip(values.iter());
    let labels = match labels(pairs.map(|(name, value)| (&**name, &**value))) {
        Ok(labels) => labels,
        Err(error) => return invalid(&error).into(),
    };
    let (changed, note) = with(|recorder| {
        let changed = recorder.change(name, labels, change);
        (changed, recorder.take_note())
    });
    match (changed, note) {
        (Ok(()), None) => r!(NULL),
        (Ok(()), Some(note)) => good([("note", text(&note))]).into(),
        (Err(Unrecorded::Invalid(error)), _) => invalid(&error).into(),
        (Err(Unrecorded::Unknown), _) => List::from_pairs([("ok", Robj::from(false))]).into(),
    }
}

/// What this process has counted.
/// @return A list with a list for each series: `labels`, a named character vector, and `numbers`.
/// @noRd
#[extendr]
fn metric_series(name: &str) -> List {
    // Made out here, as R may run out of memory, which must not leave what is shared locked.
    let series: Vec<_> = with(|recorder| {
        let metric = recorder.metric(name);
        let series = metric.map(|(_, series)| series).unwrap_or_default();
        let own = series.into_iter();
        own.map(|(labels, numbers)| (labels.clone(), numbers.to_vec()))
            .collect()
    });
    let lists = series.into_iter().map(|(labels, numbers)| {
        let mut values: Robj = labels
            .iter()
            .map(|(_, value)| value.as_str())
            .collect_robj();
        // Of the same length, so that it cannot fail.
        let _ = values.set_names(labels.iter().map(|(name, _)| name.as_str()));
        List::from_pairs([("labels", values), ("numbers", numbers.into())])
    });
    List::from_values(lists)
}

extendr_module! {
    mod metric;
    fn metric_define;
    fn metric_change;
    fn metric_series;
}

//! The side of the process that counts: in memory, and in its file if it has one.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::definition::{Definition, Invalid, Kind};
use super::labels::Labels;
use super::layout::{record, Head, BEFORE_NUMBERS, DROPPED_AT, END_AT, HEAD};
use super::MOST_SERIES;
use crate::environment::SystemError;

/// What happens to a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Add(f64),
    Set(f64),
    Observe(f64),
}

/// Why something was not counted.
#[derive(Debug, thiserror::Error)]
pub enum Unrecorded {
    #[error("no metric has this name")]
    Unknown,
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

struct Series {
    numbers: Vec<f64>,
    /// Where these are in the file.
    place: Option<u64>,
}

/// A series' labels and numbers.
pub type Counts<'a> = (&'a Labels, &'a [f64]);

/// What one process counts.
#[derive(Default)]
pub struct Recorder {
    definitions: BTreeMap<String, Definition>,
    series: HashMap<(String, Labels), Series>,
    /// Where the file is to be that is not made yet.
    path: Option<PathBuf>,
    file: Option<Writer>,
    dropped: u64,
    /// What the user should hear, and whether something was told before: it would be told again and again.
    note: Option<String>,
    noted: bool,
}

impl Recorder {
    /// The process is another one, as after a fork: it has counted nothing. The metrics stay. `path` is where its file is to be
    /// from its first series on, if it is to have one.
    pub fn begin(&mut self, path: Option<PathBuf>) {
        *self = Self {
            definitions: std::mem::take(&mut self.definitions),
            path,
            ..Self::default()
        };
    }

    /// Adds a metric, unless there is one of the same name.
    ///
    /// # Errors
    /// That one is another. Returned is what it is.
    pub fn define(&mut self, definition: Definition) -> Result<(), Definition> {
        let known = self
            .definitions
            .entry(definition.name.clone())
            .or_insert_with(|| definition.clone());
        match known.adds_up_with(&definition) {
            true => Ok(()),
            false => Err(known.clone()),
        }
    }

    /// Counts. What finds no room is dropped, and that is counted.
    ///
    /// # Errors
    /// There is no such metric, or it does not count so.
    pub fn change(&mut self, name: &str, labels: Labels, change: Change) -> Result<(), Unrecorded> {
        let definition = self.definitions.get(name).ok_or(Unrecorded::Unknown)?;
        check(definition.kind, change)?;
        let key = (name.to_owned(), labels);
        if !self.series.contains_key(&key) {
            if self.series.len() >= MOST_SERIES {
                self.drop_one();
                return Ok(());
            }
            let series = Series {
                numbers: vec![0.0; definition.numbers()],
                place: None,
            };
            self.series.insert(key.clone(), series);
        }
        let Some(series) = self.series.get_mut(&key) else {
            return Ok(());
        };
        apply(&mut series.numbers, &definition.bounds, change);
        if let Some(path) = self.path.take() {
            match Writer::create(&path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    let error = SystemError(&error);
                    self.note(&format!(
                        "Metrics are not shown: their file cannot be made: {error}"
                    ));
                    return Ok(());
                }
            }
        }
        if let Some(file) = &mut self.file {
            let written = match series.place {
                Some(place) => file.put(place, &series.numbers),
                // Tried again each time: the disk may be full for a while only.
                None => file.add(definition, &key.1, &series.numbers).map(|place| {
                    series.place = Some(place);
                }),
            };
            if let Err(error) = written {
                let error = SystemError(&error);
                self.note(&format!("A metric cannot be written to its file: {error}"));
            }
        }
        Ok(())
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        if let Some(file) = &self.file {
            // It is not worse than not to have counted it.
            let _ = file.put_dropped(self.dropped);
        }
        self.note(&format!(
            "This process has {MOST_SERIES} series of metrics, and counts no further ones. Is a label different for each request?"
        ));
    }

    fn note(&mut self, text: &str) {
        if !std::mem::replace(&mut self.noted, true) {
            self.note = Some(text.to_owned());
        }
    }

    /// What the user should hear, once.
    pub fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// A metric and its series, in the order of their labels.
    pub fn metric(&self, name: &str) -> Option<(&Definition, Vec<Counts<'_>>)> {
        let definition = self.definitions.get(name)?;
        let own = self.series.iter().filter(|((known, _), _)| known == name);
        let mut series: Vec<_> = own
            .map(|((_, labels), series)| (labels, series.numbers.as_slice()))
            .collect();
        series.sort_unstable_by_key(|(labels, _)| *labels);
        Some((definition, series))
    }
}

fn check(kind: Kind, change: Change) -> Result<(), Invalid> {
    let (number, fits) = match change {
        Change::Add(number) => (number, kind != Kind::Histogram),
        Change::Set(number) => (number, kind == Kind::Gauge),
        Change::Observe(number) => (number, kind == Kind::Histogram),
    };
    if !fits {
        let message = format!("does not fit a {}", kind.name());
        return Err(Invalid::new("value", message));
    }
    if !number.is_finite() {
        return Err(Invalid::new("value", "must be a finite number"));
    }
    if kind == Kind::Counter && number < 0.0 {
        return Err(Invalid::new(
            "value",
            "must not be negative: a counter only goes up",
        ));
    }
    Ok(())
}

/// What is not finite any more stays as it was: nobody would take it.
fn apply(numbers: &mut [f64], bounds: &[f64], change: Change) {
    let mut add = |at: usize, number: f64| {
        if let Some(place) = numbers.get_mut(at) {
            let sum = *place + number;
            if sum.is_finite() {
                *place = sum;
            }
        }
    };
    match change {
        Change::Add(number) => add(0, number),
        Change::Set(number) => numbers.iter_mut().for_each(|place| *place = number),
        Change::Observe(number) => {
            add(bounds.partition_point(|bound| *bound < number), 1.0);
            add(bounds.len() + 1, number);
        }
    }
}

/// The file of one process.
struct Writer {
    file: File,
    end: usize,
}

impl Writer {
    /// Nobody else has made it.
    fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let head = Head {
            end: HEAD,
            dropped: 0,
        };
        file.write_all_at(&head.write(), 0)?;
        Ok(Self { file, end: HEAD })
    }

    /// Adds a series. Returned is where its numbers are.
    fn add(
        &mut self,
        definition: &Definition,
        labels: &Labels,
        numbers: &[f64],
    ) -> io::Result<u64> {
        let bytes = record(definition, labels, numbers);
        let (start, end) = (self.end, self.end + bytes.len());
        self.file.write_all_at(&bytes, start as u64)?;
        // Only now does anybody look there.
        self.file
            .write_all_at(&(end as u64).to_ne_bytes(), END_AT)?;
        self.end = end;
        Ok((start + BEFORE_NUMBERS) as u64)
    }

    fn put(&self, place: u64, numbers: &[f64]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        self.file.write_all_at(&bytes, place)
    }

    fn put_dropped(&self, count: u64) -> io::Result<()> {
        self.file.write_all_at(&count.to_ne_bytes(), DROPPED_AT)
    }
}

//! The file in which a process counts: fixed places for numbers, behind each other.
//!
//! ```text
//! head     MARK, end of the last complete record, updates that were dropped, 0: 8 bytes each
//! record   length, name's length, help's length: 4 bytes each; kind, buckets, labels, 0: 1 byte each
//!          the series' numbers, the buckets' bounds: 8 bytes each
//!          name, help; of each label its lengths (2 bytes each), name and value; up to the next multiple of 8
//! ```
//!
//! All numbers have the machine's own order: writer and reader run on one. A record is complete before the head tells of it,
//! and from then on only its numbers change. All of a series' numbers are written at once; one of them is never half written, as
//! it is aligned, and those of a histogram count each bucket for itself, so that they make a valid one at any moment.

use super::definition::{Definition, Kind};
use super::labels::{labels, Labels};
use super::{
    LONGEST_HELP, LONGEST_LABEL_NAME, LONGEST_LABEL_VALUE, LONGEST_NAME, MOST_BUCKETS, MOST_LABELS,
    MOST_SERIES,
};

/// Which layout it is, in a file of ours.
const MARK: u64 = u64::from_ne_bytes(*b"faucetm1");

pub(super) const HEAD: usize = 32;
/// Where the head tells of the end, and of what was dropped.
pub(super) const END_AT: u64 = 8;
pub(super) const DROPPED_AT: u64 = 16;

/// Of a record before its numbers.
pub(super) const BEFORE_NUMBERS: usize = 16;

/// Of the largest file that can come about.
pub(super) const MOST_BYTES: usize = HEAD
    + MOST_SERIES
        * (BEFORE_NUMBERS
            + 8 * (2 * MOST_BUCKETS + 3)
            + LONGEST_NAME
            + LONGEST_HELP
            + MOST_LABELS * (4 + LONGEST_LABEL_NAME + LONGEST_LABEL_VALUE));

/// One series, as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub definition: Definition,
    pub labels: Labels,
    pub numbers: Vec<f64>,
}

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub end: usize,
    pub dropped: u64,
}

impl Head {
    pub(super) fn write(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MARK.to_ne_bytes());
        bytes[8..16].copy_from_slice(&(self.end as u64).to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.dropped.to_ne_bytes());
        bytes
    }

    /// `None` if it is no file of ours, or cannot be one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take_u64(&mut rest)? != MARK {
            return None;
        }
        let end = usize::try_from(take_u64(&mut rest)?).ok()?;
        let dropped = take_u64(&mut rest)?;
        (HEAD..=MOST_BYTES)
            .contains(&end)
            .then_some(Self { end, dropped })
    }
}

/// A complete record.
pub(super) fn record(definition: &Definition, labels: &Labels, numbers: &[f64]) -> Vec<u8> {
    let mut bytes = vec![0; BEFORE_NUMBERS];
    for number in numbers.iter().chain(&definition.bounds) {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend(definition.name.bytes());
    bytes.extend(definition.help.bytes());
    for (name, value) in labels {
        bytes.extend((name.len() as u16).to_ne_bytes());
        bytes.extend((value.len() as u16).to_ne_bytes());
        bytes.extend(name.bytes());
        bytes.extend(value.bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let lengths = [bytes.len(), definition.name.len(), definition.help.len()];
    for (place, length) in bytes.chunks_exact_mut(4).zip(lengths) {
        place.copy_from_slice(&(length as u32).to_ne_bytes());
    }
    bytes[12] = definition.kind.code();
    bytes[13] = definition.bounds.len() as u8;
    bytes[14] = labels.len() as u8;
    bytes
}

/// All series of the bytes behind the head, as far as they are sound: what follows a record that is none cannot be found, and
/// one that makes no sense is left out.
pub(super) fn series(mut bytes: &[u8]) -> Vec<Series> {
    let mut all = Vec::new();
    while all.len() < MOST_SERIES {
        let length = bytes.get(..4).and_then(|mut start| take_u32(&mut start));
        let Some(length) = length.filter(|length| *length >= BEFORE_NUMBERS) else {
            break;
        };
        let Some(record) = bytes.get(..length) else {
            break;
        };
        all.extend(read_record(record));
        bytes = &bytes[length..];
    }
    all
}

fn read_record(record: &[u8]) -> Option<Series> {
    let mut rest = record.get(4..)?;
    let name_length = take_u32(&mut rest)?;
    let help_length = take_u32(&mut rest)?;
    let sizes = take(&mut rest, 4)?;
    let kind = Kind::of_code(sizes[0])?;
    let (buckets, label_count) = (usize::from(sizes[1]), usize::from(sizes[2]));
    let count = match kind {
        Kind::Counter | Kind::Gauge => 1,
        Kind::Histogram => buckets + 2,
    };
    let numbers = take_numbers(&mut rest, count)?;
    let bounds = take_numbers(&mut rest, buckets)?;
    let name = take_text(&mut rest, name_length)?;
    let help = take_text(&mut rest, help_length)?;
    let definition = Definition::new(kind, name, help, bounds).ok()?;
    let mut pairs = Vec::new();
    for _ in 0..label_count {
        let name_length = take_u16(&mut rest)?;
        let value_length = take_u16(&mut rest)?;
        let name = take_text(&mut rest, name_length)?;
        pairs.push((name, take_text(&mut rest, value_length)?));
    }
    let labels = labels(pairs).ok()?;
    let is_sound = |number: &f64| number.is_finite() && (*number >= 0.0 || kind == Kind::Gauge);
    // A histogram's sum may be less than nothing.
    let (counts, sum) = match kind {
        Kind::Histogram => numbers.split_at(buckets + 1),
        _ => (&numbers[..], &[][..]),
    };
    let sound = counts.iter().all(is_sound) && sum.iter().all(|sum| sum.is_finite());
    sound.then_some(Series {
        definition,
        labels,
        numbers,
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(..length)?;
    *bytes = &bytes[length..];
    Some(taken)
}

fn take_text<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a str> {
    std::str::from_utf8(take(bytes, length)?).ok()
}

fn take_u16(bytes: &mut &[u8]) -> Option<usize> {
    let taken = take(bytes, 2)?.try_into().ok()?;
    Some(usize::from(u16::from_ne_bytes(taken)))
}

fn take_u32(bytes: &mut &[u8]) -> Option<usize> {
    let taken = take(bytes, 4)?.try_into().ok()?;
    usize::try_from(u32::from_ne_bytes(taken)).ok()
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(take(bytes, 8)?.try_into().ok()?))
}

fn take_numbers(bytes: &mut &[u8], count: usize) -> Option<Vec<f64>> {
    let taken = take(bytes, 8 * count)?.chunks_exact(8);
    let numbers = taken.filter_map(|number| Some(f64::from_ne_bytes(number.try_into().ok()?)));
    Some(numbers.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Vec<Series> {
        let new = |kind, bounds: &[f64]| {
            Definition::new(kind, "a", "Help.", bounds.to_vec()).expect("one")
        };
        let pairs = [("b", "größe \"\n\\"), ("a", "1")];
        vec![
            Series {
                definition: new(Kind::Counter, &[]),
                labels: labels(pairs).expect("labels"),
                numbers: vec![1.5],
            },
            Series {
                definition: new(Kind::Gauge, &[]),
                labels: Labels::new(),
                numbers: vec![-3.0],
            },
            Series {
                definition: new(Kind::Histogram, &[0.1, 2.0]),
                labels: Labels::new(),
                numbers: vec![1.0, 0.0, 4.0, -7.25],
            },
        ]
    }

    fn bytes_of(all: &[Series]) -> Vec<u8> {
        all.iter()
            .flat_map(|series| record(&series.definition, &series.labels, &series.numbers))
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let all = some();
        let bytes = bytes_of(&all);
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(series(&bytes), all);
        let head = Head {
            end: HEAD + bytes.len(),
            dropped: 7,
        };
        assert_eq!(Head::read(&head.write()), Some(head));
        // The largest series fits.
        let bounds: Vec<f64> = (0..MOST_BUCKETS).map(|bound| bound as f64).collect();
        let (name, help) = ("a".repeat(LONGEST_NAME), "h".repeat(LONGEST_HELP));
        let definition = Definition::new(Kind::Histogram, &name, &help, bounds).expect("one");
        let value = "v".repeat(LONGEST_LABEL_VALUE);
        let names: Vec<String> = (0..MOST_LABELS).map(|n| format!("{n:a>64}")).collect();
        let many =
            labels(names.iter().map(|name| (name.as_str(), value.as_str()))).expect("labels");
        let largest = record(&definition, &many, &vec![0.0; definition.numbers()]);
        assert!(HEAD + MOST_SERIES * largest.len() <= MOST_BYTES);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let all = some();
        for (broken, number) in [
            (0, -1.0),
            (0, f64::NAN),
            (1, f64::INFINITY),
            (2, f64::NEG_INFINITY),
        ] {
            let mut wrong = all.clone();
            wrong[broken].numbers[0] = number;
            let mut rest = all.clone();
            rest.remove(broken);
            assert_eq!(series(&bytes_of(&wrong)), rest);
        }
        let mut wrong = all.clone();
        wrong[1].definition.name = "faucet_requests".into();
        assert_eq!(series(&bytes_of(&wrong)).len(), 2);
        assert_eq!(Head::read(&[0; HEAD]), None);
        assert_eq!(Head::read(b"faucet"), None);
        let end = MOST_BYTES + 1;
        assert_eq!(Head::read(&Head { end, dropped: 0 }.write()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(
            junk in proptest::collection::vec(any::<u8>(), 0..300), at in any::<proptest::sample::Index>(),
            cut in any::<proptest::sample::Index>()
        ) {
            let _ = (series(&junk), Head::read(&junk));
            let mut bytes = bytes_of(&some());
            let start = at.index(bytes.len());
            for (place, byte) in bytes[start..].iter_mut().zip(&junk) {
                *place = *byte;
            }
            bytes.truncate(cut.index(bytes.len()));
            for series in series(&bytes) {
                prop_assert_eq!(series.numbers.len(), series.definition.numbers());
            }
        }
    }
}

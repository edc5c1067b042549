//! What apps count as OpenMetrics text, which nothing that a process has written can break.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::sync::Arc;

use super::definition::{Definition, Kind};
use super::labels::Labels;

/// All series of one metric, by pool and labels.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub definition: Definition,
    pub series: BTreeMap<(Arc<str>, Labels), Vec<f64>>,
}

/// Text of metrics with others in it, before its end.
pub fn insert(mut text: String, others: &str) -> String {
    const END: &str = "# EOF\n";
    let at = text.strip_suffix(END).map_or(text.len(), str::len);
    text.insert_str(at, others);
    text
}

/// Text of at most so many bytes, and whether all is in it.
pub(super) fn render<'a>(
    families: impl IntoIterator<Item = &'a Family>,
    dropped: &BTreeMap<Arc<str>, u64>,
    most: usize,
) -> (String, bool) {
    let mut text = String::new();
    let mut whole = true;
    for family in families {
        // Writing to a String cannot fail.
        whole &= write_family(&mut text, family, most).unwrap_or(false);
    }
    if !dropped.is_empty() {
        let _ = write_dropped(&mut text, dropped);
    }
    (text, whole)
}

fn write_dropped(text: &mut String, dropped: &BTreeMap<Arc<str>, u64>) -> fmt::Result {
    let name = "faucet_metric_updates_dropped";
    writeln!(
        text,
        "# HELP {name} Updates of the app's own metrics for which a process had no room."
    )?;
    writeln!(text, "# TYPE {name} counter")?;
    for (pool, count) in dropped {
        writeln!(text, "{name}_total{{pool=\"{}\"}} {count}", Escaped(pool))?;
    }
    Ok(())
}

/// Whether all of it had room.
fn write_family(text: &mut String, family: &Family, most: usize) -> Result<bool, fmt::Error> {
    if text.len() >= most {
        return Ok(false);
    }
    let Definition {
        kind,
        name,
        help,
        bounds,
    } = &family.definition;
    if !help.is_empty() {
        writeln!(text, "# HELP {name} {}", Escaped(help))?;
    }
    writeln!(text, "# TYPE {name} {}", kind.name())?;
    for ((pool, labels), numbers) in &family.series {
        // A series is there as a whole, or not at all.
        if text.len() >= most {
            return Ok(false);
        }
        let own = OfSeries { pool, labels };
        match (kind, numbers.as_slice()) {
            (Kind::Counter, [number]) => {
                writeln!(text, "{name}_total{{{own}}} {}", Number(*number))?
            }
            (Kind::Gauge, [number]) => writeln!(text, "{name}{{{own}}} {}", Number(*number))?,
            (Kind::Histogram, [counts @ .., sum]) => {
                let mut count = 0.0;
                let all = bounds.iter().copied().chain([f64::INFINITY]);
                for (bound, own_count) in all.zip(counts) {
                    count += own_count;
                    let le = Bound(bound);
                    writeln!(text, "{name}_bucket{{{own},le=\"{le}\"}} {}", Number(count))?;
                }
                // A sum that may go down is none in OpenMetrics, and then there is no count either.
                if *sum >= 0.0 && bounds.first().is_some_and(|first| *first >= 0.0) {
                    writeln!(text, "{name}_sum{{{own}}} {}", Number(*sum))?;
                    writeln!(text, "{name}_count{{{own}}} {}", Number(count))?;
                }
            }
            // Of another length: there are none.
            _ => {}
        }
    }
    Ok(true)
}

struct OfSeries<'a> {
    pool: &'a str,
    labels: &'a Labels,
}

impl Display for OfSeries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool=\"{}\"", Escaped(self.pool))?;
        for (name, value) in self.labels {
            write!(f, ",{name}=\"{}\"", Escaped(value))?;
        }
        Ok(())
    }
}

/// The format has an escape for these three and no others.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number if number == f64::INFINITY => f.write_str("+Inf"),
            number if number == f64::NEG_INFINITY => f.write_str("-Inf"),
            // As few digits as tell it from others.
            number if (1e-5..1e17).contains(&number.abs()) || number == 0.0 => {
                Display::fmt(&number, f)
            }
            number => fmt::LowerExp::fmt(&number, f),
        }
    }
}

/// A whole number has its `.0` here.
struct Bound(f64);

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number if number.is_finite() => write!(f, "{number:?}"),
            number => Number(number).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: Kind, bounds: &[f64], numbers: &[f64]) -> Family {
        let definition =
            Definition::new(kind, "a", "Say \"a\\b\"\nand c.", bounds.to_vec()).expect("one");
        let labels = vec![("l".to_owned(), "x\"\\\nä".to_owned())];
        Family {
            definition,
            series: BTreeMap::from([(("/".into(), labels), numbers.to_vec())]),
        }
    }

    fn samples(family: &Family) -> Vec<String> {
        let text = render([family], &BTreeMap::new(), 1 << 20).0;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn labels_and_help_are_escaped() {
        let dropped = BTreeMap::from([("/".into(), 3)]);
        let (text, whole) = render(&[family(Kind::Counter, &[], &[2.5])], &dropped, 1 << 20);
        assert!(whole);
        assert_eq!(
            text,
            "# HELP a Say \\\"a\\\\b\\\"\\nand c.\n# TYPE a counter\n\
            a_total{pool=\"/\",l=\"x\\\"\\\\\\nä\"} 2.5\n\
            # HELP faucet_metric_updates_dropped Updates of the app's own metrics for which a process had no room.\n\
            # TYPE faucet_metric_updates_dropped counter\n\
            faucet_metric_updates_dropped_total{pool=\"/\"} 3\n"
        );
        assert_eq!(
            insert("# TYPE b gauge\n# EOF\n".into(), "x 1\n"),
            "# TYPE b gauge\nx 1\n# EOF\n"
        );
    }

    #[test]
    fn buckets_never_decrease() {
        let label = "pool=\"/\",l=\"x\\\"\\\\\\nä\"";
        let expected = [
            format!("a_bucket{{{label},le=\"0.1\"}} 1"),
            format!("a_bucket{{{label},le=\"2.0\"}} 1"),
            format!("a_bucket{{{label},le=\"+Inf\"}} 4"),
            format!("a_sum{{{label}}} 7.25"),
            format!("a_count{{{label}}} 4"),
        ];
        assert_eq!(
            samples(&family(
                Kind::Histogram,
                &[0.1, 2.0],
                &[1.0, 0.0, 3.0, 7.25]
            )),
            expected
        );
        // Without a sum that may go down.
        assert_eq!(
            samples(&family(
                Kind::Histogram,
                &[0.1, 2.0],
                &[1.0, 0.0, 3.0, -7.25]
            )),
            expected[..3]
        );
        assert_eq!(
            samples(&family(
                Kind::Histogram,
                &[-0.1, 2.0],
                &[1.0, 0.0, 3.0, 7.25]
            ))
            .len(),
            3
        );
    }

    #[test]
    fn numbers_are_short_and_exact() {
        for (number, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (-2.5, "-2.5"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e300, "1e300"),
            (-1.5e-9, "-1.5e-9"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(Number(number).to_string(), text);
        }
        assert_eq!(Bound(10.0).to_string(), "10.0");
    }
}

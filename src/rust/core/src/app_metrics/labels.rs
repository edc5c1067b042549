//! What tells the series of a metric apart.

use super::definition::{is_name, Invalid};
use super::{LONGEST_LABEL_NAME, LONGEST_LABEL_VALUE, MOST_LABELS};
use crate::ops::printable;

/// Names and values, sorted by name.
pub type Labels = Vec<(String, String)>;

/// Those that Prometheus or faucet gives to each series.
const TAKEN: [&str; 3] = ["le", "pool", "quantile"];

/// Labels of names and values in any order. A value that is empty is as good as none; a long one is cut, as it may come from
/// a client; and what a terminal would obey is left out.
///
/// # Errors
/// A name is none, is taken or comes twice, or there are too many.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Labels, Invalid> {
    let mut labels = Labels::new();
    for (name, value) in pairs {
        let wrong = |why: &str| Err(Invalid::new("labels", format!("`{name}` {why}")));
        if !is_name(name) || name.starts_with("__") || name.len() > LONGEST_LABEL_NAME {
            return wrong(
                "is no name of a label: those consist of letters (a-z, A-Z), digits and `_`",
            );
        }
        if TAKEN.contains(&name) {
            return wrong("is no name of a label: it is taken");
        }
        if labels.iter().any(|(known, _)| known == name) {
            return wrong("was given more than once");
        }
        labels.push((name.to_owned(), fitting(value)));
    }
    labels.retain(|(_, value)| !value.is_empty());
    if labels.len() > MOST_LABELS {
        let message = format!("A series has at most {MOST_LABELS} labels");
        return Err(Invalid::new("labels", message));
    }
    labels.sort_unstable();
    Ok(labels)
}

fn fitting(value: &str) -> String {
    let shown = printable::text(value);
    let mut end = shown.len().min(LONGEST_LABEL_VALUE);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    shown[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_an_order_and_bounds() {
        let long = "ä".repeat(LONGEST_LABEL_VALUE);
        let some = labels([("b", long.as_str()), ("a", "x\"\n\u{1b}[31m\r"), ("c", "")]);
        let some = some.expect("labels");
        assert_eq!(some[0], ("a".into(), "x\"\n\\r".into()));
        assert_eq!(some[1].1, "ä".repeat(LONGEST_LABEL_VALUE / 2));
        assert_eq!(some.len(), 2);
        for name in ["", "le", "pool", "__x", "a b", "a-b", "1"] {
            assert!(labels([(name, "x")]).is_err(), "{name}");
        }
        assert!(labels([("a", "x"), ("a", "y")]).is_err());
        let names: Vec<String> = (0..=MOST_LABELS).map(|n| format!("l{n}")).collect();
        assert!(labels(names.iter().map(|name| (name.as_str(), "x"))).is_err());
    }
}

//! Media types of a call: what its input is said to be, and which of those that its answer can have is liked best.

/// A request's `Content-Type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// In small letters, without parameters.
    pub kind: String,
    /// As it is written, if it is.
    pub charset: Option<String>,
}

impl Media {
    pub fn parse(text: &str) -> Self {
        let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
        // The last of several counts.
        let mut charsets = parameters.rsplit(';').filter_map(charset_of);
        Self {
            kind: kind.trim().to_ascii_lowercase(),
            charset: charsets.next().map(str::to_owned),
        }
    }
}

/// Of a parameter like `charset="utf-8"`.
fn charset_of(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("charset") {
        return None;
    }
    let value = value.trim();
    let value = value.strip_prefix('"').unwrap_or(value);
    let value = value.strip_suffix('"').unwrap_or(value);
    let odd = |character: char| character == '"' || character.is_whitespace();
    (!value.is_empty() && !value.contains(odd)).then_some(value)
}

/// Which of these types whoever says `accept` likes best (RFC 9110, 12.5.1), and of those it likes as much, the first; `None`
/// if it takes none of them.
pub fn negotiate(accept: &str, offered: &[&str]) -> Option<usize> {
    let ranges: Vec<(&str, f64)> = accept.split(',').map(range).collect();
    let mut best: Option<(usize, f64)> = None;
    for (at, kind) in offered.iter().enumerate() {
        let liked = liking(&ranges, kind);
        if liked > best.map_or(0.0, |(_, most)| most) {
            best = Some((at, liked));
        }
    }
    best.map(|(at, _)| at)
}

/// A range and its weight, which is 0 if it cannot be read.
fn range(text: &str) -> (&str, f64) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.rev().find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_weight = name.trim_end().eq_ignore_ascii_case("q");
        is_weight.then(|| weight(value.trim_start()))
    });
    (name, weight.unwrap_or(1.0))
}

fn weight(text: &str) -> f64 {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    text[..end.unwrap_or(text.len())].parse().unwrap_or(0.0)
}

/// The range that says most of a type counts.
fn liking(ranges: &[(&str, f64)], kind: &str) -> f64 {
    let any = kind.split_once('/').map_or(kind, |(family, _)| family);
    let exact = |range: &str| range.eq_ignore_ascii_case(kind);
    let family = |range: &str| {
        let named = range.strip_suffix("/*");
        named.is_some_and(|named| named.eq_ignore_ascii_case(any))
    };
    let all = |range: &str| range == "*/*";
    let found = |is: &dyn Fn(&str) -> bool| ranges.iter().find(|(range, _)| is(range));
    let found = found(&exact).or_else(|| found(&family));
    let found = found.or_else(|| ranges.iter().find(|(range, _)| all(range)));
    found.map_or(0.0, |(_, weight)| *weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: [&str; 3] = ["text/plain", "application/json", "application/rds"];

    #[test]
    fn what_is_liked_best() {
        for (accept, best) in [
            ("*/*", Some("text/plain")),
            ("application/json", Some("application/json")),
            ("Application/JSON", Some("application/json")),
            ("application/json, */*;q=0.5", Some("application/json")),
            ("application/*, text/plain;q=0.9", Some("application/json")),
            (
                "application/*;q=0.5,application/rds",
                Some("application/rds"),
            ),
            ("text/plain;q=0, */*", Some("application/json")),
            ("text/*;q=0.2 , */*;q=0.1", Some("text/plain")),
            (
                "text/html, application/json ; Q = 0.8",
                Some("application/json"),
            ),
            ("text/plain;level=1;q=0.3, */*", Some("application/json")),
            // Weights that are none.
            ("text/plain;q=, */*;q=0.1", Some("application/json")),
            ("text/plain;q=a, */*;q=0.1", Some("application/json")),
            ("text/plain;q=1.0.0", None),
            ("text/plain;q=-1", None),
            ("image/png", None),
            ("*/*;q=0", None),
            ("", None),
            (",;,", None),
        ] {
            let found = negotiate(accept, &OFFERED).map(|at| OFFERED[at]);
            assert_eq!(found, best, "{accept}");
        }
        assert_eq!(negotiate("*/*", &[]), None);
    }

    #[test]
    fn what_an_input_is() {
        for (text, kind, charset) in [
            ("application/json", "application/json", None),
            (" Text/Plain ", "text/plain", None),
            ("text/csv;charset=utf-8", "text/csv", Some("utf-8")),
            (
                "text/csv; header=present; Charset = \"Latin1\"",
                "text/csv",
                Some("Latin1"),
            ),
            ("text/plain;charset=a;charset=b", "text/plain", Some("b")),
            ("text/plain;charset=", "text/plain", None),
            ("text/plain;charset=\"a b\"", "text/plain", None),
            ("text/plain;charset=a;", "text/plain", Some("a")),
            ("charset=a", "charset=a", None),
            ("", "", None),
        ] {
            let media = Media::parse(text);
            let found = (&*media.kind, media.charset.as_deref());
            assert_eq!(found, (kind, charset), "{text}");
        }
    }
}

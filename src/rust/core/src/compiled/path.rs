//! Paths of endpoints, as plumber makes regular expressions of them.

use regex_lite::Regex;

/// What an argument in a path is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Logical,
    Integer,
    Number,
    Text,
}

impl Kind {
    /// By the name of its type in OpenAPI.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "boolean" => Some(Self::Logical),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "string" => Some(Self::Text),
            _ => None,
        }
    }

    /// plumber's own expression for it, in a group.
    fn group(self) -> &'static str {
        match self {
            Self::Logical => "([01tfTF]|true|false|TRUE|FALSE)",
            Self::Integer => r"(-?\d+)",
            Self::Number => r"(-?\d*\.?\d+)",
            Self::Text => "([^/]+)",
        }
    }
}

/// Which paths an endpoint serves.
#[derive(Debug)]
pub enum Pattern {
    /// This one.
    Path(String),
    /// Those that match the expression and begin with the text: looking at that is quicker.
    Expression(String, Regex),
    /// plumber alone can say which, but none that begins otherwise.
    Unknown(String),
}

/// What a pattern says of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// With the values of its arguments.
    Yes(Vec<String>),
    No,
    Unknown,
}

impl Pattern {
    /// Reads an expression that plumber has made, `^...$`, of a path with arguments of these kinds.
    pub fn new(expression: &str, kinds: &[Kind]) -> Self {
        Self::known(expression, kinds).unwrap_or_else(|| Self::unknown(expression))
    }

    fn known(expression: &str, kinds: &[Kind]) -> Option<Self> {
        let mut rest = expression.strip_prefix('^')?.strip_suffix('$')?;
        let whole = rest;
        let mut prefix = None;
        // What is between the groups: text in which only a dot has a meaning.
        for kind in kinds {
            let (before, after) = rest.split_once(kind.group())?;
            prefix = prefix.or(Some(before));
            if !before.bytes().all(is_known) {
                return None;
            }
            rest = after;
        }
        if !rest.bytes().all(is_known) {
            return None;
        }
        let prefix = prefix.unwrap_or(whole);
        if kinds.is_empty() && !whole.contains('.') {
            return Some(Self::Path(whole.to_owned()));
        }
        let prefix = prefix.split('.').next().unwrap_or_default();
        // All that is in there is known, so that it means the same in both kinds of expressions.
        let regex = Regex::new(expression).ok()?;
        Some(Self::Expression(prefix.to_owned(), regex))
    }

    /// Up to the first sign with a meaning; what is before that may be meant, too, as in `a?`. Alternatives begin as they like.
    fn unknown(expression: &str) -> Self {
        let text = expression.strip_prefix('^').unwrap_or_default();
        let end = text.find(|c: char| !u8::try_from(c).is_ok_and(is_literal));
        let end = end.map_or(text.len(), |end| end.saturating_sub(1));
        let prefix = if expression.contains('|') {
            ""
        } else {
            &text[..end]
        };
        Self::Unknown(prefix.to_owned())
    }

    /// The path is ASCII.
    pub(super) fn matches(&self, path: &str) -> Match {
        match self {
            Self::Path(own) if own == path => Match::Yes(Vec::new()),
            Self::Path(_) => Match::No,
            Self::Expression(prefix, regex) if path.starts_with(prefix.as_str()) => {
                regex.captures(path).map_or(Match::No, |found| {
                    let values = found.iter().skip(1).flatten();
                    Match::Yes(values.map(|value| value.as_str().to_owned()).collect())
                })
            }
            Self::Unknown(prefix) if path.starts_with(prefix.as_str()) => Match::Unknown,
            Self::Expression(..) | Self::Unknown(_) => Match::No,
        }
    }
}

/// What stands for itself in every regular expression.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/_-~%,;=@!&:'".contains(&byte)
}

fn is_known(byte: u8) -> bool {
    byte == b'.' || is_literal(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pattern: &Pattern, path: &str) -> Option<Vec<String>> {
        match pattern.matches(path) {
            Match::Yes(values) => Some(values),
            Match::No | Match::Unknown => None,
        }
    }

    #[test]
    fn a_path_without_arguments_matches_itself() {
        let path = Pattern::new("^/a/b$", &[]);
        assert!(matches!(path, Pattern::Path(_)));
        assert_eq!(path.matches("/a/b"), Match::Yes(Vec::new()));
        assert_eq!(path.matches("/a/b/"), Match::No);
        assert_eq!(path.matches("/A/b"), Match::No);
    }

    #[test]
    fn a_dot_is_any_character() {
        let dotted = Pattern::new("^/plot.png$", &[]);
        assert!(values(&dotted, "/plot.png").is_some());
        assert!(values(&dotted, "/plot/png").is_some());
        assert!(values(&dotted, "/plotpng").is_none());
    }

    #[test]
    fn arguments_are_found_in_order() {
        let kinds = [Kind::Integer, Kind::Text];
        let pattern = Pattern::new(r"^/of/(-?\d+)/x/([^/]+).json$", &kinds);
        let found = values(&pattern, "/of/-7/x/a.b.json").expect("a match");
        assert_eq!(found, ["-7", "a.b"]);
        assert!(values(&pattern, "/of/a/x/b.json").is_none());
        assert!(values(&pattern, "/of/1/x/a/b.json").is_none());
        let number = Pattern::new(r"^/(-?\d*\.?\d+)$", &[Kind::Number]);
        assert_eq!(values(&number, "/-.5").expect("a match"), ["-.5"]);
        assert!(values(&number, "/5.").is_none());
        let logical = Pattern::new("^/([01tfTF]|true|false|TRUE|FALSE)/$", &[Kind::Logical]);
        assert_eq!(values(&logical, "/true/").expect("a match"), ["true"]);
        assert!(values(&logical, "/True/").is_none());
    }

    #[test]
    fn whatever_else_has_a_meaning_is_plumbers_own() {
        for (expression, kinds) in [
            ("^/a+$", &[][..]),
            ("^/a(b)$", &[]),
            (r"^/(?:(?:-?\d+),?)+$", &[Kind::Integer]),
            ("^/([^/]+)/(x)?$", &[Kind::Text]),
            ("^/a[bc]$", &[]),
            ("^/ä$", &[]),
        ] {
            let pattern = Pattern::new(expression, kinds);
            assert!(matches!(pattern, Pattern::Unknown(_)), "{expression}");
            assert!(values(&pattern, "/anything").is_none(), "{expression}");
        }
        let pattern = Pattern::new("^/over/ab?c$", &[]);
        assert_eq!(pattern.matches("/over/ac"), Match::Unknown);
        assert_eq!(pattern.matches("/ov"), Match::No);
        assert_eq!(pattern.matches("/under"), Match::No);
        assert_eq!(Pattern::new("^/a|/b$", &[]).matches("/b"), Match::Unknown);
    }
}

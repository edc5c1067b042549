//! The names of functions and secrets.

use std::fmt;
use std::sync::Arc;

/// So many bytes at most.
const LONGEST: usize = 64;

/// What a function or a secret goes by: in URLs, as the name of files, in logs and metrics. Letters, digits, `.`, `_` and `-`
/// (ASCII), the first of them a letter or a digit, 64 at most. So it is no path, no option of a program, and needs no escape
/// anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to {LONGEST} letters, digits, `.`, `_` and `-`, and begins with a letter or a digit"
)]
pub struct BadName;

impl Name {
    /// # Errors
    /// The text is no name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let mut bytes = text.bytes();
        let first = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        let others = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if first && others && text.len() <= LONGEST {
            Ok(Self(text.into()))
        } else {
            Err(BadName)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        let longest = "a".repeat(LONGEST);
        for name in ["a", "7", "to-upper", "to_upper", "v1.2", "A..b", &longest] {
            assert_eq!(Name::parse(name).expect(name).as_str(), name);
        }
        let too_long = "a".repeat(LONGEST + 1);
        for text in [
            "",
            ".",
            "..",
            ".hidden",
            "-k",
            "_a",
            "a/b",
            "../a",
            "a b",
            "a\n",
            "a\0",
            "a|b",
            "a%2f",
            "caf\u{e9}",
            "\u{661}",
            &too_long,
        ] {
            assert_eq!(Name::parse(text), Err(BadName), "{text:?}");
        }
    }
}

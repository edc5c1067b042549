//! The chain expression: functions composed like commands in a shell's pipe. It is read, never evaluated.
//!
//! ```text
//! sed(e = 's/hate/love/', n = 3) | to-upper
//! sed e=s/hate/love/ n=3 | to-upper
//! ```
//!
//! A stage is a function's name and its options, in one of two forms. In the first, options stand in brackets, with commas
//! between them; in the second, they follow the name after white space, without any around `=`. A value is quoted with `'` or
//! `"`, where a backslash escapes that quote and itself and stands for itself before anything else; or it is bare: up to white
//! space or `|`, in brackets also up to `,` or `)`. Quotes inside a bare value stand for themselves. All values are text,
//! `3` and `TRUE` as well: the signature of the function says what becomes of them. An option's name may be quoted, too.

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod parse;

use std::fmt;

use super::options::query_of;

/// So many bytes of text at most.
pub const LONGEST: usize = 64 * 1024;

/// So many stages at most.
pub const MOST_STAGES: usize = 64;

/// So many options of a stage at most.
pub const MOST_OPTIONS: usize = 100;

/// What a text without quotes is not shown with, besides white space.
const NOT_BARE: [char; 8] = ['|', ',', '(', ')', '=', '\'', '"', '\\'];

/// Functions, the first of which has the input. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub stages: Vec<Stage>,
}

/// A call of one function in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// A [`super::Name`], as it is written.
    pub function: String,
    /// Names and values, as they are written. A name may come more than once.
    pub options: Vec<(String, String)>,
    /// Where the function's name begins, in characters from 1.
    pub column: usize,
}

/// Why a text is no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
pub struct ChainError {
    /// A clause without a full stop.
    pub message: String,
    /// Where, in characters from 1. What is missing at the end is behind the last one.
    pub column: usize,
}

impl Chain {
    /// Reads a chain.
    ///
    /// # Errors
    /// It cannot be read, or is beyond [`LONGEST`], [`MOST_STAGES`] or [`MOST_OPTIONS`].
    pub fn parse(text: &str) -> Result<Self, ChainError> {
        parse::chain(text)
    }
}

impl Stage {
    /// The same name with `-` for `_` and `_` for `-`, if it has one of them: what is looked for when nothing has the name as it
    /// is written. R's names have `_` where others have `-`.
    pub fn other_spelling(&self) -> Option<String> {
        let swapped = self.function.chars().map(|char| match char {
            '-' => '_',
            '_' => '-',
            char => char,
        });
        let swapped: String = swapped.collect();
        (swapped != self.function).then_some(swapped)
    }
}

impl Stage {
    /// Its options as a URL's query, without `?`.
    pub fn query(&self) -> String {
        let options = self.options.iter();
        query_of(options.map(|(name, value)| (&**name, &**value)))
    }
}

/// In the form with brackets; [`Chain::parse`] reads it back.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.stages.iter().enumerate() {
            let before = if number == 0 { "" } else { " | " };
            write!(f, "{before}{stage}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        for (number, (name, value)) in self.options.iter().enumerate() {
            let before = if number == 0 { "(" } else { ", " };
            write!(f, "{before}{} = {}", Text(name), Text(value))?;
        }
        match self.options.is_empty() {
            true => Ok(()),
            false => f.write_str(")"),
        }
    }
}

/// Quoted if it must be.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let must = |char: char| char.is_whitespace() || NOT_BARE.contains(&char);
        if !self.0.is_empty() && !self.0.contains(must) {
            return f.write_str(self.0);
        }
        let escaped = self.0.replace('\\', r"\\").replace('\'', r"\'");
        write!(f, "'{escaped}'")
    }
}

#[cfg(test)]
mod tests;

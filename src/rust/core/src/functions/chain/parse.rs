//! Reads the chain expression, a character at a time.

use super::{Chain, ChainError, Stage, LONGEST, MOST_OPTIONS, MOST_STAGES};
use crate::functions::Name;

/// A chain in text.
pub(super) fn chain(text: &str) -> Result<Chain, ChainError> {
    if text.len() > LONGEST {
        let message = format!("a chain has at most {LONGEST} bytes");
        return Err(ChainError { message, column: 1 });
    }
    let mut reader = Reader {
        rest: text,
        column: 1,
    };
    let mut stages = Vec::new();
    loop {
        reader.skip_spaces();
        if stages.len() == MOST_STAGES {
            return Err(reader.error(format!("a chain has at most {MOST_STAGES} stages")));
        }
        stages.push(stage(&mut reader)?);
        if !reader.take('|') {
            // A stage ends at `|` or at the end.
            return Ok(Chain { stages });
        }
    }
}

/// What is left of a text, and where that begins.
struct Reader<'a> {
    rest: &'a str,
    /// In characters from 1.
    column: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.rest = &self.rest[char.len_utf8()..];
        self.column += 1;
        Some(char)
    }

    /// Whether `char` was next; it is not any more.
    fn take(&mut self, char: char) -> bool {
        let is_next = self.peek() == Some(char);
        if is_next {
            self.next();
        }
        is_next
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !is_part(char));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        self.column += taken.chars().count();
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn at_stage_end(&self) -> bool {
        matches!(self.peek(), None | Some('|'))
    }

    /// What is wrong with what comes next.
    fn error(&self, message: impl Into<String>) -> ChainError {
        error_at(self.column, message)
    }
}

fn error_at(column: usize, message: impl Into<String>) -> ChainError {
    ChainError {
        message: message.into(),
        column,
    }
}

/// How the options of a stage are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `name(n = 3)`
    Brackets,
    /// `name n=3`
    Words,
}

/// Up to `|` or the end.
fn stage(reader: &mut Reader) -> Result<Stage, ChainError> {
    let column = reader.column;
    let function = function(reader)?;
    reader.skip_spaces();
    let options = if reader.take('(') {
        in_brackets(reader)?
    } else {
        in_words(reader)?
    };
    Ok(Stage {
        function,
        options,
        column,
    })
}

fn function(reader: &mut Reader) -> Result<String, ChainError> {
    let column = reader.column;
    let word = reader.take_while(|char| !char.is_whitespace() && !"|(),=".contains(char));
    if word.is_empty() {
        return Err(match reader.peek() {
            None | Some('|') => error_at(column, "the name of a function is missing here"),
            Some(char) => error_at(
                column,
                format!("the name of a function must be here, not `{char}`"),
            ),
        });
    }
    if reader.peek() == Some('=') {
        let message = format!("the name of a function must come before the option `{word}`");
        return Err(error_at(column, message));
    }
    match Name::parse(word) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) if word.contains(['/', '\\', ':']) => Err(error_at(
            column,
            format!("`{word}` is a path or a URL: only functions that are deployed can be called"),
        )),
        Err(problem) => Err(error_at(column, format!("`{word}` is no name: {problem}"))),
    }
}

/// Behind `(`: up to what is behind `)`.
fn in_brackets(reader: &mut Reader) -> Result<Vec<(String, String)>, ChainError> {
    let opened = reader.column - 1;
    let mut options = Vec::new();
    reader.skip_spaces();
    if !reader.take(')') {
        loop {
            check_count(reader, &options)?;
            options.push(option(reader, Form::Brackets)?);
            reader.skip_spaces();
            match reader.peek() {
                Some(')') => break,
                Some(',') => {}
                None => return Err(error_at(opened, "this bracket is not closed")),
                Some(_) => return Err(reader.error("`,` or `)` must be here")),
            }
            reader.next();
            reader.skip_spaces();
        }
        reader.next();
    }
    reader.skip_spaces();
    match reader.at_stage_end() {
        true => Ok(options),
        false => Err(reader.error("`|` must be here, or the end")),
    }
}

/// Up to `|` or the end.
fn in_words(reader: &mut Reader) -> Result<Vec<(String, String)>, ChainError> {
    let mut options = Vec::new();
    while !reader.at_stage_end() {
        check_count(reader, &options)?;
        options.push(option(reader, Form::Words)?);
        let end = reader.column;
        reader.skip_spaces();
        if reader.column == end && !reader.at_stage_end() {
            // Only behind a quote.
            return Err(reader.error("white space or `|` must be behind a quoted value"));
        }
    }
    Ok(options)
}

fn check_count(reader: &Reader, options: &[(String, String)]) -> Result<(), ChainError> {
    match options.len() {
        MOST_OPTIONS => {
            let message = format!("a stage has at most {MOST_OPTIONS} options");
            Err(reader.error(message))
        }
        _ => Ok(()),
    }
}

fn option(reader: &mut Reader, form: Form) -> Result<(String, String), ChainError> {
    let column = reader.column;
    let name = match quoted(reader)? {
        Some(name) => name,
        None => reader
            .take_while(|char| !char.is_whitespace() && !"|(),=".contains(char))
            .to_owned(),
    };
    let end = reader.column;
    if form == Form::Brackets {
        reader.skip_spaces();
    }
    if !reader.take('=') {
        return Err(no_value(reader, form, column, end, &name));
    }
    if name.is_empty() {
        return Err(error_at(column, "an option must have a name before `=`"));
    }
    if form == Form::Brackets {
        reader.skip_spaces();
    }
    Ok((name, value(reader, form)?))
}

/// What is wrong with an option, from `column` to `end`, that is followed by no `=`.
fn no_value(reader: &Reader, form: Form, column: usize, end: usize, name: &str) -> ChainError {
    if column == end {
        return match reader.peek() {
            Some(char) if form == Form::Words || !",)".contains(char) => {
                error_at(column, format!("an option must be here, not `{char}`"))
            }
            _ => error_at(column, "an option is missing here"),
        };
    }
    let example = match form {
        Form::Brackets => "options are written like `(n = 3)`",
        Form::Words if name.starts_with('-') => "options are written like `n=3`, without `-`",
        Form::Words => "options are written like `n=3`, without spaces around `=`",
    };
    error_at(column, format!("`{name}` has no value: {example}"))
}

fn value(reader: &mut Reader, form: Form) -> Result<String, ChainError> {
    if let Some(value) = quoted(reader)? {
        return Ok(value);
    }
    let start = reader.column;
    let value = match form {
        Form::Words => reader.take_while(|char| !char.is_whitespace() && char != '|'),
        Form::Brackets => reader.take_while(|char| !char.is_whitespace() && !"|,()".contains(char)),
    };
    if form == Form::Brackets {
        if reader.peek() == Some('(') {
            let message = "a value is text, nothing that is evaluated: quote it if it has `(`";
            return Err(reader.error(message));
        }
        if value.is_empty() {
            return Err(reader.error("a value is missing here: an empty one is written `''`"));
        }
    }
    without_nul(value, start)?;
    Ok(value.to_owned())
}

/// A text in quotes, if one is next.
fn quoted(reader: &mut Reader) -> Result<Option<String>, ChainError> {
    let start = reader.column;
    let Some(quote) = reader.peek().filter(|char| "'\"".contains(*char)) else {
        return Ok(None);
    };
    reader.next();
    let mut text = String::new();
    loop {
        match reader.next() {
            None => return Err(error_at(start, "this quote is not closed")),
            Some(char) if char == quote => break,
            Some('\\') => match reader.peek() {
                Some(char) if char == quote || char == '\\' => {
                    reader.next();
                    text.push(char);
                }
                _ => text.push('\\'),
            },
            Some(char) => text.push(char),
        }
    }
    without_nul(&text, start)?;
    Ok(Some(text))
}

/// Neither a program's argument nor a text of R's can hold one.
fn without_nul(text: &str, column: usize) -> Result<(), ChainError> {
    match text.contains('\0') {
        true => Err(error_at(column, "a value cannot hold a NUL")),
        false => Ok(()),
    }
}

//! The values of a definition's fields, read from JSON: what each may be.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Name;
use crate::sources::local::WorkerRange;

/// So many workers of one function at most, and so many agents.
const MOST: u32 = 10_000;

/// Bytes of a request's body or of a worker's memory that can be counted exactly in JSON: 2^53.
const MOST_BYTES: u64 = 1 << 53;

/// Seconds: what is shorter nothing can keep, and what is longer no clock can add to what it shows.
const SECONDS: std::ops::RangeInclusive<f64> = 1e-6..=1e9;

/// Why a text defines no function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", self.place())]
pub struct BadDefinition {
    /// The function's number, from 1 on, if it is one of several.
    pub number: Option<usize>,
    /// The field, if it is one of its.
    pub field: Option<String>,
    pub message: String,
}

impl BadDefinition {
    fn place(&self) -> String {
        let number = self.number.map(|number| format!("function {number}: "));
        let field = self.field.as_ref().map(|field| format!("`{field}` "));
        number.unwrap_or_default() + &field.unwrap_or_default()
    }
}

pub(super) fn wrong(field: &str, message: impl Into<String>) -> BadDefinition {
    BadDefinition {
        number: None,
        field: Some(field.to_owned()),
        message: message.into(),
    }
}

/// Without a NUL, which neither the system's nor R's texts have.
pub(super) fn text(field: &'static str, value: Value) -> Result<String, BadDefinition> {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
        _ => Err(wrong(field, "must be a text that is not empty")),
    }
}

pub(super) fn texts(field: &'static str, value: Value) -> Result<Vec<String>, BadDefinition> {
    match value {
        Value::Array(values) => values.into_iter().map(|value| text(field, value)).collect(),
        // As R's serializers write a vector of one.
        value => Ok(vec![text(field, value)?]),
    }
    .map_err(|_| wrong(field, "must be an array of texts that are not empty"))
}

pub(super) fn names(field: &'static str, value: Value) -> Result<Vec<Name>, BadDefinition> {
    let name = |text: &String| {
        Name::parse(text).map_err(|error| wrong(field, format!("must be names: {error}")))
    };
    texts(field, value)?.iter().map(name).collect()
}

pub(super) fn command(field: &'static str, value: Value) -> Result<Vec<String>, BadDefinition> {
    let words = texts(field, value)?;
    match words.is_empty() {
        true => Err(wrong(field, "must name a program")),
        false => Ok(words),
    }
}

/// Options of a command: what [`Signature::of_command`](super::Signature::of_command) reads.
pub(super) fn options(field: &'static str, value: Value) -> Result<Vec<String>, BadDefinition> {
    let options = texts(field, value)?;
    let names: Vec<&str> = options
        .iter()
        .map(|option| option.strip_suffix('=').unwrap_or(option))
        .collect();
    let is_name = |name: &&str| !name.is_empty() && !name.starts_with('-') && !name.contains('=');
    if !names.iter().all(is_name) {
        return Err(wrong(
            field,
            "must be names without dashes before them, like `quiet`, or `file=` for one that takes a value",
        ));
    }
    let twice = (1..names.len()).any(|at| names[..at].contains(&names[at]));
    match twice {
        true => Err(wrong(field, "must name each option once")),
        false => Ok(options),
    }
}

pub(super) fn folder(field: &'static str, value: Value) -> Result<PathBuf, BadDefinition> {
    let path = PathBuf::from(text(field, value)?);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(wrong(
            field,
            "must be an absolute path, on the agent's machine",
        )),
    }
}

/// The path of a file in `folder`, from there. RYO-FaaS writes it as an absolute one, which may be if the folder is known.
pub(super) fn file_in(
    field: &'static str,
    value: Value,
    folder: Option<&Path>,
) -> Result<String, BadDefinition> {
    let path = text(field, value)?;
    let path = Path::new(&path);
    let inside = match folder {
        Some(folder) => path.strip_prefix(folder).unwrap_or(path),
        None => path,
    };
    let inside = inside.strip_prefix(".").unwrap_or(inside);
    let is_name = |part: Component| matches!(part, Component::Normal(_));
    let mut parts = inside.components().peekable();
    let is_inside = parts.peek().is_some() && parts.all(is_name);
    match inside.to_str().filter(|_| is_inside) {
        Some(inside) => Ok(inside.to_owned()),
        None => Err(wrong(
            field,
            "must be the path of a file in the function's folder, from there, and without `..`",
        )),
    }
}

pub(super) fn digest(field: &'static str, value: Value) -> Result<String, BadDefinition> {
    let digest = text(field, value)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match digest.len() == 64 && digest.bytes().all(is_digit) {
        true => Ok(digest),
        false => Err(wrong(
            field,
            "must be a SHA-256, as `PUT /bundles` has answered",
        )),
    }
}

pub(super) fn url(field: &'static str, value: Value) -> Result<String, BadDefinition> {
    let url = text(field, value)?;
    let parsed = url.parse::<hyper::Uri>();
    let is_web = parsed.is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https" | "grpc")) && url.host().is_some()
    });
    match is_web {
        true => Ok(url),
        false => Err(wrong(
            field,
            "must be a URL that begins with http://, https:// or grpc://",
        )),
    }
}

/// Names of services of gRPC, `package.Service`.
pub(super) fn services(field: &'static str, value: Value) -> Result<Vec<String>, BadDefinition> {
    let services = texts(field, value)?;
    let is_part = |part: &str| {
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        part.bytes().next().is_some_and(begins)
            && part
                .bytes()
                .all(|byte| begins(byte) || byte.is_ascii_digit())
    };
    match services.iter().all(|name| name.split('.').all(is_part)) {
        true => Ok(services),
        false => Err(wrong(field, "must be names like `package.Service`")),
    }
}

pub(super) fn variables(
    field: &'static str,
    value: Value,
) -> Result<BTreeMap<String, String>, BadDefinition> {
    let message = "must be an object of texts, whose names have neither `=` nor are empty";
    let Value::Object(object) = value else {
        return Err(wrong(field, message));
    };
    let variable = |(name, value): (String, Value)| match value {
        Value::String(value)
            if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') =>
        {
            Ok((name, value))
        }
        _ => Err(wrong(field, message)),
    };
    object.into_iter().map(variable).collect()
}

pub(super) fn seconds(field: &'static str, value: Value) -> Result<Duration, BadDefinition> {
    let seconds = value.as_f64().filter(|seconds| SECONDS.contains(seconds));
    let message = "must be a number of seconds above 0, at most 1e9";
    let seconds = seconds.ok_or_else(|| wrong(field, message))?;
    Ok(Duration::from_secs_f64(seconds))
}

/// A whole number that JSON holds exactly, also one that is written as `1e6`.
fn count(value: &Value) -> Option<u64> {
    let number = value.as_f64()?;
    let fits = number.fract() == 0.0 && (0.0..=MOST_BYTES as f64).contains(&number);
    fits.then_some(number as u64)
}

pub(super) fn bytes(field: &'static str, value: Value) -> Result<u64, BadDefinition> {
    count(&value).ok_or_else(|| wrong(field, "must be a whole number, not below 0"))
}

pub(super) fn flag(field: &'static str, value: Value) -> Result<bool, BadDefinition> {
    let flag = value.as_bool();
    flag.ok_or_else(|| wrong(field, "must be true or false"))
}

fn small(value: &Value) -> Option<u32> {
    let number = count(value).and_then(|number| u32::try_from(number).ok());
    number.filter(|number| *number <= MOST)
}

pub(super) fn replicas(field: &'static str, value: Value) -> Result<u32, BadDefinition> {
    let number = small(&value).filter(|number| *number > 0);
    number.ok_or_else(|| wrong(field, format!("must be a whole number from 1 to {MOST}")))
}

pub(super) fn workers(field: &'static str, value: Value) -> Result<WorkerRange, BadDefinition> {
    let range = match value.as_array().map(Vec::as_slice) {
        Some([min, max]) => small(min).zip(small(max)),
        Some(_) => None,
        None => small(&value).map(|number| (number, number)),
    };
    let range = range.filter(|(min, max)| min <= max && *max > 0);
    let message = || format!("must be a number, or the least and the most, of 1 to {MOST}");
    let (min, max) = range.ok_or_else(|| wrong(field, message()))?;
    Ok(WorkerRange { min, max })
}

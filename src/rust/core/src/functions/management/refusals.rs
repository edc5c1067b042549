//! What was refused in a worker, as its answer says: `rds`, `secret=NAME`, several with commas between them, and `past:` before
//! what was refused to a caller before. Workers run whatever was deployed, and may say anything: what is none of these is left out.

use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;

use crate::ops::printable;

/// So many of one answer, and so many bytes of a secret's name.
const MOST: usize = 4;
const LONGEST: usize = 64;

/// One thing that was refused, as an audit log has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub action: &'static str,
    pub status: u16,
    pub message: String,
    /// It was refused to a caller before.
    pub past: bool,
}

/// Reads what a worker says.
pub fn read(value: &HeaderValue) -> Vec<Refusal> {
    let all = value.to_str().unwrap_or_default().split(',').take(MOST);
    all.filter_map(|text| {
        let (past, what) = match text.strip_prefix("past:") {
            Some(what) => (true, what),
            None => (false, text),
        };
        let (action, status, message) = match what.split_once('=') {
            None if what == "rds" => ("call", 415, "this function reads no RDS".to_owned()),
            Some(("secret", name)) => ("secret", 403, undeclared(name)?),
            _ => return None,
        };
        Some(Refusal {
            action,
            status,
            message,
            past,
        })
    })
    .collect()
}

fn undeclared(name: &str) -> Option<String> {
    let name = percent_decode_str(name).decode_utf8().ok()?;
    let shown: String = name.chars().take(LONGEST).collect();
    let shown = printable::one_line(shown);
    Some(format!("this function has not declared a secret `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(u16, String, bool)> {
        let value = HeaderValue::from_str(text).expect("a value");
        let all = read(&value).into_iter();
        all.map(|one| (one.status, one.message, one.past)).collect()
    }

    #[test]
    fn what_workers_say_is_bounded() {
        let rds = || (415, "this function reads no RDS".to_owned(), false);
        assert_eq!(told("rds"), [rds()]);
        let secret = |name: &str, past| {
            let message = format!("this function has not declared a secret `{name}`");
            (403, message, past)
        };
        assert_eq!(told("rds,past:secret=d%62"), [rds(), secret("db", true)]);
        assert_eq!(told(""), []);
        assert_eq!(told("rds=1,secret,deploy=a,past:past:rds,secret=%ff"), []);
        assert_eq!(told(&"rds,".repeat(100)), [rds(), rds(), rds(), rds()]);
        let long = format!("secret={}", "a".repeat(1000));
        assert_eq!(told(&long), [secret(&"a".repeat(64), false)]);
        let line = &told("secret=a%0Ab")[0].1;
        assert!(!line.contains('\n'), "{line}");
    }
}

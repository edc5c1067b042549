//! The options of a call: what follows the `?` of its URL.

use std::borrow::Cow;

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// So many at most: each is looked at for each call.
pub const MOST: usize = 1000;

/// Why a query holds no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    #[error("option {0} has no name: options are written like `?n=3&quiet=true`")]
    Nameless(usize),
    #[error("the options are no UTF-8 text, or hold a NUL")]
    NotText,
    #[error("there are more than {MOST} options")]
    TooMany,
}

/// Names and values, in the order in which they came. A name may come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Of a URL's query, without its `?`: `application/x-www-form-urlencoded`, as
    /// <https://url.spec.whatwg.org/#urlencoded-parsing> has it, except that what is no text is an error. An option without `=`
    /// has an empty value.
    ///
    /// # Errors
    /// One has no name, or is no text; or they are too many.
    pub fn parse(query: &str) -> Result<Self, BadOption> {
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if options.len() == MOST {
                return Err(BadOption::TooMany);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if name.is_empty() {
                return Err(BadOption::Nameless(options.len() + 1));
            }
            options.push((name, value));
        }
        Ok(Self(options))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// As arguments of a program: `-k v` for a name of one character, `--key v` for a longer one; without `v` if the value is
    /// empty. A value stays one argument, whatever it holds: no shell sees it.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::with_capacity(2 * self.0.len());
        for (name, value) in self.iter() {
            arguments.extend(Self::argument(name, value));
        }
        arguments
    }

    /// The same of one option.
    pub fn argument(name: &str, value: &str) -> Vec<String> {
        let dashes = if name.chars().nth(1).is_none() {
            "-"
        } else {
            "--"
        };
        let mut argument = vec![format!("{dashes}{name}")];
        if !value.is_empty() {
            argument.push(value.to_owned());
        }
        argument
    }
}

/// A letter, a digit, or what needs no escape in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// These options as a URL's query, without `?`.
pub fn query_of<'a>(options: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encoded = |text| utf8_percent_encode(text, PLAIN);
    let pairs = options.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn decoded(text: &str) -> Result<String, BadOption> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded
        .map(Cow::into_owned)
        .map_err(|_| BadOption::NotText)?;
    // Neither a program's argument nor a text of R's can hold one.
    if decoded.contains('\0') {
        return Err(BadOption::NotText);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        let options = Options::parse(query).expect(query);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        options.iter().map(owned).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let given = [("e", "s/h+a t&e/=%/"), ("\u{e9}", ""), ("e", "#?")];
        let query = query_of(given.into_iter());
        let options = Options::parse(&query).expect("options");
        assert_eq!(options.iter().collect::<Vec<_>>(), given);
    }

    #[test]
    fn as_forms_have_it() {
        for (query, expected) in [
            ("", vec![]),
            ("&&", vec![]),
            ("n=3", vec![("n", "3")]),
            ("e=s/hate/love/&n", vec![("e", "s/hate/love/"), ("n", "")]),
            ("a=1&a=2", vec![("a", "1"), ("a", "2")]),
            ("a+b=c+d%2Be%26%3D", vec![("a b", "c d+e&=")]),
            ("a=b=c", vec![("a", "b=c")]),
            ("caf%C3%A9=%zz%4", vec![("caf\u{e9}", "%zz%4")]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(pairs(query), expected, "{query}");
        }
    }

    #[test]
    fn what_is_none() {
        let error = |query: &str| Options::parse(query).expect_err(query);
        assert_eq!(error("a=1&=2"), BadOption::Nameless(2));
        assert_eq!(error("a=%ff"), BadOption::NotText);
        assert_eq!(error("a%00=1"), BadOption::NotText);
        assert_eq!(error(&"a&".repeat(MOST + 1)), BadOption::TooMany);
        assert!(Options::parse(&"a&".repeat(MOST)).is_ok());
    }

    #[test]
    fn arguments_of_a_program() {
        let arguments = |query| Options::parse(query).expect(query).arguments();
        assert_eq!(
            arguments("e=s/a/b/&quiet&n=3"),
            ["-e", "s/a/b/", "--quiet", "-n", "3"]
        );
        assert_eq!(arguments("e=$(rm -rf ~) ; x"), ["-e", "$(rm -rf ~) ; x"]);
        // What looks like an option of its own stays a value.
        assert_eq!(arguments("file=--help"), ["--file", "--help"]);
        assert_eq!(arguments("\u{e9}=1"), ["-\u{e9}", "1"]);
        assert!(arguments("").is_empty());
    }
}

//! `--name value` arguments, and nothing else.

use std::fmt::Display;
use std::str::FromStr;

#[derive(Debug)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// The arguments of this process, which may only have the names in `known`.
    pub fn from_env(known: &[&str]) -> Result<Self, String> {
        Self::parse(std::env::args().skip(1), known)
    }

    fn parse(args: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut pairs = Vec::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg
                .strip_prefix("--")
                .filter(|name| known.contains(name))
                .ok_or_else(|| format!("unknown argument {arg}; known: {}", known.join(", ")))?;
            let value = args
                .next()
                .ok_or_else(|| format!("--{name} needs a value"))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn need<T: FromStr>(&self, name: &str) -> Result<T, String>
    where
        T::Err: Display,
    {
        let value = self
            .all(name)
            .last()
            .ok_or_else(|| format!("--{name} is missing"))?;
        value
            .parse()
            .map_err(|error| format!("--{name} {value}: {error}"))
    }

    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T, String>
    where
        T::Err: Display,
    {
        match self.all(name).last() {
            Some(_) => self.need(name),
            None => Ok(default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        Args::parse(args.iter().map(ToString::to_string), &["rate", "target"])
    }

    #[test]
    fn reads_values_defaults_and_repetitions() {
        let args = parse(&["--rate", "20", "--target", "a", "--target", "b"]).unwrap();
        assert_eq!(args.need::<f64>("rate"), Ok(20.0));
        assert_eq!(args.all("target").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parse(&[]).unwrap().or("rate", 7u32), Ok(7));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse(&["--rats", "20"]).is_err());
        assert!(parse(&["--rate"]).is_err());
        assert!(parse(&["--rate", "many"])
            .unwrap()
            .need::<f64>("rate")
            .is_err());
    }
}

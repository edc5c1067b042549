//! What a function takes: its options are checked against it before a worker is asked for.

use serde_json::{json, Value};

use super::Options;

/// What texts are converted to, for an option: the type of its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Logical,
    Integer,
    Double,
    Character,
    /// Left as it comes.
    Any,
}

impl Type {
    /// As R's `typeof()` has it.
    pub fn named(name: &str) -> Self {
        match name {
            "logical" => Self::Logical,
            "integer" => Self::Integer,
            "double" => Self::Double,
            "character" => Self::Character,
            _ => Self::Any,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Logical => "logical",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Character => "character",
            Self::Any => "any",
        }
    }

    /// Whether a text can be converted. An empty one is `TRUE` for a logical: `?quiet` says so.
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Logical => is_logical(text),
            Self::Integer => text.parse::<i32>().is_ok_and(|number| number != i32::MIN),
            Self::Double => is_double(text),
            Self::Character | Self::Any => true,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Logical => "`true` or `false`",
            Self::Integer => "a whole number",
            Self::Double => "a number",
            Self::Character | Self::Any => "a text",
        }
    }
}

fn is_logical(text: &str) -> bool {
    let known = ["", "true", "false", "t", "f", "1", "0"];
    known.contains(&&*text.to_ascii_lowercase())
}

/// What R's `as.numeric()` takes of these; no white space, no hexadecimal numbers.
fn is_double(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let begins = |c: char| c.is_ascii_digit() || c == '.';
    unsigned == "Inf" || unsigned.starts_with(begins) && unsigned.parse::<f64>().is_ok()
}

/// One option that a function knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub kind: Type,
    /// There is no default.
    pub required: bool,
}

/// The options that a function knows, without its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub parameters: Vec<Parameter>,
    /// Whether others are taken, too: R's `...`.
    pub open: bool,
}

/// What is wrong with the options of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("there is no option `{name}`{}", .hint.as_ref().map(|hint| format!(": did you mean `{hint}`?")).unwrap_or_default())]
    Unknown { name: String, hint: Option<String> },
    #[error("option `{name}` is missing, and has no default")]
    Missing { name: String },
    #[error("option `{name}` is given twice")]
    Twice { name: String },
    #[error("option `{name}` must be {expected}")]
    WrongType {
        name: String,
        expected: &'static str,
    },
}

impl Mismatch {
    /// Which option it is.
    pub fn option(&self) -> &str {
        match self {
            Self::Unknown { name, .. }
            | Self::Missing { name }
            | Self::Twice { name }
            | Self::WrongType { name, .. } => name,
        }
    }
}

impl Signature {
    /// `{"parameters": [{"name", "type", "required"}], "open"}`.
    pub fn to_json(&self) -> Value {
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .map(|parameter| {
                json!({
                    "name": parameter.name,
                    "type": parameter.kind.name(),
                    "required": parameter.required,
                })
            })
            .collect();
        json!({"parameters": parameters, "open": self.open})
    }

    /// The same read; `None` if it is no such JSON. A type that is not known here is any.
    pub fn from_json(value: &Value) -> Option<Self> {
        let parameter = |value: &Value| {
            Some(Parameter {
                name: value.get("name")?.as_str()?.to_owned(),
                kind: Type::named(value.get("type")?.as_str()?),
                required: value.get("required")?.as_bool()?,
            })
        };
        let parameters = value.get("parameters")?.as_array()?;
        Some(Self {
            parameters: parameters.iter().map(parameter).collect::<Option<_>>()?,
            open: value.get("open")?.as_bool()?,
        })
    }

    /// Of a command, whose deployer has named these options: `n` is a flag, `e=` takes a value, and `...` any other does.
    pub fn of_command(options: &[String]) -> Self {
        let mut signature = Self::default();
        for option in options {
            let (name, kind) = match option.strip_suffix('=') {
                None if option == "..." => {
                    signature.open = true;
                    continue;
                }
                None => (option.as_str(), Type::Logical),
                Some(name) => (name, Type::Character),
            };
            signature.parameters.push(Parameter {
                name: name.to_owned(),
                kind,
                required: false,
            });
        }
        signature
    }

    /// The type of an option, if it is known.
    pub fn kind(&self, name: &str) -> Option<Type> {
        let known = self.parameters.iter();
        let mut its = known.filter(|parameter| parameter.name == name);
        its.next().map(|parameter| parameter.kind)
    }

    /// Whether a call with these options can be tried.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order in which the options came.
    pub fn check(&self, options: &Options) -> Result<(), Mismatch> {
        let mut given = vec![false; self.parameters.len()];
        for (name, value) in options.iter() {
            let known = self
                .parameters
                .iter()
                .position(|parameter| parameter.name == name);
            let Some(at) = known else {
                if self.open {
                    continue;
                }
                let (name, hint) = (name.to_owned(), self.similar(name));
                return Err(Mismatch::Unknown { name, hint });
            };
            let name = || name.to_owned();
            if std::mem::replace(&mut given[at], true) {
                return Err(Mismatch::Twice { name: name() });
            }
            let kind = self.parameters[at].kind;
            if !kind.takes(value) {
                let expected = kind.described();
                return Err(Mismatch::WrongType {
                    name: name(),
                    expected,
                });
            }
        }
        let missing = self
            .parameters
            .iter()
            .zip(given)
            .find(|(parameter, given)| parameter.required && !given);
        missing.map_or(Ok(()), |(parameter, _)| {
            let name = parameter.name.clone();
            Err(Mismatch::Missing { name })
        })
    }

    /// The only option that the name is the beginning of, or that differs in case alone.
    fn similar(&self, name: &str) -> Option<String> {
        let meant = |parameter: &&Parameter| {
            parameter.name.eq_ignore_ascii_case(name) || parameter.name.starts_with(name)
        };
        let mut similar = self.parameters.iter().filter(meant);
        let first = similar.next()?;
        similar.next().is_none().then(|| first.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(open: bool) -> Signature {
        let parameter = |name: &str, kind, required| Parameter {
            name: name.into(),
            kind,
            required,
        };
        Signature {
            parameters: vec![
                parameter("expression", Type::Character, true),
                parameter("times", Type::Integer, false),
                parameter("share", Type::Double, false),
                parameter("quiet", Type::Logical, false),
                parameter("other", Type::Any, false),
            ],
            open,
        }
    }

    fn problem(query: &str, open: bool) -> Option<String> {
        let options = Options::parse(query).expect(query);
        let checked = signature(open).check(&options);
        checked.err().map(|mismatch| mismatch.to_string())
    }

    #[test]
    fn json_and_back() {
        for open in [false, true] {
            let signature = signature(open);
            assert_eq!(Signature::from_json(&signature.to_json()), Some(signature));
        }
        for bad in [
            "{}",
            "[]",
            r#"{"parameters": [], "open": 1}"#,
            r#"{"parameters": [{"name": "e"}], "open": true}"#,
            r#"{"parameters": {"name": "e"}, "open": true}"#,
        ] {
            let value = serde_json::from_str(bad).expect("JSON");
            assert_eq!(Signature::from_json(&value), None, "{bad}");
        }
    }

    #[test]
    fn what_fits() {
        for query in [
            "expression=x",
            "expression=&times=-3&share=1e-3&quiet&other=",
            "quiet=FALSE&expression=x&share=-Inf",
            "expression=x&quiet=T&share=.5&times=2147483647",
        ] {
            assert_eq!(problem(query, false), None, "{query}");
        }
        assert_eq!(problem("expression=x&unknown=1&unknown=2", true), None);
    }

    #[test]
    fn what_does_not_is_named() {
        for (query, expected) in [
            ("", "option `expression` is missing, and has no default"),
            ("expression=x&unknown=1", "there is no option `unknown`"),
            (
                "expr=x",
                "there is no option `expr`: did you mean `expression`?",
            ),
            (
                "expression=x&Times=1",
                "there is no option `Times`: did you mean `times`?",
            ),
            (
                "expression=x&times=1&times=2",
                "option `times` is given twice",
            ),
            (
                "expression=x&times=1.5",
                "option `times` must be a whole number",
            ),
            (
                "expression=x&times=-2147483648",
                "option `times` must be a whole number",
            ),
            (
                "expression=x&times=",
                "option `times` must be a whole number",
            ),
            ("expression=x&share=much", "option `share` must be a number"),
            ("expression=x&share=inf", "option `share` must be a number"),
            ("expression=x&share=%201", "option `share` must be a number"),
            ("expression=x&share=nan", "option `share` must be a number"),
            (
                "expression=x&quiet=maybe",
                "option `quiet` must be `true` or `false`",
            ),
        ] {
            assert_eq!(problem(query, false).as_deref(), Some(expected), "{query}");
        }
        let options = Options::parse("a=1").expect("options");
        let mismatch = signature(false).check(&options).expect_err("unknown");
        assert_eq!(mismatch.option(), "a");
    }
}

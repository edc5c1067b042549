//! What is kept of a function on disk, as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use crate::functions::fleet::Status;
use crate::functions::{Definition, Signature};

/// One version of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// From 1 on; none is used twice.
    pub number: u64,
    pub definition: Definition,
    /// What its workers have said of its options.
    pub signature: Option<Signature>,
    pub deployed: Option<SystemTime>,
}

/// What is kept of a function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The highest number that a version had.
    pub last: u64,
    /// The version that serves.
    pub current: Option<Version>,
    /// The one before, to which one can go back.
    pub previous: Option<Version>,
    /// The one that is being deployed.
    pub next: Option<Version>,
    pub stopped: bool,
    /// Why the last deployment failed, and the last lines of its workers.
    pub message: Option<String>,
    pub lines: Vec<String>,
}

impl Record {
    /// The same version is no longer to be deployed: it is, or it has failed.
    pub fn drop_next(&mut self, number: u64) {
        self.next = self.next.take().filter(|next| next.number != number);
    }

    pub fn status(&self) -> Status {
        match (&self.next, &self.current) {
            (Some(_), _) => Status::Deploying,
            (None, _) if self.stopped => Status::Stopped,
            (None, Some(_)) => Status::Deployed,
            (None, None) => Status::Failed,
        }
    }

    /// The version that is talked of: that which serves, or is to.
    pub fn version(&self) -> Option<&Version> {
        let version = self.current.as_ref().or(self.next.as_ref());
        version.or(self.previous.as_ref())
    }

    /// The version to go back to: the one before, or that which has been stopped.
    pub fn earlier(self) -> Option<Version> {
        match self.stopped {
            true => self.current.or(self.previous),
            false => self.previous,
        }
    }

    /// All that it mentions.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        [&self.current, &self.previous, &self.next]
            .into_iter()
            .flatten()
    }

    pub fn to_json(&self) -> Value {
        json!({
            "format": 1,
            "last": self.last,
            "current": self.current.as_ref().map(version_to_json),
            "previous": self.previous.as_ref().map(version_to_json),
            "next": self.next.as_ref().map(version_to_json),
            "stopped": self.stopped,
            "message": self.message,
            "lines": self.lines,
        })
    }

    /// Reads what [`Record::to_json`] has made.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if value["format"] != 1 {
            return Err("it is of another version of faucet".into());
        }
        let version = |name: &str| match &value[name] {
            Value::Null => Ok(None),
            value => version_of(value).map(Some),
        };
        let lines = value["lines"].as_array().into_iter().flatten();
        Ok(Self {
            last: value["last"].as_u64().ok_or("`last` is no number")?,
            current: version("current")?,
            previous: version("previous")?,
            next: version("next")?,
            stopped: value["stopped"] == true,
            message: value["message"].as_str().map(str::to_owned),
            lines: lines
                .filter_map(|line| line.as_str().map(str::to_owned))
                .collect(),
        })
    }
}

fn version_to_json(version: &Version) -> Value {
    let deployed = version.deployed.map(|time| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs_f64()
    });
    json!({
        "number": version.number,
        "definition": version.definition.to_json(),
        "signature": version.signature.as_ref().map(Signature::to_json),
        "deployed": deployed,
    })
}

fn version_of(value: &Value) -> Result<Version, String> {
    let definition = value["definition"].to_string();
    let mut definitions =
        Definition::parse_all(definition.as_bytes()).map_err(|error| error.to_string())?;
    let deployed = value["deployed"].as_f64();
    let deployed = deployed.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Version {
        number: value["number"].as_u64().ok_or("`number` is no number")?,
        definition: definitions.pop().ok_or("it has no definition")?,
        signature: match &value["signature"] {
            Value::Null => None,
            value => Some(Signature::from_json(value).ok_or("its signature is none")?),
        },
        deployed: deployed.and_then(|since| UNIX_EPOCH.checked_add(since)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let json = br#"{"name": "sed", "command": ["sed", "-n"], "workers": 2, "timeout": 3}"#;
        let definition = Definition::parse_all(json).expect("valid").remove(0);
        let version = |number| Version {
            number,
            definition: definition.clone(),
            signature: Some(Signature::default()),
            deployed: Some(UNIX_EPOCH + Duration::from_secs(number)),
        };
        let mut record = Record {
            last: 3,
            current: Some(version(2)),
            previous: Some(version(1)),
            next: Some(Version {
                deployed: None,
                signature: None,
                ..version(3)
            }),
            stopped: false,
            message: Some("no".into()),
            lines: vec!["a".into()],
        };
        let again = |record: &Record| Record::parse(record.to_json().to_string().as_bytes());
        assert_eq!(again(&record).as_ref(), Ok(&record));
        assert_eq!(record.status(), Status::Deploying);
        record.next = None;
        assert_eq!(record.status(), Status::Deployed);
        record.stopped = true;
        assert_eq!(record.status(), Status::Stopped);
        assert_eq!(again(&record).as_ref(), Ok(&record));
        assert_eq!(Record::default().status(), Status::Failed);
        for broken in [
            "",
            "{}",
            r#"{"format": 2}"#,
            r#"{"format": 1, "last": 1, "current": {}}"#,
        ] {
            assert!(Record::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}

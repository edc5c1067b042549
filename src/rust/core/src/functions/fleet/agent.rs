//! One agent, as a proxy sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::functions::{Definition, Name};
use crate::sources::replicas::Host;

/// After something went wrong that may go well the next time.
const PAUSE: Duration = Duration::from_secs(1);

/// What an agent goes by: `host:port` of where it listens, or the name that it dialled in with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Arc<str>);

/// Why a text is no agent, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAgentName(String);

impl AgentName {
    /// Of where it listens.
    ///
    /// # Errors
    /// The text is not `host:port`.
    pub fn of_address(text: &str) -> Result<Self, BadAgentName> {
        let (_, port) = Host::of_authority(text).map_err(BadAgentName)?;
        match port {
            Some(_) => Ok(Self(text.to_ascii_lowercase().into())),
            None => Err(BadAgentName(
                "An agent is `host:port`: the port is missing.".into(),
            )),
        }
    }

    /// Of one that has dialled in. It is no address: there is no port in it.
    ///
    /// # Errors
    /// It is no name.
    pub fn of_caller(text: &str) -> Result<Self, BadAgentName> {
        let name = Name::parse(text).map_err(|error| BadAgentName(error.to_string()))?;
        Ok(Self(name.as_str().into()))
    }

    /// Either, as it was kept.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, BadAgentName> {
        Self::of_address(text).or_else(|error| match text.contains(':') {
            true => Err(error),
            false => Self::of_caller(text),
        })
    }

    /// Whether it is one that dials in: nobody can dial it.
    pub fn is_caller(&self) -> bool {
        !self.0.contains(':')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a function stands, at an agent or as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Uploaded,
    Deploying,
    /// Its workers have answered.
    Deployed,
    Stopped,
    Failed,
}

impl Status {
    /// As the management API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Deploying => "deploying",
            Self::Deployed => "deployed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// The status with this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Uploaded,
            Self::Deploying,
            Self::Deployed,
            Self::Stopped,
            Self::Failed,
        ];
        all.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing more is to be waited for.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Uploaded | Self::Deploying)
    }
}

/// A function, as its agent tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub status: Status,
    /// What it runs there.
    pub definition: Definition,
    /// Why it failed.
    pub message: Option<String>,
    /// All that the agent says of it.
    pub report: Value,
}

/// Whether an agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not answered yet, since then.
    Unknown(Instant),
    Up,
    /// It does not answer any more, since then.
    Down(Instant),
}

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Of all that were added, none has the same.
    pub number: u64,
    pub standing: Standing,
    /// What is there, as far as it has told.
    pub functions: BTreeMap<Name, Seen>,
    /// What it refused or failed to do, by the version of the function that it was about: not asked for again.
    pub refused: BTreeMap<Name, (u64, String)>,
    /// Functions that something is being done about there.
    pub(super) busy: BTreeSet<Name>,
    /// Which version of each it was given last, if this proxy has done so.
    pub(super) versions: BTreeMap<Name, u64>,
    /// When something was done about a function there.
    pub(super) touched: BTreeMap<Name, u64>,
    /// Secrets that are being told.
    pub(super) busy_secrets: BTreeSet<Name>,
    /// It is not asked for anything until then.
    retry: Option<Instant>,
    /// Which edition of each secret it was given since it was last found.
    pub(super) secrets: BTreeMap<Name, u64>,
    /// What went wrong with it last, until something goes well.
    pub trouble: Option<String>,
}

impl Agent {
    pub(super) fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            standing: Standing::Unknown(now),
            functions: BTreeMap::new(),
            refused: BTreeMap::new(),
            busy: BTreeSet::new(),
            versions: BTreeMap::new(),
            touched: BTreeMap::new(),
            busy_secrets: BTreeSet::new(),
            retry: None,
            secrets: BTreeMap::new(),
            trouble: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.standing == Standing::Up
    }

    /// Whether it has not answered for so long that others take its place.
    pub(super) fn is_lost(&self, grace: Duration, now: Instant) -> bool {
        match self.standing {
            Standing::Up => false,
            Standing::Unknown(since) | Standing::Down(since) => {
                now.saturating_duration_since(since) >= grace
            }
        }
    }

    /// Whether it may be asked for something now.
    pub(super) fn takes_requests(&self, now: Instant) -> bool {
        self.is_up() && self.retry.map_or(true, |retry| now >= retry)
    }

    /// Something went wrong that may go well the next time.
    pub(super) fn leave_alone(&mut self, why: String, now: Instant) {
        self.trouble = Some(why);
        self.retry = now.checked_add(PAUSE);
    }

    /// Whether it was given this version, as far as is known.
    pub(super) fn has_version(&self, name: &Name, version: u64) -> bool {
        self.versions
            .get(name)
            .map_or(true, |given| *given == version)
    }

    /// Whether a function runs there as this says.
    pub(super) fn runs(&self, name: &Name, definition: &Definition, version: u64) -> bool {
        let seen = self.functions.get(name);
        self.has_version(name, version)
            && seen.is_some_and(|seen| {
                seen.status == Status::Deployed && seen.definition == *definition
            })
    }

    /// Whether it is to be told of this version.
    pub(super) fn lacks(&self, name: &Name, definition: &Definition, version: u64) -> bool {
        let refused = self.refused.get(name);
        if refused.is_some_and(|(refused, _)| *refused == version) {
            return false;
        }
        let has = |seen: &Seen| seen.definition == *definition && seen.status != Status::Stopped;
        !self.has_version(name, version) || !self.functions.get(name).is_some_and(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_are_called() {
        for text in ["a:9000", "10.0.0.1:1", "[::1]:9000", "localhost:9000"] {
            let name = AgentName::parse(text).expect(text);
            assert_eq!((name.as_str(), name.is_caller()), (text, false));
        }
        assert_eq!(AgentName::parse("A:1").expect("one").as_str(), "a:1");
        assert!(AgentName::parse("gpu-1").expect("one").is_caller());
        for text in [
            "",
            "a:",
            "a:0",
            "a:b",
            "a/b:1",
            "../x",
            "http://a:1",
            "[::1]",
        ] {
            assert!(AgentName::parse(text).is_err(), "{text}");
        }
        assert!(AgentName::of_address("gpu").is_err());
        assert!(AgentName::of_caller("gpu:1").is_err());
    }

    #[test]
    fn statuses_go_by_their_names() {
        for status in [
            Status::Uploaded,
            Status::Deploying,
            Status::Deployed,
            Status::Stopped,
            Status::Failed,
        ] {
            assert_eq!(Status::named(status.name()), Some(status));
        }
        assert_eq!(Status::named("gone"), None);
    }
}

//! One function of a proxy: what it is to be, and where.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::AgentName;
use crate::functions::Definition;

/// A place for one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Where it belongs.
    pub home: AgentName,
    /// Where it is while its home is lost.
    pub stand_in: Option<AgentName>,
}

impl Seat {
    /// Every agent that has, or is to have, the function for this seat.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        std::iter::once(&self.home).chain(&self.stand_in)
    }
}

/// A function, as it was deployed here.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub definition: Definition,
    /// Counted from 1, one more each time that it is deployed.
    pub version: u64,
    /// What it was before, to go back to.
    pub previous: Option<Definition>,
    /// Otherwise it was stopped.
    pub wanted: bool,
    /// It was stopped and is to be forgotten, once no agent has it any more.
    pub forgotten: bool,
    pub deployed: SystemTime,
    pub seats: Vec<Seat>,
    /// Agents that have it, or may have it, and are to give it up.
    pub leaving: BTreeSet<AgentName>,
}

impl Function {
    pub(super) fn new(definition: Definition, now: SystemTime) -> Self {
        Self {
            definition,
            version: 1,
            previous: None,
            wanted: true,
            forgotten: false,
            deployed: now,
            seats: Vec::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// What an agent is told: where else it is, is none of its business.
    pub fn for_agent(&self) -> Definition {
        Definition {
            to_agent: None,
            replicas: 1,
            ..self.definition.clone()
        }
    }

    /// Every agent that has it, or is to have it.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.seats.iter().flat_map(Seat::agents)
    }

    /// What is kept of it.
    pub fn to_json(&self) -> Value {
        let seats = self.seats.iter();
        let seats: Vec<Value> = seats
            .map(|seat| json!({"home": seat.home.as_str(), "standIn": seat.stand_in.as_ref().map(AgentName::as_str)}))
            .collect();
        let leaving: Vec<&str> = self.leaving.iter().map(AgentName::as_str).collect();
        let deployed = self.deployed.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "format": 1,
            "definition": self.definition.to_json(),
            "version": self.version,
            "previous": self.previous.as_ref().map(Definition::to_json),
            "wanted": self.wanted,
            "forgotten": self.forgotten,
            "deployed": deployed.as_secs_f64(),
            "seats": seats,
            "leaving": leaving,
        })
    }

    /// Of what was kept.
    ///
    /// # Errors
    /// It is not what this writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if value["format"] != 1 {
            return Err("it is of another format".into());
        }
        let definition = |value: &Value| {
            let parsed = Definition::parse_all(value.to_string().as_bytes());
            let mut all = parsed.map_err(|error| error.to_string())?;
            all.pop().ok_or_else(|| "it has no definition".to_owned())
        };
        let agent = |value: &Value| {
            AgentName::parse(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())
        };
        let optional = |value: &Value| match value {
            Value::Null => Ok(None),
            value => agent(value).map(Some),
        };
        let array = |field: &str| {
            value[field]
                .as_array()
                .ok_or_else(|| format!("`{field}` is missing"))
        };
        let flag = |field: &str| {
            value[field]
                .as_bool()
                .ok_or_else(|| format!("`{field}` is missing"))
        };
        let seats = array("seats")?.iter().map(|seat| {
            Ok(Seat {
                home: agent(&seat["home"])?,
                stand_in: optional(&seat["standIn"])?,
            })
        });
        let deployed = value["deployed"].as_f64().unwrap_or_default();
        let deployed = Duration::try_from_secs_f64(deployed).unwrap_or_default();
        Ok(Self {
            definition: definition(&value["definition"])?,
            version: value["version"].as_u64().ok_or("`version` is missing")?,
            previous: match &value["previous"] {
                Value::Null => None,
                previous => Some(definition(previous)?),
            },
            wanted: flag("wanted")?,
            forgotten: flag("forgotten")?,
            deployed: UNIX_EPOCH.checked_add(deployed).unwrap_or(UNIX_EPOCH),
            seats: seats.collect::<Result<_, String>>()?,
            leaving: array("leaving")?
                .iter()
                .map(agent)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let definition = |json: &str| {
            let mut all = Definition::parse_all(json.as_bytes()).expect("a definition");
            all.remove(0)
        };
        let agent = |text| AgentName::parse(text).expect("an agent");
        let function = Function {
            definition: definition(
                r#"{"name": "f", "command": "cat", "replicas": 2, "timeout": 1.5}"#,
            ),
            version: 7,
            previous: Some(definition(r#"{"name": "f", "command": "tac"}"#)),
            wanted: true,
            forgotten: false,
            deployed: UNIX_EPOCH + Duration::from_millis(1_500),
            seats: vec![
                Seat {
                    home: agent("a:1"),
                    stand_in: Some(agent("b:1")),
                },
                Seat {
                    home: agent("gpu"),
                    stand_in: None,
                },
            ],
            leaving: [agent("c:1")].into(),
        };
        let kept = function.to_json().to_string();
        assert_eq!(Function::parse(kept.as_bytes()).expect("kept"), function);
        for cut in 0..kept.len() {
            assert!(Function::parse(&kept.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let other = kept.replace("\"format\":1", "\"format\":2");
        assert_eq!(
            Function::parse(other.as_bytes()).expect_err("another"),
            "it is of another format"
        );
        let own = function.for_agent();
        assert_eq!((own.replicas, own.to_agent), (1, None));
    }
}

//! One function of a proxy: what it is to be, and where.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::AgentName;
use crate::functions::Definition;

/// Of what is kept.
const FORMAT: u64 = 2;

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

/// One version of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub number: u64,
    pub definition: Definition,
}

/// What serves until another version does, and goes on if that one fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Good {
    pub version: Version,
    pub previous: Option<Version>,
    pub deployed: SystemTime,
    pub seats: Vec<Seat>,
}

/// How far a version has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    /// It has not served from all of its seats yet. `Some` serves meanwhile.
    Open(Option<Box<Good>>),
    /// It has.
    Passed,
}

/// A function, as it was deployed here.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub definition: Definition,
    /// That of the definition. Each time that the function is deployed, it is a number that no version of it has had.
    pub version: u64,
    /// The highest number that a version had.
    pub last: u64,
    pub trial: Trial,
    /// Why what was deployed last has failed, if what was there before goes on.
    pub failure: Option<String>,
    /// What it was before, to go back to.
    pub previous: Option<Version>,
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
            last: 1,
            trial: Trial::Open(None),
            failure: None,
            previous: None,
            wanted: true,
            forgotten: false,
            deployed: now,
            seats: Vec::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// The same function, as it is to be from now on.
    pub(super) fn replaced_by(self, definition: Definition, now: SystemTime) -> Self {
        let number = self.last + 1;
        let is_served = self.wanted && !self.forgotten;
        let before = Version {
            number: self.version,
            definition: self.definition,
        };
        let (previous, good) = match self.trial {
            _ if self.forgotten => (None, None),
            Trial::Passed if is_served => {
                let good = Good {
                    version: before.clone(),
                    previous: self.previous,
                    deployed: self.deployed,
                    seats: self.seats.clone(),
                };
                (Some(before), Some(Box::new(good)))
            }
            // What was not served yet is left out.
            Trial::Open(Some(good)) if is_served => (Some(good.version.clone()), Some(good)),
            _ => (Some(before), None),
        };
        Self {
            definition,
            version: number,
            last: number,
            trial: Trial::Open(good),
            failure: None,
            previous,
            wanted: true,
            forgotten: false,
            deployed: now,
            seats: self.seats,
            leaving: self.leaving,
        }
    }

    /// What serves while this version does not.
    pub fn good(&self) -> Option<&Good> {
        match &self.trial {
            Trial::Open(good) => good.as_deref(),
            Trial::Passed => None,
        }
    }

    /// All that may be wanted of it again.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        let good = self.good().into_iter();
        let good = good.flat_map(|good| std::iter::once(&good.version).chain(&good.previous));
        let versions = self.previous.iter().chain(good);
        std::iter::once(&self.definition).chain(versions.map(|version| &version.definition))
    }

    /// It serves from all of its seats; whether that is news.
    pub(super) fn pass(&mut self) -> bool {
        let before = std::mem::replace(&mut self.trial, Trial::Passed);
        before != Trial::Passed
    }

    /// This version has failed: what was there before goes on, if there was something; whether there was.
    pub(super) fn give_up(&mut self, why: String) -> bool {
        match std::mem::replace(&mut self.trial, Trial::Open(None)) {
            Trial::Open(Some(good)) => {
                self.leaving
                    .extend(self.seats.iter().flat_map(Seat::agents).cloned());
                (self.version, self.definition) = (good.version.number, good.version.definition);
                (self.previous, self.deployed) = (good.previous, good.deployed);
                self.seats = good.seats;
                self.trial = Trial::Passed;
                self.failure = Some(why);
                true
            }
            other => {
                self.trial = other;
                false
            }
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
        let leaving: Vec<&str> = self.leaving.iter().map(AgentName::as_str).collect();
        let good = self.good().map(|good| {
            json!({
                "version": good.version.to_json(),
                "previous": good.previous.as_ref().map(Version::to_json),
                "deployed": seconds(good.deployed),
                "seats": seats_to_json(&good.seats),
            })
        });
        json!({
            "format": FORMAT,
            "definition": self.definition.to_json(),
            "version": self.version,
            "last": self.last,
            "passed": self.trial == Trial::Passed,
            "good": good,
            "failure": self.failure,
            "previous": self.previous.as_ref().map(Version::to_json),
            "wanted": self.wanted,
            "forgotten": self.forgotten,
            "deployed": seconds(self.deployed),
            "seats": seats_to_json(&self.seats),
            "leaving": leaving,
        })
    }

    /// Of what was kept.
    ///
    /// # Errors
    /// It is not what this writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if value["format"] != FORMAT {
            return Err("it is of another format".into());
        }
        let good = match &value["good"] {
            Value::Null => None,
            good => Some(Box::new(Good {
                version: Version::of_json(&good["version"])?,
                previous: optional(&good["previous"], Version::of_json)?,
                deployed: time(&good["deployed"]),
                seats: seats_of(good)?,
            })),
        };
        let leaving = array(&value, "leaving")?.iter().map(agent);
        Ok(Self {
            definition: definition(&value["definition"])?,
            version: number(&value, "version")?,
            last: number(&value, "last")?,
            trial: match flag(&value, "passed")? {
                true => Trial::Passed,
                false => Trial::Open(good),
            },
            failure: value["failure"].as_str().map(str::to_owned),
            previous: optional(&value["previous"], Version::of_json)?,
            wanted: flag(&value, "wanted")?,
            forgotten: flag(&value, "forgotten")?,
            deployed: time(&value["deployed"]),
            seats: seats_of(&value)?,
            leaving: leaving.collect::<Result<_, _>>()?,
        })
    }
}

impl Version {
    fn to_json(&self) -> Value {
        json!({"number": self.number, "definition": self.definition.to_json()})
    }

    fn of_json(value: &Value) -> Result<Self, String> {
        Ok(Self {
            number: number(value, "number")?,
            definition: definition(&value["definition"])?,
        })
    }
}

/// In seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

fn time(value: &Value) -> SystemTime {
    let seconds = value.as_f64().unwrap_or_default();
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

fn seats_to_json(seats: &[Seat]) -> Value {
    let one = |seat: &Seat| json!({"home": seat.home.as_str(), "standIn": seat.stand_in.as_ref().map(AgentName::as_str)});
    seats.iter().map(one).collect()
}

fn seats_of(value: &Value) -> Result<Vec<Seat>, String> {
    let seats = array(value, "seats")?.iter().map(|seat| {
        Ok(Seat {
            home: agent(&seat["home"])?,
            stand_in: optional(&seat["standIn"], agent)?,
        })
    });
    seats.collect()
}

fn definition(value: &Value) -> Result<Definition, String> {
    let parsed = Definition::parse_all(value.to_string().as_bytes());
    let mut all = parsed.map_err(|error| error.to_string())?;
    all.pop().ok_or_else(|| "it has no definition".to_owned())
}

fn agent(value: &Value) -> Result<AgentName, String> {
    AgentName::parse(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())
}

fn optional<T>(
    value: &Value,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match value {
        Value::Null => Ok(None),
        value => read(value).map(Some),
    }
}

fn missing(field: &str) -> String {
    format!("`{field}` is missing")
}

fn array<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    value[field].as_array().ok_or_else(|| missing(field))
}

fn flag(value: &Value, field: &str) -> Result<bool, String> {
    value[field].as_bool().ok_or_else(|| missing(field))
}

fn number(value: &Value, field: &str) -> Result<u64, String> {
    value[field].as_u64().ok_or_else(|| missing(field))
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
        let tac = Version {
            number: 6,
            definition: definition(r#"{"name": "f", "command": "tac"}"#),
        };
        let mut function = Function {
            definition: definition(
                r#"{"name": "f", "command": "cat", "replicas": 2, "timeout": 1.5}"#,
            ),
            version: 7,
            last: 9,
            trial: Trial::Passed,
            failure: Some("at a:1: no".into()),
            previous: Some(tac.clone()),
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
        function.trial = Trial::Open(Some(Box::new(Good {
            version: tac,
            previous: None,
            deployed: UNIX_EPOCH,
            seats: function.seats.clone(),
        })));
        let open = function.to_json().to_string();
        assert_eq!(Function::parse(open.as_bytes()).expect("kept"), function);
        let other = kept.replace("\"format\":2", "\"format\":3");
        assert_eq!(
            Function::parse(other.as_bytes()).expect_err("another"),
            "it is of another format"
        );
        let own = function.for_agent();
        assert_eq!((own.replicas, own.to_agent), (1, None));
    }
}

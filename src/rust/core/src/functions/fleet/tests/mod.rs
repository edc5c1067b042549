//! A proxy's decisions, against agents that do what they are told, or not.

mod everything;
mod losses;
mod seats;
mod secrets;
mod services;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::functions::{Definition, Name, ServiceTaken};

const GRACE: Duration = Duration::from_secs(30);

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

fn agent(text: &str) -> AgentName {
    AgentName::parse(text).expect(text)
}

fn definition(json: &str) -> Definition {
    let mut all = Definition::parse_all(json.as_bytes()).expect(json);
    all.remove(0)
}

/// `f` on so many agents.
fn replicas(count: u32) -> Definition {
    definition(&format!(
        r#"{{"name": "f", "command": "cat", "replicas": {count}}}"#
    ))
}

/// What an agent really has.
#[derive(Clone, Default)]
struct Machine {
    up: bool,
    functions: BTreeMap<Name, Definition>,
    secrets: BTreeMap<Name, u64>,
}

/// A fleet, and what it is about.
struct World {
    fleet: Fleet,
    now: Instant,
    machines: BTreeMap<AgentName, Machine>,
    /// Not done yet.
    actions: Vec<Action>,
    /// Which functions are served, and by whom.
    served: BTreeMap<Name, BTreeSet<AgentName>>,
    disk: BTreeMap<Name, Vec<u8>>,
    secrets: BTreeMap<Name, ()>,
    known: BTreeSet<AgentName>,
}

impl World {
    fn of(agents: &[&str]) -> Self {
        let mut world = Self {
            fleet: Fleet::new(GRACE, []),
            now: Instant::now(),
            machines: BTreeMap::new(),
            actions: Vec::new(),
            served: BTreeMap::new(),
            disk: BTreeMap::new(),
            secrets: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        for text in agents {
            let machine = Machine {
                up: true,
                ..Machine::default()
            };
            world.machines.insert(agent(text), machine);
            world.add(&agent(text));
            world.check(&agent(text));
        }
        world
    }

    fn add(&mut self, agent: &AgentName) {
        self.fleet.add_agent(agent.clone(), self.now);
        self.known.insert(agent.clone());
    }

    fn remove(&mut self, agent: &AgentName) {
        // It may be unknown.
        let _ = self.fleet.remove_agent(agent);
        self.known.remove(agent);
        // Another machine comes by this name, if one does.
        *self.machines.get_mut(agent).expect("a machine") = Machine::default();
        self.actions.retain(|action| match action {
            Action::Deploy { agent: at, .. }
            | Action::Remove { agent: at, .. }
            | Action::SetSecret { agent: at, .. }
            | Action::DropSecret { agent: at, .. } => at != agent,
            Action::Serve { .. } | Action::Close { .. } => true,
        });
    }

    fn set_up(&mut self, agent: &AgentName, up: bool) {
        self.machines.get_mut(agent).expect("a machine").up = up;
    }

    fn check(&mut self, agent: &AgentName) {
        let (machine, moment) = (&self.machines[agent], self.fleet.moment());
        if machine.up {
            let functions = machine.functions.iter();
            let functions = functions
                .map(|(name, definition)| (name.clone(), running(definition)))
                .collect();
            self.fleet.agent_told(agent, moment, functions);
        } else {
            self.fleet.agent_silent(agent, "it is off".into(), self.now);
        }
    }

    fn check_all(&mut self) {
        for agent in self.machines.keys().cloned().collect::<Vec<_>>() {
            self.check(&agent);
        }
    }

    /// Has the fleet decide; what has no agent is done at once.
    fn plan(&mut self) {
        for action in self.fleet.plan(self.now) {
            match action {
                Action::Serve { name, agents } => drop(self.served.insert(name, agents)),
                Action::Close { name } => drop(self.served.remove(&name)),
                Action::Remove { agent, name } => {
                    let serves = self.served.get(&name).is_some_and(|by| by.contains(&agent));
                    assert!(!serves, "{agent} still serves {name}");
                    self.actions.push(Action::Remove { agent, name });
                }
                other => self.actions.push(other),
            }
        }
        for (name, function) in self.fleet.take_unsaved() {
            match function {
                Some(function) => {
                    let kept = function.to_json().to_string().into_bytes();
                    self.disk.insert(name, kept);
                }
                None => drop(self.disk.remove(&name)),
            }
        }
    }

    /// Does what is to be done; whether there was something. `refuses`: the agent says no to a function.
    fn execute(&mut self, at: usize, refuses: bool) -> bool {
        if self.actions.is_empty() {
            return false;
        }
        let action = self.actions.remove(at % self.actions.len());
        let now = self.now;
        match action {
            Action::Deploy {
                agent,
                definition,
                version,
            } => {
                let machine = self.machines.get_mut(&agent).expect("a machine");
                let name = definition.name.clone();
                let outcome = if !machine.up {
                    Err(Trouble::Unreachable("it is off".into()))
                } else if refuses {
                    Err(Trouble::Refused("no such package".into()))
                } else {
                    let seen = running(&definition);
                    machine.functions.insert(name.clone(), *definition);
                    Ok(Some(seen))
                };
                self.fleet.done(&agent, &name, version, outcome, now);
            }
            Action::Remove { agent, name } => {
                let machine = self.machines.get_mut(&agent).expect("a machine");
                let outcome = if machine.up {
                    machine.functions.remove(&name);
                    Ok(None)
                } else {
                    Err(Trouble::Unreachable("it is off".into()))
                };
                self.fleet.done(&agent, &name, 0, outcome, now);
            }
            Action::SetSecret {
                agent,
                name,
                edition,
            } => {
                let machine = self.machines.get_mut(&agent).expect("a machine");
                let outcome = if machine.up {
                    machine.secrets.insert(name.clone(), edition);
                    Ok(Some(edition))
                } else {
                    Err("it is off".into())
                };
                self.fleet.secret_done(&agent, &name, outcome, now);
            }
            Action::DropSecret { agent, name } => {
                let machine = self.machines.get_mut(&agent).expect("a machine");
                machine.secrets.remove(&name);
                self.fleet.secret_done(&agent, &name, Ok(None), now);
            }
            Action::Serve { .. } | Action::Close { .. } => unreachable!("done at once"),
        }
        true
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The proxy ends, and begins anew with what is on disk.
    fn restart(&mut self) {
        let kept = self.disk.values();
        let kept = kept.map(|bytes| Function::parse(bytes).expect("what was written"));
        self.fleet = Fleet::new(GRACE, kept);
        self.actions.clear();
        self.served.clear();
        for name in self.secrets.keys() {
            self.fleet.secret_set(name.clone());
        }
        for agent in self.known.clone() {
            self.add(&agent);
        }
    }

    /// Time goes on until nothing is left to be done.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.pass(Duration::from_secs(2));
            self.check_all();
            self.plan();
            let mut idle = true;
            while self.execute(0, false) {
                idle = false;
                self.plan();
            }
            if idle {
                return;
            }
        }
        panic!("it never settles: {:?}", self.fleet.functions);
    }

    /// Which machines have a function, `known` ones only.
    fn has(&self, name: &Name) -> Vec<&AgentName> {
        let machines = self.machines.iter();
        machines
            .filter(|(agent, _)| self.known.contains(agent))
            .filter(|(_, machine)| machine.functions.contains_key(name))
            .map(|(agent, _)| agent)
            .collect()
    }

    fn deploy(&mut self, definition: Definition) {
        self.fleet.deploy(definition, UNIX_EPOCH).expect("deployed");
    }

    fn status(&self) -> (Status, Option<String>) {
        self.fleet
            .status(self.fleet.function("f").expect("it is there"))
    }

    fn served_by(&self) -> Vec<&str> {
        let served = self.served.get(&name("f")).into_iter().flatten();
        served.map(AgentName::as_str).collect()
    }
}

fn running(definition: &Definition) -> Seen {
    Seen {
        status: Status::Deployed,
        definition: definition.clone(),
        message: None,
        report: serde_json::Value::Null,
    }
}

//! The state of a proxy: what has happened goes in here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use super::agent::{Agent, AgentName, Seen, Standing};
use super::function::Function;
use crate::functions::{check_services, Definition, Name, ServiceTaken};

/// The edition of a secret that an agent was given, and may have no more.
const LOST: u64 = 0;

/// Why something is not done that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no function `{0}`")]
    NoFunction(String),
    #[error("there is no agent `{0}`")]
    NoAgent(String),
    #[error("`{0}` was deployed once only: there is nothing to go back to")]
    NoPrevious(Name),
    #[error(transparent)]
    ServiceTaken(#[from] ServiceTaken),
}

/// The agents of a proxy, its functions, and who serves what.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How long an agent may not answer before its functions are started elsewhere.
    pub(super) grace: Duration,
    pub(super) agents: BTreeMap<AgentName, Agent>,
    pub(super) functions: BTreeMap<Name, Function>,
    /// The edition of each secret that there is.
    pub(super) secrets: BTreeMap<Name, u64>,
    /// Who serves each function.
    pub(super) members: BTreeMap<Name, BTreeSet<AgentName>>,
    /// The same, with the function's version, as it was told last.
    pub(super) announced: BTreeMap<Name, (u64, BTreeSet<AgentName>)>,
    /// Functions that are not on disk as they are here.
    pub(super) unsaved: BTreeSet<Name>,
    next_edition: u64,
    /// How many agents were added.
    added: u64,
    /// Counts what was done at agents.
    moment: u64,
}

impl Fleet {
    /// `functions` are those that were kept.
    pub fn new(grace: Duration, functions: impl IntoIterator<Item = Function>) -> Self {
        let functions = functions.into_iter();
        let functions: BTreeMap<Name, Function> = functions
            .map(|function| (function.definition.name.clone(), function))
            .collect();
        // They serve until they tell otherwise.
        let members = functions.iter().filter(|(_, function)| function.wanted);
        let members = members
            .map(|(name, function)| {
                // And so do those that are left only when another version serves.
                let until_then = function.good().map(|_| &function.leaving);
                let agents = function.agents().chain(until_then.into_iter().flatten());
                (name.clone(), agents.cloned().collect())
            })
            .collect();
        Self {
            grace,
            agents: BTreeMap::new(),
            functions,
            secrets: BTreeMap::new(),
            members,
            announced: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            next_edition: 1,
            added: 0,
            moment: 0,
        }
    }

    pub fn agents(&self) -> &BTreeMap<AgentName, Agent> {
        &self.agents
    }

    /// Those that are not to be forgotten.
    pub fn functions(&self) -> impl Iterator<Item = (&Name, &Function)> {
        self.functions
            .iter()
            .filter(|(_, function)| !function.forgotten)
    }

    /// # Errors
    /// There is none by this name.
    pub fn function(&self, name: &str) -> Result<&Function, Refusal> {
        self.functions()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, function)| function)
            .ok_or_else(|| Refusal::NoFunction(name.to_owned()))
    }

    /// Everybody that serves this function.
    pub fn members(&self, name: &Name) -> impl Iterator<Item = &AgentName> {
        self.members.get(name).into_iter().flatten()
    }

    /// There is this agent from now on; whether it is new.
    pub fn add_agent(&mut self, name: AgentName, now: Instant) -> bool {
        let new = !self.agents.contains_key(&name);
        if new {
            self.added += 1;
            self.agents.insert(name, Agent::new(self.added, now));
        }
        new
    }

    /// There is no such agent any more, and it has no seat. What it has it keeps, also if it is added again: it may be somebody
    /// else's by then.
    ///
    /// # Errors
    /// There was none.
    pub fn remove_agent(&mut self, name: &AgentName) -> Result<(), Refusal> {
        if self.agents.remove(name).is_none() {
            return Err(Refusal::NoAgent(name.to_string()));
        }
        self.vacate(name);
        for members in self.members.values_mut() {
            members.remove(name);
        }
        Ok(())
    }

    /// When it is now, for [`agent_told`](Self::agent_told): an agent is about to be asked.
    pub fn moment(&self) -> u64 {
        self.moment
    }

    /// An agent has told what it has; it was asked at that `moment`. What was done since then, or is being done, it may not know
    /// yet.
    pub fn agent_told(
        &mut self,
        name: &AgentName,
        moment: u64,
        mut functions: BTreeMap<Name, Seen>,
    ) {
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        if !agent.is_up() {
            // It may be another process by now, with another configuration.
            agent.refused.clear();
            agent
                .secrets
                .values_mut()
                .for_each(|edition| *edition = LOST);
        }
        agent.standing = Standing::Up;
        agent.trouble = None;
        let news = agent
            .touched
            .iter()
            .filter(|(_, touched)| **touched > moment);
        let newer: BTreeSet<Name> = news.map(|(name, _)| name.clone()).collect();
        for name in newer.iter().chain(&agent.busy) {
            match agent.functions.get(name) {
                // How it comes along is news in any case.
                _ if !newer.contains(name) && functions.contains_key(name) => {}
                Some(seen) => drop(functions.insert(name.clone(), seen.clone())),
                None => drop(functions.remove(name)),
            }
        }
        agent.touched.retain(|_, touched| *touched > moment);
        agent.functions = functions;
    }

    /// An agent does not answer.
    pub fn agent_silent(&mut self, name: &AgentName, why: String, now: Instant) {
        if let Some(agent) = self.agents.get_mut(name) {
            if agent.is_up() {
                agent.standing = Standing::Down(now);
            }
            agent.trouble = Some(why);
        }
    }

    /// There is a secret of this name, or it has another value now.
    pub fn secret_set(&mut self, name: Name) {
        self.secrets.insert(name, self.next_edition);
        self.next_edition += 1;
    }

    /// There is no secret of this name any more.
    pub fn secret_removed(&mut self, name: &Name) {
        self.secrets.remove(name);
    }

    /// A function is to be as this says, and where it says.
    ///
    /// # Errors
    /// It is to be at an agent that is not known, or has a service of gRPC that is another function's.
    pub fn deploy(&mut self, definition: Definition, now: SystemTime) -> Result<u64, Refusal> {
        if let Some(wanted) = &definition.to_agent {
            let known = AgentName::parse(wanted).is_ok_and(|name| self.agents.contains_key(&name));
            if !known {
                return Err(Refusal::NoAgent(wanted.clone()));
            }
        }
        self.check_services(&definition)?;
        let name = definition.name.clone();
        let function = match self.functions.remove(&name) {
            None => Function::new(definition, now),
            Some(before) => before.replaced_by(definition, now),
        };
        let version = function.version;
        self.functions.insert(name.clone(), function);
        self.unsaved.insert(name);
        Ok(version)
    }

    /// # Errors
    /// A function that serves, or is to serve, has a service of gRPC that this one is to have.
    pub fn check_services(&self, definition: &Definition) -> Result<(), ServiceTaken> {
        let wanted = self.functions.values().filter(|other| other.wanted);
        let others = wanted.flat_map(|other| {
            let good = other.good().map(|good| &good.version.definition);
            std::iter::once(&other.definition).chain(good)
        });
        check_services(definition, others)
    }

    /// A function is to be what it was before.
    ///
    /// # Errors
    /// There is none, or it was nothing before; or as [`deploy`](Self::deploy).
    pub fn roll_back(&mut self, name: &Name, now: SystemTime) -> Result<u64, Refusal> {
        let previous = self.function(name.as_str())?.previous.clone();
        let previous = previous.ok_or_else(|| Refusal::NoPrevious(name.clone()))?;
        self.deploy(previous.definition, now)
    }

    /// A function is to run nowhere, and to be forgotten if that is said.
    ///
    /// # Errors
    /// There is none.
    pub fn stop(&mut self, name: &Name, forget: bool) -> Result<(), Refusal> {
        self.function(name.as_str())?;
        if let Some(function) = self.functions.get_mut(name) {
            function.wanted = false;
            function.forgotten = forget;
            self.unsaved.insert(name.clone());
        }
        Ok(())
    }

    /// What was to be done about a function at an agent has come to this: what it has now, or what is wrong.
    pub fn done(
        &mut self,
        agent: &AgentName,
        name: &Name,
        version: u64,
        outcome: Result<Option<Seen>, Trouble>,
        now: Instant,
    ) {
        self.moment += 1;
        let moment = self.moment;
        let by = agent;
        let Some(agent) = self.agents.get_mut(by) else {
            return;
        };
        agent.busy.remove(name);
        if let (Ok(Some(_)), Some(function)) = (&outcome, self.functions.get_mut(name)) {
            // It was asked before it was removed, and is here again.
            if !function.agents().any(|has| has == by) && function.leaving.insert(by.clone()) {
                self.unsaved.insert(name.clone());
            }
        }
        match outcome {
            Ok(seen) => {
                agent.touched.insert(name.clone(), moment);
                match seen {
                    Some(seen) => {
                        agent.functions.insert(name.clone(), seen);
                        agent.versions.insert(name.clone(), version);
                        agent.refused.remove(name);
                    }
                    None => {
                        agent.functions.remove(name);
                        agent.versions.remove(name);
                    }
                }
            }
            Err(Trouble::Refused(why)) => {
                agent.refused.insert(name.clone(), (version, why));
            }
            Err(Trouble::Unreachable(why)) => agent.leave_alone(why, now),
        }
    }

    /// A secret was given to an agent, or taken from it (`None`), or what is wrong.
    pub fn secret_done(
        &mut self,
        agent: &AgentName,
        name: &Name,
        outcome: Result<Option<u64>, String>,
        now: Instant,
    ) {
        let Some(agent) = self.agents.get_mut(agent) else {
            return;
        };
        agent.busy_secrets.remove(name);
        match outcome {
            Ok(Some(edition)) => drop(agent.secrets.insert(name.clone(), edition)),
            Ok(None) => drop(agent.secrets.remove(name)),
            Err(why) => agent.leave_alone(why, now),
        }
    }

    /// Functions that changed since they were last asked for: what is to be kept of each, `None` for those that are no more.
    pub fn take_unsaved(&mut self) -> Vec<(Name, Option<Function>)> {
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        unsaved
            .map(|name| {
                let function = self.functions.get(&name).cloned();
                (name, function)
            })
            .collect()
    }

    /// What could not be kept is to be kept at the next try.
    pub fn still_unsaved(&mut self, name: Name) {
        self.unsaved.insert(name);
    }
}

/// Why nothing came of what was to be done at an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The agent says so: asking again for the same is of no use.
    Refused(String),
    /// It may be otherwise the next time.
    Unreachable(String),
}

//! What is to be done now, so that each function comes to be where it should be.

use std::collections::BTreeSet;
use std::time::Instant;

use super::agent::{Agent, AgentName, Status};
use super::function::{Function, Seat};
use super::Fleet;
use crate::functions::{check_services, Definition, Name};

/// Something to be done. What it comes to is to be told by [`Fleet::done`] or [`Fleet::secret_done`], if it has an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Have an agent run this.
    Deploy {
        agent: AgentName,
        definition: Box<Definition>,
        version: u64,
    },
    /// Have an agent run it no more, and forget it. Nobody is sent there any more.
    Remove { agent: AgentName, name: Name },
    /// Give an agent a secret.
    SetSecret {
        agent: AgentName,
        name: Name,
        edition: u64,
    },
    /// Take one from it.
    DropSecret { agent: AgentName, name: Name },
    /// A function is served by these, maybe by nobody for now.
    Serve {
        name: Name,
        agents: BTreeSet<AgentName>,
    },
    /// A function is not served any more.
    Close { name: Name },
}

impl Fleet {
    /// All that is to be done, in this order: who is to be left is not sent to any more before it is left.
    pub fn plan(&mut self, now: Instant) -> Vec<Action> {
        let names: Vec<Name> = self.functions.keys().cloned().collect();
        for name in &names {
            self.place(name, now);
            if self.judge(name) {
                self.place(name, now);
            }
            self.choose_members(name);
        }
        let mut actions = self.announce();
        self.share_secrets(now, &mut actions);
        for name in &names {
            self.ask_agents(name, now, &mut actions);
            self.forget(name);
        }
        actions
    }

    /// Decides which agents have a function.
    fn place(&mut self, name: &Name, now: Instant) {
        let Some(mut function) = self.functions.remove(name) else {
            return;
        };
        let before = (function.seats.clone(), function.leaving.clone());
        let had: BTreeSet<AgentName> = function.agents().cloned().collect();
        if function.wanted {
            self.tidy(&mut function);
            self.stand_in(&mut function, now);
            self.fill(&mut function);
        } else {
            function.seats.clear();
        }
        let has: BTreeSet<AgentName> = function.agents().cloned().collect();
        function.leaving.extend(had);
        function
            .leaving
            .retain(|agent| !has.contains(agent) && self.may_have(agent, name));
        if before != (function.seats.clone(), function.leaving.clone()) {
            self.unsaved.insert(name.clone());
        }
        self.functions.insert(name.clone(), function);
    }

    /// Whether an agent that is to give a function up has it still, as far as can be told.
    fn may_have(&self, agent: &AgentName, name: &Name) -> bool {
        self.agents.get(agent).is_some_and(|agent| {
            !agent.is_up() || agent.busy.contains(name) || agent.functions.contains_key(name)
        })
    }

    /// Gives up all seats at an agent that is gone, and does not know it any more: it may be added again before the next plan.
    pub(super) fn vacate(&mut self, agent: &AgentName) {
        let mut functions = std::mem::take(&mut self.functions);
        for (name, function) in &mut functions {
            let had: BTreeSet<AgentName> = function.agents().cloned().collect();
            if function.leaving.remove(agent) | had.contains(agent) {
                self.tidy(function);
                let has: BTreeSet<&AgentName> = function.agents().collect();
                // Who loses a seat with it has the function still.
                let lose = had
                    .iter()
                    .filter(|lose| *lose != agent && !has.contains(lose));
                let lose: Vec<AgentName> = lose.cloned().collect();
                function.leaving.extend(lose);
                self.unsaved.insert(name.clone());
            }
        }
        self.functions = functions;
    }

    /// Gives up seats at agents that are gone, and those that are too many.
    fn tidy(&self, function: &mut Function) {
        let is_known = |agent: &AgentName| self.agents.contains_key(agent);
        for seat in &mut function.seats {
            seat.stand_in = seat.stand_in.take().filter(is_known);
            if !is_known(&seat.home) {
                if let Some(stand_in) = seat.stand_in.take() {
                    seat.home = stand_in;
                }
            }
        }
        function.seats.retain(|seat| is_known(&seat.home));
        if let Some(only) = only(function) {
            function.seats.retain(|seat| seat.home == only);
            for seat in &mut function.seats {
                seat.stand_in = None;
            }
        } else {
            let most = function.definition.replicas as usize;
            // Those that serve stay.
            let serves = |seat: &Seat| {
                let agent = self.agents.get(&seat.home);
                agent.is_some_and(Agent::is_up)
            };
            if function.seats.len() > most {
                function.seats.sort_by_key(|seat| !serves(seat));
                function.seats.truncate(most);
            }
        }
    }

    /// Has others in place of those that are lost, for as long as they are.
    fn stand_in(&self, function: &mut Function, now: Instant) {
        if function.definition.to_agent.is_some() {
            return;
        }
        let definition = function.for_agent();
        let is_lost = |agent: &AgentName| {
            let agent = self.agents.get(agent);
            agent.map_or(true, |agent| agent.is_lost(self.grace, now))
        };
        for at in 0..function.seats.len() {
            let seat = &function.seats[at];
            let home_serves = self.agents.get(&seat.home).is_some_and(|home| {
                home.is_up() && home.runs(&function.definition.name, &definition, function.version)
            });
            if home_serves {
                function.seats[at].stand_in = None;
                continue;
            }
            let stands_in = seat.stand_in.as_ref();
            if is_lost(&seat.home) && stands_in.map_or(true, is_lost) {
                if let Some(other) = self.roomiest(function) {
                    function.seats[at].stand_in = Some(other);
                }
            }
        }
    }

    /// Adds seats that are missing.
    fn fill(&self, function: &mut Function) {
        let seat = |home| Seat {
            home,
            stand_in: None,
        };
        if let Some(only) = only(function) {
            if function.seats.is_empty() && self.agents.contains_key(&only) {
                function.seats.push(seat(only));
            }
            return;
        }
        while function.seats.len() < function.definition.replicas as usize {
            match self.roomiest(function) {
                Some(agent) => function.seats.push(seat(agent)),
                None => return,
            }
        }
    }

    /// The agent with most room, of those that are there and have not got the function.
    fn roomiest(&self, function: &Function) -> Option<AgentName> {
        let up = self.agents.iter().filter(|(_, agent)| agent.is_up());
        let free = up.filter(|(name, _)| !function.agents().any(|has| has == *name));
        // Whose last word about it was no, is asked last.
        let refused = |agent: &Agent| {
            let refused = agent.refused.get(&function.definition.name);
            refused.is_some_and(|(version, _)| *version == function.version)
        };
        free.min_by_key(|(name, agent)| (refused(agent), self.load(name), *name))
            .map(|(name, _)| name.clone())
    }

    /// How many workers the functions of an agent may have together.
    fn load(&self, agent: &AgentName) -> u64 {
        let there = self.functions.values();
        let there = there.filter(|function| function.agents().any(|has| has == agent));
        there
            .map(|function| {
                function
                    .definition
                    .workers
                    .map_or(1, |range| range.max.max(1))
            })
            .map(u64::from)
            .sum()
    }

    /// Decides who serves a function.
    fn choose_members(&mut self, name: &Name) {
        let Some(function) = self.functions.get(name).filter(|function| function.wanted) else {
            self.members.remove(name);
            return;
        };
        let before = self.members.get(name);
        let was_one = |agent: &AgentName| before.is_some_and(|before| before.contains(agent));
        let serves = |agent: &&AgentName| {
            self.agents.get(*agent).is_some_and(|known| {
                let status = known.functions.get(name).map(|seen| seen.status);
                match status {
                    Some(Status::Deployed) => known.is_up() || was_one(agent),
                    // Until it has told what it has, or while it gets another version.
                    Some(Status::Deploying | Status::Failed | Status::Uploaded) => was_one(agent),
                    Some(Status::Stopped) => false,
                    None => was_one(agent) && (!known.is_up() || known.busy.contains(name)),
                }
            })
        };
        // While a version has not come so far, those that serve the one before go on.
        let until_then = match function.good() {
            Some(_) => function.leaving.iter(),
            None => Default::default(),
        };
        let until_then = until_then.filter(|agent| was_one(agent));
        let members: BTreeSet<AgentName> = function
            .agents()
            .chain(until_then)
            .filter(serves)
            .cloned()
            .collect();
        // Once it was served, its requests wait.
        if before.is_some() || !members.is_empty() {
            self.members.insert(name.clone(), members);
        }
    }

    fn announce(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for name in self.announced.keys() {
            if !self.members.contains_key(name) {
                actions.push(Action::Close { name: name.clone() });
            }
        }
        for (name, agents) in &self.members {
            let version = self.functions.get(name).map(|function| function.version);
            let now = (version.unwrap_or_default(), agents.clone());
            // Another version may have other limits.
            if self.announced.get(name) != Some(&now) {
                let (name, agents) = (name.clone(), agents.clone());
                actions.push(Action::Serve { name, agents });
            }
        }
        let announced = self.members.iter().map(|(name, agents)| {
            let version = self.functions.get(name).map(|function| function.version);
            (name.clone(), (version.unwrap_or_default(), agents.clone()))
        });
        self.announced = announced.collect();
        actions
    }

    /// Secrets that a function has declared come before it.
    fn share_secrets(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (name, agent) in &mut self.agents {
            if !agent.takes_requests(now) {
                continue;
            }
            let there = self
                .functions
                .values()
                .filter(|function| function.wanted && function.agents().any(|has| has == name));
            let declared: BTreeSet<&Name> = there
                .flat_map(|function| &function.definition.secrets)
                .collect();
            for secret in declared {
                let Some(edition) = self.secrets.get(secret).copied() else {
                    continue;
                };
                if agent.secrets.get(secret) != Some(&edition)
                    && agent.busy_secrets.insert(secret.clone())
                {
                    let (agent, name) = (name.clone(), secret.clone());
                    actions.push(Action::SetSecret {
                        agent,
                        name,
                        edition,
                    });
                }
            }
            let gone: Vec<Name> = agent
                .secrets
                .keys()
                .filter(|secret| !self.secrets.contains_key(secret))
                .cloned()
                .collect();
            for secret in gone {
                if agent.busy_secrets.insert(secret.clone()) {
                    let (agent, name) = (name.clone(), secret);
                    actions.push(Action::DropSecret { agent, name });
                }
            }
        }
    }

    /// What agents are asked about one function.
    fn ask_agents(&mut self, name: &Name, now: Instant, actions: &mut Vec<Action>) {
        let Some(function) = self.functions.get(name) else {
            return;
        };
        let (definition, version) = (function.for_agent(), function.version);
        // Who has one of its services still is to be gone first.
        let others = self.functions.values();
        let clashing: Vec<&Function> = others
            .filter(|other| check_services(&definition, [&other.definition]).is_err())
            .collect();
        let is_clashing = |to| clashing.iter().any(|other| other.leaving.contains(to));
        let waiting: BTreeSet<AgentName> = function
            .agents()
            .filter(|to| is_clashing(to))
            .cloned()
            .collect();
        for to in function.agents() {
            if waiting.contains(to) {
                continue;
            }
            let Some(agent) = self.agents.get_mut(to) else {
                continue;
            };
            let has_secrets = function.definition.secrets.iter().all(|secret| {
                let edition = self.secrets.get(secret);
                edition.is_none() || agent.secrets.get(secret) == edition
            });
            if agent.takes_requests(now)
                && has_secrets
                && agent.lacks(name, &definition, version)
                && agent.busy.insert(name.clone())
            {
                let (agent, definition) = (to.clone(), Box::new(definition.clone()));
                actions.push(Action::Deploy {
                    agent,
                    definition,
                    version,
                });
            }
        }
        let until_then = function.good().is_some();
        for from in &function.leaving {
            let serves = |members: &BTreeSet<AgentName>| members.contains(from);
            if until_then && self.members.get(name).is_some_and(serves) {
                continue;
            }
            let Some(agent) = self.agents.get_mut(from) else {
                continue;
            };
            if agent.takes_requests(now)
                && agent.functions.contains_key(name)
                && agent.busy.insert(name.clone())
            {
                let (agent, name) = (from.clone(), name.clone());
                actions.push(Action::Remove { agent, name });
            }
        }
    }

    /// Nobody has it any more.
    fn forget(&mut self, name: &Name) {
        let over = |function: &Function| function.forgotten && function.leaving.is_empty();
        if self.functions.get(name).is_some_and(over) {
            self.functions.remove(name);
            self.unsaved.insert(name.clone());
        }
    }
}

/// The only agent that a function may be at, if that is said.
pub(super) fn only(function: &Function) -> Option<AgentName> {
    let wanted = function.definition.to_agent.as_ref()?;
    AgentName::parse(wanted).ok()
}

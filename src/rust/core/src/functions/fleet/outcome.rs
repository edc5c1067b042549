//! What has come of a function's version: how it stands at each agent and as a whole, and whether it stays.

use super::agent::{AgentName, Status};
use super::function::Function;
use super::plan::only;
use super::Fleet;
use crate::functions::Name;

/// What is kept of why a version failed, in bytes.
const LONGEST_FAILURE: usize = 64 * 1024;

impl Fleet {
    /// How a function stands at one of its agents.
    pub fn status_at(&self, agent: &AgentName, function: &Function) -> (Status, Option<String>) {
        let name = &function.definition.name;
        let Some(agent) = self.agents.get(agent) else {
            return (
                Status::Failed,
                Some("there is no such agent any more".into()),
            );
        };
        if let Some((version, why)) = agent.refused.get(name) {
            if *version == function.version {
                return (Status::Failed, Some(why.clone()));
            }
        }
        match agent.functions.get(name) {
            Some(seen)
                if agent.is_up()
                    && seen.definition == function.for_agent()
                    && agent.has_version(name, function.version) =>
            {
                (seen.status, seen.message.clone())
            }
            _ => (Status::Deploying, agent.trouble.clone()),
        }
    }

    /// How a function stands as a whole, and why, if there is something to say: of one that is deployed, why what was deployed
    /// last is not.
    pub fn status(&self, function: &Function) -> (Status, Option<String>) {
        match self.outcome(function) {
            // What was there before goes on.
            (Status::Failed, why) if function.good().is_some() => (Status::Deploying, why),
            (Status::Deployed, note) => (Status::Deployed, function.failure.clone().or(note)),
            other => other,
        }
    }

    /// What has come of a function's version so far.
    fn outcome(&self, function: &Function) -> (Status, Option<String>) {
        if !function.wanted {
            return (Status::Stopped, None);
        }
        let mut serving = 0;
        let mut trouble = None;
        for seat in &function.seats {
            let at = |agent| (agent, self.status_at(agent, function));
            let serves = |agent| at(agent).1 .0 == Status::Deployed;
            if seat.agents().any(serves) {
                serving += 1;
            } else {
                // Whoever stands in is the one to look at.
                trouble = trouble.or_else(|| seat.agents().last().map(at));
            }
        }
        let missing = function.definition.replicas as usize;
        let missing = missing.saturating_sub(function.seats.len());
        match trouble {
            Some((agent, (Status::Failed, why))) => {
                let why = why.unwrap_or_else(|| "it failed".into());
                (Status::Failed, Some(format!("at {agent}: {why}")))
            }
            Some((agent, (_, why))) => (
                Status::Deploying,
                why.map(|why| format!("at {agent}: {why}")),
            ),
            None if serving == 0 => (Status::Deploying, Some("no agent is there for it".into())),
            None if missing > 0 => {
                let wanted = function.definition.replicas;
                (
                    Status::Deployed,
                    Some(format!(
                        "it is on {serving} of {wanted} agents: there are no more"
                    )),
                )
            }
            None => (Status::Deployed, None),
        }
    }

    /// Decides whether a version is as it should be, or has failed; whether another one is to be placed for that.
    pub(super) fn judge(&mut self, name: &Name) -> bool {
        let Some(mut function) = self.functions.remove(name) else {
            return false;
        };
        let only_is_gone = only(&function).filter(|only| !self.agents.contains_key(only));
        let (passed, failed) = match self.outcome(&function) {
            (Status::Deployed, _) => (function.pass(), false),
            (Status::Failed, why) => {
                let why = why.unwrap_or_else(|| "it failed".into());
                (false, function.give_up(shortened(why)))
            }
            _ => match only_is_gone {
                Some(only) => {
                    let why = format!("there is no agent `{only}` any more");
                    (false, function.give_up(why))
                }
                None => (false, false),
            },
        };
        if passed || failed {
            self.unsaved.insert(name.clone());
        }
        self.functions.insert(name.clone(), function);
        failed
    }
}

/// What is kept of why something failed.
fn shortened(mut why: String) -> String {
    let end = (0..=LONGEST_FAILURE)
        .rev()
        .find(|at| why.is_char_boundary(*at));
    why.truncate(end.unwrap_or_default());
    why
}

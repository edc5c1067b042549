//! Looking at agents, again and again: whether they answer, and what they have.

use std::sync::Arc;
use std::time::Instant;

use super::Proxy;
use crate::functions::fleet::{AgentName, Standing};
use crate::sources::replicas::{look_up, Target};
use crate::worker::Address;

/// After so many looks that showed nothing new, all is asked for.
const FULL_LOOK: u32 = 10;

/// What an agent has told before.
#[derive(Default)]
struct Known {
    list: Vec<u8>,
    looks: u32,
}

impl Proxy {
    /// Looks at an agent until it is removed or the server is about to end.
    pub(super) fn watch(self: &Arc<Self>, agent: AgentName) {
        let proxy = self.clone();
        let Some(number) = self.number_of(&agent) else {
            return;
        };
        tokio::spawn(async move {
            let mut closing = proxy.closing.subscribe();
            let mut known = Known::default();
            loop {
                let look = proxy.look(&agent, number, &mut known);
                tokio::select! {
                    there = look => if !there {
                        return;
                    },
                    _ = closing.wait_for(|closing| *closing) => return,
                }
                tokio::time::sleep(proxy.settings.check_every).await;
            }
        });
    }

    fn number_of(&self, agent: &AgentName) -> Option<u64> {
        self.fleet().agents().get(agent).map(|agent| agent.number)
    }

    /// One look; whether the agent is still the one of that number.
    async fn look(self: &Arc<Self>, agent: &AgentName, number: u64, known: &mut Known) -> bool {
        let moment = {
            let fleet = self.fleet();
            match fleet.agents().get(agent) {
                Some(found) if found.number != number => return false,
                None => return false,
                Some(found) if found.is_up() => {}
                Some(_) => *known = Known::default(),
            }
            fleet.moment()
        };
        self.find(agent).await;
        let told = self.ask(agent, known).await;
        if self.number_of(agent) != Some(number) {
            return false;
        }
        let before = self.standing(agent);
        match told {
            Ok(Some(functions)) => self.fleet().agent_told(agent, moment, functions),
            Ok(None) => return true,
            Err(why) => {
                *known = Known::default();
                self.fleet().agent_silent(agent, why, Instant::now());
            }
        }
        self.say(agent, before);
        self.ring();
        true
    }

    /// What the agent has, if that is not what it had before.
    async fn ask(
        &self,
        agent: &AgentName,
        known: &mut Known,
    ) -> Result<
        Option<std::collections::BTreeMap<crate::functions::Name, crate::functions::fleet::Seen>>,
        String,
    > {
        let client = self.client(agent)?;
        let list = client.list().await?;
        known.looks += 1;
        if known.list == list && known.looks < FULL_LOOK {
            return Ok(None);
        }
        let functions = client.details().await?;
        *known = Known { list, looks: 0 };
        Ok(Some(functions))
    }

    /// Looks the agent's name up. Where it was found before, it is until it is found elsewhere.
    async fn find(&self, agent: &AgentName) {
        if agent.is_caller() {
            return;
        }
        let Ok(target) = Target::parse(&format!("http://{agent}")) else {
            return;
        };
        let Ok(found) = look_up(&target, None).await else {
            return;
        };
        let Some(address) = found.addresses.into_iter().next().map(Address::Tcp) else {
            return;
        };
        let before = self.addresses().insert(agent.clone(), address.clone());
        if before.as_ref() != Some(&address) {
            self.refresh();
        }
    }

    fn standing(&self, agent: &AgentName) -> Option<Standing> {
        let fleet = self.fleet();
        fleet.agents().get(agent).map(|agent| agent.standing)
    }

    /// Tells the log when an agent has come or gone.
    fn say(&self, agent: &AgentName, before: Option<Standing>) {
        let fleet = self.fleet();
        let Some(found) = fleet.agents().get(agent) else {
            return;
        };
        match (before, found.standing) {
            (Some(Standing::Down(_)), Standing::Up) => tracing::info!("agent {agent} is back"),
            (Some(Standing::Unknown(_)), Standing::Up) => tracing::info!("agent {agent} is there"),
            (Some(Standing::Up), Standing::Down(_)) => {
                let why = found.trouble.as_deref().unwrap_or("it does not answer");
                tracing::warn!("agent {agent} is lost: {why}");
            }
            _ => {}
        }
    }
}

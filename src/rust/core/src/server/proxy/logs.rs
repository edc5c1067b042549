//! The log of a function, from all of its agents.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::agent_client::AgentClient;
use super::Proxy;
use crate::client::Answer;
use crate::front::Told;
use crate::functions::fleet::AgentName;
use crate::functions::Name;

/// A line that has no end yet is passed on once it is so long, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// Puts the agent's name before each line.
fn marked(agent: &AgentName, text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| format!("{agent}: {line}"))
        .collect()
}

impl Proxy {
    pub(super) async fn log(
        self: Arc<Self>,
        name: &str,
        lines: usize,
        follow: bool,
        base: &str,
    ) -> Told {
        let found = {
            let fleet = self.fleet();
            fleet.function(name).map(|function| {
                let agents: Vec<AgentName> = function.agents().cloned().collect();
                (function.definition.name.clone(), agents)
            })
        };
        let (name, agents) = match found {
            Ok(found) => found,
            Err(refusal) => return super::answers::refused(&refusal),
        };
        if follow {
            return self.follow(name, agents, lines);
        }
        let several = agents.len() > 1;
        let mut text = String::new();
        for agent in &agents {
            let told = match self.client(agent) {
                Ok(client) => client.log(&name, lines).await,
                Err(why) => Err(why),
            };
            match told {
                Ok(told) if several => text += &marked(agent, &told),
                Ok(told) => text += &told,
                Err(why) => text += &format!("{agent}: {why}\n"),
            }
        }
        Told::ok(json!({"function": self.short(&name, base), "logs": text}))
    }

    fn follow(&self, name: Name, agents: Vec<AgentName>, lines: usize) -> Told {
        let (sender, receiver) = mpsc::channel(4);
        let several = agents.len() > 1;
        for agent in agents {
            let (name, sender) = (name.clone(), sender.clone());
            let client = self.client(&agent);
            let mut closing = self.closing.subscribe();
            tokio::spawn(async move {
                let followed = follow_one(client, &agent, &name, lines, several, &sender);
                tokio::select! {
                    () = followed => {}
                    () = sender.closed() => {}
                    _ = closing.wait_for(|closing| *closing) => {}
                }
            });
        }
        Told::Text(receiver)
    }
}

async fn follow_one(
    client: Result<AgentClient, String>,
    agent: &AgentName,
    name: &Name,
    lines: usize,
    several: bool,
    sender: &mpsc::Sender<Bytes>,
) {
    let followed = match client {
        Ok(client) => client.follow(name, lines).await,
        Err(why) => Err(why),
    };
    match followed {
        Ok(answer) => pass_on(answer, several.then_some(agent), sender).await,
        Err(why) => {
            let text = format!("{agent}: {why}\n");
            // Nobody may be there any more.
            let _ = sender.send(text.into()).await;
        }
    }
}

/// Whole lines, if they are those of one of several agents.
async fn pass_on(mut answer: Answer, agent: Option<&AgentName>, sender: &mpsc::Sender<Bytes>) {
    let mut unfinished: Vec<u8> = Vec::new();
    while let Some(Ok(chunk)) = answer.next().await {
        let chunk = match agent {
            None => chunk,
            Some(agent) => {
                unfinished.extend_from_slice(&chunk);
                let end = unfinished.iter().rposition(|byte| *byte == b'\n');
                let end = match end {
                    Some(at) => at + 1,
                    None if unfinished.len() > LONGEST_LINE => unfinished.len(),
                    None => continue,
                };
                let whole: Vec<u8> = unfinished.drain(..end).collect();
                marked(agent, &String::from_utf8_lossy(&whole)).into()
            }
        };
        if sender.send(chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_where_it_is_from() {
        let agent = AgentName::parse("a:1").expect("an agent");
        assert_eq!(marked(&agent, "one\ntwo\n"), "a:1: one\na:1: two\n");
        assert_eq!(marked(&agent, ""), "");
    }
}

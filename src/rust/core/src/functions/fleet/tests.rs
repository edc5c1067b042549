//! A proxy's decisions, against agents that do what they are told, or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::functions::{Definition, Name};

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
                    machine.functions.insert(name.clone(), definition);
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

#[test]
fn a_function_goes_where_there_is_most_room() {
    let mut world = World::of(&["a:1", "b:1", "c:1"]);
    world.deploy(definition(
        r#"{"name": "big", "command": "cat", "workers": [0, 8]}"#,
    ));
    world.settle();
    assert_eq!(world.has(&name("big")), [&agent("a:1")]);
    world.deploy(replicas(2));
    assert_eq!(
        world.status(),
        (Status::Deploying, Some("no agent is there for it".into()))
    );
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
    assert_eq!(world.served_by(), ["b:1", "c:1"]);
    world.deploy(replicas(5));
    world.settle();
    let (status, message) = world.status();
    assert_eq!(status, Status::Deployed);
    assert_eq!(
        message.as_deref(),
        Some("it is on 3 of 5 agents: there are no more")
    );
    // One more comes.
    world.machines.insert(
        agent("d:1"),
        Machine {
            up: true,
            ..Machine::default()
        },
    );
    world.add(&agent("d:1"));
    world.settle();
    assert_eq!(world.served_by(), ["a:1", "b:1", "c:1", "d:1"]);
    world.deploy(replicas(1));
    world.settle();
    assert_eq!(world.served_by().len(), 1);
    assert_eq!(world.has(&name("f")).len(), 1);
}

#[test]
fn one_agent_and_no_other() {
    let mut world = World::of(&["a:1", "b:1"]);
    let to = |agent: &str| {
        definition(&format!(
            r#"{{"name": "f", "command": "cat", "toAgent": "{agent}"}}"#
        ))
    };
    world.deploy(to("b:1"));
    world.settle();
    assert_eq!(world.served_by(), ["b:1"]);
    world.set_up(&agent("b:1"), false);
    world.pass(GRACE * 2);
    world.settle();
    world.pass(GRACE * 2);
    world.settle();
    assert_eq!(world.has(&name("f")), [&agent("b:1")]);
    assert_eq!(world.status().0, Status::Deploying);
    world.set_up(&agent("b:1"), true);
    world.deploy(to("a:1"));
    world.settle();
    assert_eq!(world.has(&name("f")), [&agent("a:1")]);
    let refused = world.fleet.deploy(to("c:1"), UNIX_EPOCH);
    assert_eq!(refused, Err(Refusal::NoAgent("c:1".into())));
}

#[test]
fn a_lost_agents_functions_are_elsewhere_until_it_returns() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(1));
    world.settle();
    assert_eq!(world.served_by(), ["a:1"]);
    world.set_up(&agent("a:1"), false);
    world.check_all();
    world.pass(GRACE / 2);
    world.plan();
    // Its workers may be well: requests there are tried.
    assert_eq!((world.served_by(), world.actions.len()), (vec!["a:1"], 0));
    world.pass(GRACE);
    world.settle();
    assert_eq!(world.served_by(), ["a:1", "b:1"]);
    assert_eq!(world.status(), (Status::Deployed, None));
    world.restart();
    world.settle();
    assert_eq!(world.has(&name("f")), [&agent("a:1"), &agent("b:1")]);
    world.set_up(&agent("a:1"), true);
    world.settle();
    assert_eq!(world.served_by(), ["a:1"]);
    assert_eq!(world.has(&name("f")), [&agent("a:1")]);
}

/// It has the old version when it returns.
#[test]
fn who_returns_gets_what_was_deployed_meanwhile() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(1));
    world.settle();
    world.set_up(&agent("a:1"), false);
    world.check_all();
    world.pass(GRACE);
    world.settle();
    world.deploy(definition(r#"{"name": "f", "command": "tac"}"#));
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
    world.set_up(&agent("a:1"), true);
    world.check_all();
    world.plan();
    // Whoever stands in goes on until it serves the same.
    assert!(world.served_by().contains(&"b:1"));
    world.settle();
    assert_eq!(world.served_by(), ["a:1"]);
    let there = &world.machines[&agent("a:1")].functions[&name("f")];
    assert_eq!(
        there.code,
        crate::functions::Code::Command(vec!["tac".into()])
    );
}

#[test]
fn what_an_agent_refuses_it_is_not_asked_again() {
    let mut world = World::of(&["a:1"]);
    world.deploy(replicas(1));
    world.plan();
    assert!(world.execute(0, true));
    world.settle();
    let refused = Some("at a:1: no such package".to_owned());
    assert_eq!(world.status(), (Status::Failed, refused));
    assert!(world.machines[&agent("a:1")].functions.is_empty());
    assert!(world.served_by().is_empty());
    // The same again is another try.
    world.deploy(replicas(1));
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
    world.deploy(definition(r#"{"name": "f", "command": "tac"}"#));
    world.plan();
    assert!(world.execute(0, true));
    world.settle();
    // What was there before goes on.
    assert_eq!(
        (world.status().0, world.served_by()),
        (Status::Failed, vec!["a:1"])
    );
    world
        .fleet
        .roll_back(&name("f"), UNIX_EPOCH)
        .expect("it was something before");
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
}

/// The answer to a question that was asked before something was done does not know of it.
#[test]
fn old_news_change_nothing() {
    let mut world = World::of(&["a:1"]);
    let moment = world.fleet.moment();
    world.deploy(replicas(1));
    world.plan();
    assert!(world.execute(0, false));
    world
        .fleet
        .agent_told(&agent("a:1"), moment, BTreeMap::new());
    world.plan();
    assert_eq!(world.actions, []);
    assert_eq!(world.served_by(), ["a:1"]);
    world.check_all();
    world.plan();
    assert_eq!(world.actions, []);
}

#[test]
fn stopped_and_forgotten() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(2));
    world.settle();
    world.fleet.stop(&name("f"), false).expect("it is there");
    world.settle();
    assert_eq!(world.status(), (Status::Stopped, None));
    assert!(world.served.is_empty() && world.has(&name("f")).is_empty());
    world
        .fleet
        .roll_back(&name("f"), UNIX_EPOCH)
        .expect_err("never another");
    world.deploy(replicas(2));
    world.settle();
    assert_eq!(world.served_by().len(), 2);
    world.set_up(&agent("b:1"), false);
    world.check_all();
    world.fleet.stop(&name("f"), true).expect("it is there");
    world.settle();
    assert!(world.fleet.function("f").is_err());
    // Though nobody sees it any more, it is still to be taken from there.
    world.restart();
    world.set_up(&agent("b:1"), true);
    world.settle();
    assert!(world.has(&name("f")).is_empty() && world.disk.is_empty());
}

#[test]
fn functions_that_others_have_deployed_there_are_left_alone() {
    let mut world = World::of(&["a:1"]);
    let own = definition(r#"{"name": "own", "command": "cat"}"#);
    let machine = world.machines.get_mut(&agent("a:1")).expect("a machine");
    machine.functions.insert(name("own"), own);
    world.settle();
    assert_eq!(world.has(&name("own")), [&agent("a:1")]);
    assert!(world.served.is_empty());
}

#[test]
fn secrets_come_before_the_functions_that_declare_them() {
    let mut world = World::of(&["a:1"]);
    let with_secret = definition(r#"{"name": "f", "command": "cat", "secrets": ["db"]}"#);
    world.fleet.secret_set(name("db"));
    world.fleet.secret_set(name("other"));
    world.deploy(with_secret);
    world.plan();
    let first = world.actions.clone();
    assert!(matches!(&first[..], [Action::SetSecret { name, .. }] if name.as_str() == "db"));
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
    let edition = world.machines[&agent("a:1")].secrets[&name("db")];
    world.fleet.secret_set(name("db"));
    world.settle();
    assert!(world.machines[&agent("a:1")].secrets[&name("db")] > edition);
    // One that was away gets no other, and gives it back all the same.
    world.set_up(&agent("a:1"), false);
    world.check_all();
    world.fleet.secret_removed(&name("db"));
    world.set_up(&agent("a:1"), true);
    world.settle();
    assert!(world.machines[&agent("a:1")].secrets.is_empty());
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Up(usize, bool),
    Add(usize),
    RemoveAgent(usize),
    Check(usize),
    Pass(u64),
    Plan,
    Execute(usize, bool),
    Deploy(usize, u32, Option<usize>, bool),
    RollBack(usize),
    Stop(usize, bool),
    SecretSet(usize),
    SecretRemoved(usize),
    Wipe(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, any::<bool>()).prop_map(|(agent, up)| Step::Up(agent, up)),
        1 => (0..4_usize).prop_map(Step::Add),
        1 => (0..4_usize).prop_map(Step::RemoveAgent),
        5 => (0..4_usize).prop_map(Step::Check),
        3 => (0..40_u64).prop_map(Step::Pass),
        6 => Just(Step::Plan),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(at, refuses)| Step::Execute(at, refuses)),
        4 => (0..3_usize, 1..4_u32, proptest::option::weighted(0.2, 0..4_usize), any::<bool>())
            .prop_map(|(name, replicas, to, secret)| Step::Deploy(name, replicas, to, secret)),
        1 => (0..3_usize).prop_map(Step::RollBack),
        2 => (0..3_usize, any::<bool>()).prop_map(|(name, forget)| Step::Stop(name, forget)),
        1 => (0..2_usize).prop_map(Step::SecretSet),
        1 => (0..2_usize).prop_map(Step::SecretRemoved),
        1 => (0..4_usize).prop_map(Step::Wipe),
        1 => Just(Step::Restart),
    ]
}

const AGENTS: [&str; 4] = ["a:1", "b:1", "c:1", "gpu"];
const NAMES: [&str; 3] = ["f", "g", "h"];
const SECRETS: [&str; 2] = ["db", "mail"];

fn take(world: &mut World, step: Step, number: usize) {
    match step {
        Step::Up(at, up) => world.set_up(&agent(AGENTS[at]), up),
        Step::Add(at) => world.add(&agent(AGENTS[at])),
        Step::RemoveAgent(at) => world.remove(&agent(AGENTS[at])),
        Step::Check(at) => world.check(&agent(AGENTS[at])),
        Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
        Step::Plan => world.plan(),
        Step::Execute(at, refuses) => drop(world.execute(at, refuses)),
        Step::Deploy(at, replicas, to, secret) => {
            let to = to.map(|at| format!(r#", "toAgent": "{}""#, AGENTS[at]));
            let secrets = if secret { r#"["db"]"# } else { "[]" };
            let json = format!(
                r#"{{"name": "{}", "command": ["echo", "{number}"], "replicas": {replicas}, "secrets": {secrets}{}}}"#,
                NAMES[at],
                to.unwrap_or_default()
            );
            // The agent may be unknown.
            let _ = world.fleet.deploy(definition(&json), UNIX_EPOCH);
        }
        Step::RollBack(at) => drop(world.fleet.roll_back(&name(NAMES[at]), UNIX_EPOCH)),
        Step::Stop(at, forget) => drop(world.fleet.stop(&name(NAMES[at]), forget)),
        Step::SecretSet(at) => {
            world.secrets.insert(name(SECRETS[at]), ());
            world.fleet.secret_set(name(SECRETS[at]));
        }
        Step::SecretRemoved(at) => {
            world.secrets.remove(&name(SECRETS[at]));
            world.fleet.secret_removed(&name(SECRETS[at]));
        }
        Step::Wipe(at) => {
            // The machine is another one by now.
            let machine = world.machines.get_mut(&agent(AGENTS[at])).expect("one");
            machine.functions.clear();
        }
        Step::Restart => {
            world.plan();
            world.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: once it does not any more, each function is where it should be, and nowhere else.
    #[test]
    fn everything_comes_to_be_as_it_should(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::of(&AGENTS);
        for (number, step) in steps.into_iter().enumerate() {
            take(&mut world, step, number);
        }
        // All are well, and what was refused is accepted now.
        for text in AGENTS {
            world.set_up(&agent(text), false);
            world.check(&agent(text));
            world.set_up(&agent(text), true);
        }
        world.settle();
        prop_assert_eq!(world.fleet.plan(world.now), vec![]);
        for text in NAMES {
            let name = name(text);
            let has: Vec<AgentName> = world.has(&name).into_iter().cloned().collect();
            let Ok(function) = world.fleet.function(text).cloned() else {
                prop_assert_eq!(has, vec![]);
                prop_assert!(!world.served.contains_key(&name));
                prop_assert!(!world.disk.contains_key(&name));
                continue;
            };
            if !function.wanted {
                prop_assert_eq!(has, vec![]);
                prop_assert!(!world.served.contains_key(&name));
                continue;
            }
            let expected = match &function.definition.to_agent {
                Some(only) => usize::from(world.known.contains(&agent(only))),
                None => world.known.len().min(function.definition.replicas as usize),
            };
            prop_assert_eq!(has.len(), expected, "{} {:?}", text, function);
            prop_assert!(function.leaving.is_empty());
            prop_assert!(function.seats.iter().all(|seat| seat.stand_in.is_none()));
            let served = world.served.get(&name).cloned().unwrap_or_default();
            prop_assert_eq!(served.into_iter().collect::<Vec<_>>(), has.clone());
            for at in &has {
                let machine = &world.machines[at];
                prop_assert_eq!(&machine.functions[&name], &function.for_agent());
                for secret in &function.definition.secrets {
                    prop_assert!(
                        machine.secrets.contains_key(secret) || !world.secrets.contains_key(secret)
                    );
                }
            }
            if expected > 0 {
                prop_assert_eq!(world.fleet.status(&function).0, Status::Deployed);
            }
        }
    }
}

//! Whatever happens, in whatever order.

use proptest::prelude::*;

use super::*;

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

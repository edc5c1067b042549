//! Which agents have a function.

use super::*;

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
fn who_loses_a_seat_because_another_agent_goes_gives_the_function_up() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(2));
    world.plan();
    // One has it, and it is not known yet whether it answers.
    assert!(world.execute(0, false));
    assert_eq!(world.has(&name("f")), [&agent("a:1")]);
    // Before anything is planned for that.
    world.deploy(definition(
        r#"{"name": "f", "command": "cat", "toAgent": "b:1"}"#,
    ));
    world.remove(&agent("b:1"));
    world.settle();
    assert!(world.has(&name("f")).is_empty());
}

//! Agents that are lost, and return.

use super::*;

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

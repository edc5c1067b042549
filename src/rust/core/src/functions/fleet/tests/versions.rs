//! What comes of a version: it serves, fails, is stopped.

use super::*;
use crate::functions::Code;

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
}

/// `f` as another version.
fn tac(more: &str) -> Definition {
    definition(&format!(r#"{{"name": "f", "command": "tac"{more}}}"#))
}

fn code_at(world: &World, at: &str) -> Code {
    world.machines[&agent(at)].functions[&name("f")]
        .code
        .clone()
}

fn cat_goes_on(world: &World, at: &str) {
    let why = Some(format!("at {at}: no such package"));
    assert_eq!(world.status(), (Status::Deployed, why));
    let function = world.fleet.function("f").expect("it is there");
    assert_eq!((function.version, function.last), (1, 2));
    assert_eq!(function.definition.code, Code::Command(vec!["cat".into()]));
}

#[test]
fn what_was_there_before_goes_on_when_a_version_fails() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(1));
    world.settle();
    world.deploy(tac(""));
    world.plan();
    assert!(world.execute(0, true));
    // Whoever looks now is not told that it has failed: that is decided next.
    assert_eq!(world.status().0, Status::Deploying);
    world.settle();
    cat_goes_on(&world, "a:1");
    assert_eq!(world.served_by(), ["a:1"]);
    world.restart();
    world.settle();
    cat_goes_on(&world, "a:1");
    // Elsewhere it is that, too.
    world.set_up(&agent("a:1"), false);
    world.check_all();
    world.pass(GRACE);
    world.settle();
    assert_eq!(code_at(&world, "b:1"), Code::Command(vec!["cat".into()]));
    cat_goes_on(&world, "a:1");
    world.deploy(tac(""));
    world.settle();
    assert_eq!(world.status(), (Status::Deployed, None));
    let function = world.fleet.function("f").expect("it is there");
    assert_eq!(function.version, 3);
    assert_eq!(
        function.previous.as_ref().map(|version| version.number),
        Some(1)
    );
    world
        .fleet
        .roll_back(&name("f"), UNIX_EPOCH)
        .expect("it was something before");
    world.settle();
    assert_eq!(code_at(&world, "b:1"), Code::Command(vec!["cat".into()]));
}

#[test]
fn a_version_that_one_agent_refuses_is_at_none() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(replicas(2));
    world.settle();
    world.deploy(tac(r#", "replicas": 2"#));
    world.plan();
    assert!(world.execute(0, false));
    assert_eq!(code_at(&world, "a:1"), Code::Command(vec!["tac".into()]));
    assert!(world.execute(0, true));
    world.settle();
    cat_goes_on(&world, "b:1");
    for at in ["a:1", "b:1"] {
        assert_eq!(code_at(&world, at), Code::Command(vec!["cat".into()]));
    }
    assert_eq!(world.served_by(), ["a:1", "b:1"]);
}

#[test]
fn who_has_the_version_before_serves_until_another_agent_has_the_next() {
    let mut world = World::of(&["a:1", "b:1"]);
    world.deploy(definition(
        r#"{"name": "f", "command": "cat", "toAgent": "a:1"}"#,
    ));
    world.settle();
    for restarts in [false, true] {
        world.deploy(tac(r#", "toAgent": "b:1""#));
        world.plan();
        assert_eq!(world.served_by(), ["a:1"]);
        if restarts {
            world.restart();
            world.check_all();
            world.plan();
            assert_eq!(world.served_by(), ["a:1"]);
        }
        assert!(world.execute(0, true));
        world.settle();
        assert_eq!(world.status().0, Status::Deployed);
        assert_eq!(world.has(&name("f")), [&agent("a:1")]);
        assert_eq!(world.served_by(), ["a:1"]);
    }
    world.deploy(tac(r#", "toAgent": "b:1""#));
    world.settle();
    assert_eq!(world.has(&name("f")), [&agent("b:1")]);
    assert_eq!(world.served_by(), ["b:1"]);
    // One that goes away while it is to have the next is as one that refuses.
    world.deploy(definition(
        r#"{"name": "f", "command": "cat", "toAgent": "a:1"}"#,
    ));
    world.remove(&agent("a:1"));
    world.settle();
    let gone = Some("there is no agent `a:1` any more".to_owned());
    assert_eq!(world.status(), (Status::Deployed, gone));
    assert_eq!(world.served_by(), ["b:1"]);
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

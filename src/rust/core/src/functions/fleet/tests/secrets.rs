//! Secrets at agents.

use super::*;

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

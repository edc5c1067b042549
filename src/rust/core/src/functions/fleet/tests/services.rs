//! Services of gRPC, each of which is one function's.

use super::*;

fn with_service(name: &str) -> Definition {
    definition(&format!(
        r#"{{"name": "{name}", "url": "grpc://s:1", "services": "a.A", "toAgent": "a:1"}}"#
    ))
}

#[test]
fn a_service_is_anothers_once_nobody_has_the_first_one() {
    let mut world = World::of(&["a:1"]);
    world.deploy(with_service("first"));
    world.settle();
    let refused = world.fleet.deploy(with_service("second"), UNIX_EPOCH);
    let taken = Refusal::ServiceTaken(ServiceTaken {
        service: "a.A".into(),
        function: name("first"),
    });
    assert_eq!(refused, Err(taken));
    world.deploy(with_service("first"));
    world.settle();
    world
        .fleet
        .stop(&name("first"), false)
        .expect("it is there");
    world.deploy(with_service("second"));
    // The agent has the first one still, and would refuse the second.
    world.plan();
    let deploys = |action: &Action| matches!(action, Action::Deploy { .. });
    assert!(!world.actions.iter().any(deploys), "{:?}", world.actions);
    world.settle();
    assert_eq!(world.has(&name("second")), [&agent("a:1")]);
    assert!(world.fleet.roll_back(&name("first"), UNIX_EPOCH).is_err());
}

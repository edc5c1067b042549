//! The one template of an agent: workers of all functions are forked from it.

mod common;

use common::agent::Agent;
use common::local::{is_alive, wait_until};
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// An agent with a template.
fn agent() -> Agent {
    Agent::start(|settings| {
        let mut template = settings.worker.clone();
        let shared = ("FAUCET_TEMPLATE".to_owned(), "shared".to_owned());
        template.env.extend([shared]);
        settings.template = Some(template);
        settings.worker.workers = WorkerRange { min: 0, max: 1 };
    })
}

fn ready(agent: &mut Agent) -> u32 {
    let word = "the template is ready (pid ";
    agent.until_logged(word);
    let line = agent.lines.iter().rev().find(|line| line.contains(word));
    let pid = line.and_then(|line| line.split(word).nth(1)?.split(')').next()?.parse().ok());
    pid.expect("a pid")
}

fn deploy(agent: &Agent, name: &str, code: &str) {
    let bundle = agent.upload(code);
    let answer = agent.deploy(&format!(
        r#"{{"name": "{name}", "bundle": "{bundle}", "env": {{"COLOUR": "{name}"}}}}"#
    ));
    assert_eq!(answer["status"], "deployed", "{answer}");
}

fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let rest = stat.rsplit(") ").next().expect("fields");
    let parent = rest
        .split(' ')
        .nth(1)
        .and_then(|parent| parent.parse().ok());
    parent.expect("a pid")
}

fn pid(agent: &Agent, name: &str) -> u32 {
    let (status, pid) = agent.call(&format!("{name}/pid"));
    assert_eq!(status, 200, "{pid}");
    pid.parse().expect("a pid")
}

#[test]
fn workers_of_all_functions_are_its_children_each_in_its_own_place() {
    let mut agent = agent();
    let template = ready(&mut agent);
    for name in ["red", "blue"] {
        deploy(&agent, name, &format!("native says:{name}"));
        assert_eq!(parent(pid(&agent, name)), template);
        assert_eq!(agent.call(&format!("{name}/says")).1, name);
        assert_eq!(agent.call(&format!("{name}/env:COLOUR")).1, name);
        assert_eq!(agent.call(&format!("{name}/env:FAUCET_FUNCTION")).1, name);
        let own = agent.call(&format!("{name}/env:TMPDIR")).1;
        let counts = agent.call(&format!("{name}/env:FAUCET_METRICS")).1;
        assert_eq!(counts, format!("{own}/metrics"));
    }
    assert_ne!(pid(&agent, "red"), pid(&agent, "blue"));
}

#[test]
fn workers_do_not_mind_its_end_and_another_one_comes() {
    let mut agent = agent();
    let template = ready(&mut agent);
    deploy(&agent, "red", "native says:red");
    let worker = pid(&agent, "red");
    kill(Pid::from_raw(template as i32), Signal::SIGKILL).expect("killed");
    agent.until_logged("its workers go on");
    agent.lines.clear();
    let second = ready(&mut agent);
    assert_ne!(second, template);
    assert_eq!(pid(&agent, "red"), worker);
    assert_eq!(agent.call("red/die").0, 502);
    wait_until("another process serves", || agent.call("red/says").0 == 200);
    assert_eq!(parent(pid(&agent, "red")), second);
}

#[test]
fn it_ends_with_the_agent_also_if_that_is_killed() {
    let mut agent = agent();
    let template = ready(&mut agent);
    deploy(&agent, "red", "native");
    agent.kill();
    wait_until("it has ended", || !is_alive(template));
}

#[test]
fn a_function_that_reads_files_at_the_start_of_r_has_a_process_of_its_own() {
    let mut agent = agent();
    let template = ready(&mut agent);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("code", "native"), (".Rprofile", "")] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let dir = folder.path().display();
    let answer = agent.deploy(&format!(r#"{{"name": "own", "dir": "{dir}"}}"#));
    assert_eq!(answer["status"], "deployed", "{answer}");
    assert_ne!(parent(pid(&agent, "own")), template);
}

#[test]
fn options_that_do_not_fit_are_refused_before_a_worker_is_asked() {
    let agent = Agent::start(|_| {});
    let signature =
        r#"{"parameters":[{"name":"n","type":"integer","required":true}],"open":false}"#;
    deploy(
        &agent,
        "one",
        &format!("signature:{signature} native says:one"),
    );
    assert_eq!(agent.call("one/says?n=1"), (200, "one".into()));
    let details = agent.json("GET", "/details?name=one", "");
    assert_eq!(details[0]["signature"]["parameters"][0]["name"], "n");
    // The worker dies of what it is asked there, if it is.
    for (query, error) in [
        (
            "",
            r#"{"error":"option `n` is missing, and has no default","option":"n"}"#,
        ),
        (
            "?n=x",
            r#"{"error":"option `n` must be a whole number","option":"n"}"#,
        ),
        (
            "?n=1&m=2",
            r#"{"error":"there is no option `m`","option":"m"}"#,
        ),
    ] {
        assert_eq!(agent.call(&format!("one/die{query}")), (400, error.into()));
    }
    assert_eq!(agent.call("one/die?=1").0, 400);
    assert_eq!(agent.call("one/says?n=1").0, 200);
}

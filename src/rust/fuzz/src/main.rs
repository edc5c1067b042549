//! The target of faucet-core's that the environment names (`FUZZ_TARGET`), under libFuzzer. See `tools/fuzz`.

#![no_main]

use std::sync::OnceLock;

use faucet_core::fuzz::TARGETS;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn named() -> fn(&[u8]) {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let Some((_, run)) = found else {
        let known: Vec<&str> = TARGETS.iter().map(|(target, _)| *target).collect();
        eprintln!(
            "There is no target `{name}`; there are {}.",
            known.join(", ")
        );
        std::process::exit(2);
    };
    *run
}

fuzz_target!(|data: &[u8]| TARGET.get_or_init(named)(data));

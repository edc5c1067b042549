//! What parses bytes of others, a function each: whatever the bytes are, it does not panic, and what it says holds.
//!
//! `../fuzz` runs them under libFuzzer. The tests here run them on the corpus in `tests/corpus`, a folder for each target, and
//! on what mutations make of it. Inputs that once broke something stay there.

use crate::{app_metrics, compiled, front, functions, serve, sources, worker};

/// A target's name, and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 12] = [
    ("compiled", compiled::fuzz::target),
    ("metrics", app_metrics::fuzz::metrics),
    ("raw_head", front::fuzz::raw_head),
    ("frames", front::fuzz::frames),
    ("headers", front::fuzz::headers),
    ("proxies", front::fuzz::proxies),
    ("chain", functions::fuzz::chain),
    ("control", serve::fuzz::control),
    ("metadata", serve::fuzz::metadata),
    ("answer", worker::fuzz::answer),
    ("url", sources::replicas::fuzz::url),
    ("dns", sources::replicas::fuzz::dns),
];

/// A head's lines as headers; what is none is left out.
pub(crate) fn headers_of(data: &[u8]) -> hyper::HeaderMap {
    let mut headers = hyper::HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let name = hyper::header::HeaderName::from_bytes(name);
        let value = hyper::header::HeaderValue::from_bytes(trimmed(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Without the spaces before a value.
fn trimmed(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !b" \t".contains(byte));
    &value[start.unwrap_or(value.len())..]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The inputs of a target.
    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let files = std::fs::read_dir(folder.join(name)).expect("a folder for each target");
        let inputs: Vec<_> = files
            .map(|file| std::fs::read(file.expect("an entry").path()).expect("a file"))
            .collect();
        assert!(!inputs.is_empty(), "{name}");
        inputs
    }

    #[test]
    fn the_corpus_holds() {
        for (name, run) in TARGETS {
            for input in corpus(name) {
                run(&input);
            }
        }
    }

    /// Places of an input, as shares of its length, and what is put there in place of so many bytes.
    type Edit = (u16, u8, Vec<u8>);

    fn edited(mut input: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
        for (place, gone, new) in edits {
            let start = usize::from(*place) * input.len() / usize::from(u16::MAX);
            let end = input.len().min(start + usize::from(*gone));
            input.splice(start..end, new.iter().copied());
        }
        input
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_mutations_make_of_it_holds(
            target in 0..TARGETS.len(),
            which in any::<prop::sample::Index>(),
            edits in prop::collection::vec((any::<u16>(), 0u8..4, prop::collection::vec(any::<u8>(), 0..4)), 0..6),
        ) {
            let (name, run) = TARGETS[target];
            let inputs = corpus(name);
            run(&edited(inputs[which.index(inputs.len())].clone(), &edits));
        }

        #[test]
        fn what_nobody_would_send_holds(
            target in 0..TARGETS.len(),
            input in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            TARGETS[target].1(&input);
        }
    }
}

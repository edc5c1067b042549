//! Fuzz target: the chain of a call.

use super::Chain;

/// What is read is shown, and read back as the same; what is not has a place.
pub fn chain(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Chain::parse(text) {
        Ok(chain) => {
            assert!(!chain.stages.is_empty());
            let shown = chain.to_string();
            // The form that is shown can be longer than what was read.
            if let Ok(again) = Chain::parse(&shown) {
                assert_eq!(again.to_string(), shown);
            }
        }
        Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.column)),
    }
}

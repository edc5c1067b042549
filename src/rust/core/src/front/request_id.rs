//! Makes `X-Request-Id`s: 128 bits, unique over restarts and machines, not meant to be secret.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hyper::header::HeaderValue;

/// A random start, then one step of SplitMix64 (Steele, Lea, Flood 2014) for each half of an id.
struct Ids {
    prefix: u64,
    state: u64,
}

impl Ids {
    fn seeded() -> Self {
        // RandomState is seeded by the operating system; it saves a dependency for two numbers.
        let random = || RandomState::new().build_hasher().finish();
        Self {
            prefix: random(),
            state: random(),
        }
    }

    fn step(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

thread_local! {
    static IDS: Cell<Ids> = Cell::new(Ids::seeded());
}

/// A new id of 32 hexadecimal digits.
pub fn new_request_id() -> HeaderValue {
    let (high, low) = IDS.with(|cell| {
        let mut ids = cell.replace(Ids {
            prefix: 0,
            state: 0,
        });
        let low = ids.step();
        let high = ids.prefix;
        cell.set(ids);
        (high, low)
    });
    let mut text = [0u8; 32];
    for (half, digits) in [high, low].into_iter().zip(text.chunks_exact_mut(16)) {
        for (byte, pair) in half
            .to_be_bytes()
            .into_iter()
            .zip(digits.chunks_exact_mut(2))
        {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_one_length() {
        let ids: std::collections::HashSet<_> = (0..1000)
            .map(|_| new_request_id().as_bytes().to_vec())
            .collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}

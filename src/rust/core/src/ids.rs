//! Numbers that are used once: unique over restarts and machines, not meant to be secret.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A random start, then one step of SplitMix64 (Steele, Lea, Flood 2014) for the lower half of each number.
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

/// The next number: 128 bits, of which the upper half is the thread's own.
pub fn next() -> u128 {
    IDS.with(|cell| {
        let mut ids = cell.replace(Ids {
            prefix: 0,
            state: 0,
        });
        let low = ids.step();
        let high = ids.prefix;
        cell.set(ids);
        u128::from(high) << 64 | u128::from(low)
    })
}

/// Writes bytes as hexadecimal digits into `text`, which has two for each.
pub fn write_hex(bytes: &[u8], text: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
    }
}

//! Names of sessions that only this pool can have made.

use std::io;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Which session, on which worker. No two workers of a server have the same generation, and no two sessions of a pool the
/// same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId {
    pub generation: u64,
    pub number: u64,
}

/// Signs names with a key of its own, which is random.
pub struct Signer(Hmac<Sha256>);

/// Hexadecimal digits of a signature.
const DIGITS: usize = 64;

/// The longest name: two numbers, the signature, and what is between them.
const LONGEST: usize = 2 * 16 + DIGITS + 2;

impl Signer {
    /// # Errors
    /// If the system has no random numbers.
    pub fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let keyed = Hmac::new_from_slice(&key).map_err(io::Error::other)?;
        Ok(Self(keyed))
    }

    /// The name, as text for a cookie.
    pub fn sign(&self, id: SessionId) -> String {
        let mut text = format!("{:x}.{:x}", id.generation, id.number);
        let signature = self.keyed(&text).finalize().into_bytes();
        text.push('.');
        for byte in signature {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    /// Whom a text names, if this signer has signed it.
    pub fn verify(&self, text: &str) -> Option<SessionId> {
        if text.len() > LONGEST || !text.is_ascii() {
            return None;
        }
        let (name, digits) = text.rsplit_once('.')?;
        let mut signature = [0; DIGITS / 2];
        if digits.len() != DIGITS {
            return None;
        }
        for (at, byte) in signature.iter_mut().enumerate() {
            *byte = number(&digits[2 * at..2 * at + 2])? as u8;
        }
        // In constant time: how much of a signature is right is not told.
        self.keyed(name).verify_slice(&signature).ok()?;
        let (generation, counter) = name.split_once('.')?;
        Some(SessionId {
            generation: number(generation)?,
            number: number(counter)?,
        })
    }

    fn keyed(&self, name: &str) -> Hmac<Sha256> {
        let mut keyed = self.0.clone();
        keyed.update(name.as_bytes());
        keyed
    }
}

/// Hexadecimal digits, without a sign, which Rust would take.
fn number(digits: &str) -> Option<u64> {
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

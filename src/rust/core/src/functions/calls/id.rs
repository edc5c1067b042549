//! What a call is known by.

use std::fmt;
use std::io;

/// 128 bits of the system's randomness: who knows it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u128);

impl CallId {
    /// Another one each time.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// Of 32 hexadecimal digits, as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = text.len() == 32 && text.bytes().all(is_digit);
        let number = u128::from_str_radix(text, 16).ok();
        number.filter(|_| fits).map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for id in [CallId(0), CallId(u128::MAX), CallId::new().expect("random")] {
            assert_eq!(CallId::parse(&id.to_string()), Some(id));
        }
        let short = "0".repeat(31);
        for text in ["", "x", &short, &format!("{short}A"), &format!("+{short}")] {
            assert_eq!(CallId::parse(text), None, "{text}");
        }
        assert_ne!(
            CallId::new().expect("random"),
            CallId::new().expect("random")
        );
    }
}

//! Compiled routes: what a router of plumber's does before and after a handler, worked out before the first request.
//!
//! R reads the router and describes it (`R/compile.R`): which of its endpoints are plain, in the order in which plumber looks at
//! them. For each request [`Table::find`] says which endpoint plumber would come to, and [`Query`] what its arguments are. Where
//! the answer is not certain there is none, and the request takes plumber's own way: nothing in here guesses.
//!
//! The reference is plumber's own code, the same from 1.2.1 to 1.3.3: `Plumber$route()`, `createPathRegex()`,
//! `extractPathParams()`, `parseQS()` and `parseCookies()`.

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod path;
mod query;
mod table;

pub use path::{Kind, Pattern};
pub use query::Query;
pub use table::{Endpoint, Found, Router, Table};

/// Whether text, a query or a header `Cookie`, is visible ASCII, in which each `%` begins an escape of another ASCII character,
/// NUL excepted: then plumber takes it apart without an error or a warning, and what is decoded is the same in every locale.
pub fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            match bytes.get(at + 1..at + 3).and_then(escaped) {
                Some(1..=127) => at += 3,
                _ => return false,
            }
        } else if byte == b' ' || byte.is_ascii_graphic() {
            at += 1;
        } else {
            return false;
        }
    }
    true
}

/// The byte that two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(digits[at]).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Plain text without its escapes.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn what_plumber_might_stumble_over_is_not_plain() {
        for plain in ["", "a=1", "a=1; b=%20x", "a; =b;;c==", " a = %7f"] {
            assert!(is_plain(plain), "{plain}");
        }
        for odd in ["a=%", "a=%e4", "a=%00", "a=%zz", "a=%1", "a=ä", "a=1;\tb=2"] {
            assert!(!is_plain(odd), "{odd}");
        }
    }
}

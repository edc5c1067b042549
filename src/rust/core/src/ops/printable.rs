//! Text of others, made fit to be shown: valid UTF-8 without anything that a terminal obeys.
//!
//! What workers print, what DNS answers, and what an error quotes is nobody's to trust. Escape sequences (colours,
//! cursor movements, titles) are left out; other control characters, bytes that are no UTF-8, and characters that
//! reorder or hide text are shown as `\x07`, `\xff` and `\u{202e}`. It is for reading, not for reversing: a backslash
//! stays one.

use std::borrow::Cow;
use std::fmt::Write;

/// Of a longer line the rest is left out, in bytes.
pub const LONGEST: usize = 8 * 1024;

/// One line of anyone's, of which `left_out` bytes more were not kept.
pub fn line(bytes: &[u8], left_out: u64) -> String {
    let kept = &bytes[..bytes.len().min(LONGEST)];
    let left_out = left_out + (bytes.len() - kept.len()) as u64;
    let mut shown = printable(kept);
    if left_out > 0 {
        // Writing to a String cannot fail.
        let _ = write!(shown, " ... ({left_out} bytes more)");
    }
    shown
}

/// One line of ours, which may quote others.
pub fn one_line(text: String) -> String {
    if text.chars().all(is_shown) {
        text
    } else {
        printable(text.as_bytes())
    }
}

/// Text that may have several lines.
pub fn text(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || is_shown(c)) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| printable(line.as_bytes()))
        .collect();
    Cow::Owned(lines.join("\n"))
}

fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, 0),
            Err(error) => {
                let valid = error.valid_up_to();
                let bad = error.error_len().unwrap_or(rest.len() - valid);
                // Just found to be valid.
                (std::str::from_utf8(&rest[..valid]).unwrap_or(""), bad)
            }
        };
        let taken = show(valid, rest, &mut shown);
        rest = &rest[taken..];
        if taken == valid.len() {
            for byte in &rest[..bad] {
                let _ = write!(shown, "\\x{byte:02x}");
            }
            rest = &rest[bad..];
        }
    }
    shown
}

/// Shows `valid`, with which `all` begins. Returns how much of `all` was taken: an escape sequence may hold what is not
/// valid.
fn show(valid: &str, all: &[u8], shown: &mut String) -> usize {
    let mut at = 0;
    while let Some(c) = valid.get(at..).and_then(|rest| rest.chars().next()) {
        at += c.len_utf8();
        if is_shown(c) {
            shown.push(c);
        } else if c == '\u{1b}' {
            match sequence(&all[at..]) {
                Some(length) => at += length,
                None => shown.push_str("\\x1b"),
            }
        } else {
            let _ = match c {
                '\n' => write!(shown, "\\n"),
                '\r' => write!(shown, "\\r"),
                '\0'..='\x7f' => write!(shown, "\\x{:02x}", u32::from(c)),
                _ => write!(shown, "\\u{{{:x}}}", u32::from(c)),
            };
        }
    }
    at
}

/// The length of the escape sequence whose ESC comes before these bytes, if it is complete: ECMA-48's control sequences
/// (`[`), strings (`]`, `P`, `X`, `^`, `_`, up to BEL or ESC `\`) and the short ones.
fn sequence(bytes: &[u8]) -> Option<usize> {
    let (first, rest) = bytes.split_first()?;
    let length = match first {
        b'[' => {
            let parameters = run(rest, |byte| matches!(byte, 0x30..=0x3f));
            let between = run(&rest[parameters..], |byte| matches!(byte, 0x20..=0x2f));
            let end = parameters + between;
            matches!(rest.get(end)?, 0x40..=0x7e).then_some(end + 1)?
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let end = run(rest, |byte| byte >= 0x20 || byte == b'\t');
            match (rest.get(end)?, rest.get(end + 1)) {
                (0x07, _) => end + 1,
                (0x1b, Some(b'\\')) => end + 2,
                _ => return None,
            }
        }
        0x20..=0x2f => {
            let between = run(rest, |byte| matches!(byte, 0x20..=0x2f));
            matches!(rest.get(between)?, 0x30..=0x7e).then_some(between + 1)?
        }
        0x30..=0x7e => 0,
        _ => return None,
    };
    Some(1 + length)
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|byte| !belongs(*byte))
        .unwrap_or(bytes.len())
}

/// Whether a character is shown as it is. Joiners are, which emoji and some scripts need; marks that change the
/// direction, separate lines or have no width are not.
fn is_shown(c: char) -> bool {
    match c {
        ' '..='~' | '\t' => true,
        c if c.is_control() => false,
        '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{e0000}'..='\u{e007f}' => false,
        // Noncharacters, two at the end of each plane.
        c => u32::from(c) & 0xfffe != 0xfffe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        line(bytes, 0)
    }

    #[test]
    fn text_stays_as_it_is() {
        for plain in ["", "a\tb", "C:\\temp", "größe 日本 👨‍👩‍👧", "x\u{301}"] {
            assert_eq!(shown(plain.as_bytes()), plain);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_left_out() {
        for sequence in [
            "\u{1b}[31m",
            "\u{1b}[1;1H",
            "\u{1b}[?25l",
            "\u{1b}[38;5;3 q",
            "\u{1b}c",
            "\u{1b}(B",
            "\u{1b}]0;a title\u{7}",
            "\u{1b}]8;;http://x\u{1b}\\",
            "\u{1b}P1$r\u{1b}\\",
        ] {
            assert_eq!(
                shown(format!("a{sequence}b").as_bytes()),
                "ab",
                "{sequence:?}"
            );
        }
        assert_eq!(shown(b"a\x1b]0;\xff\xfe\x07b"), "ab");
    }

    #[test]
    fn what_is_none_or_not_complete_is_shown() {
        assert_eq!(shown(b"a\x1b"), "a\\x1b");
        assert_eq!(shown(b"a\x1b[31"), "a\\x1b[31");
        assert_eq!(shown(b"a\x1b]0;title"), "a\\x1b]0;title");
        assert_eq!(shown(b"a\x1b]0;\x1b[31mb"), "a\\x1b]0;b");
        assert_eq!(shown(b"a\x1b\xc3\xa4"), "a\\x1b\u{e4}");
        assert_eq!(shown(b"a\0b\x08\x7f"), "a\\x00b\\x08\\x7f");
        assert_eq!(shown(b"gr\xfc\xdfe"), "gr\\xfc\\xdfe");
        assert_eq!(shown(b"cut \xe6\x97"), "cut \\xe6\\x97");
        assert_eq!(
            shown("\u{9b}31m\u{85}\u{202e}\u{2066}".as_bytes()),
            "\\u{9b}31m\\u{85}\\u{202e}\\u{2066}"
        );
    }

    #[test]
    fn long_lines_are_cut_and_say_so() {
        let cut = line(&[b'x'; LONGEST + 5], 10);
        assert!(cut.ends_with("x ... (15 bytes more)"), "{cut}");
        assert!(cut.len() < LONGEST + 50);
    }

    #[test]
    fn several_lines_stay_several() {
        assert!(matches!(text("a\nb"), Cow::Borrowed("a\nb")));
        assert_eq!(text("a\0\nb\r"), "a\\x00\nb\\r");
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\x1b".to_vec()),
            Just(b"\x1b[".to_vec()),
            Just(b"\x1b]".to_vec()),
            Just(b"\x1b\\".to_vec()),
            Just("\u{202e}".as_bytes().to_vec()),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_comes_is_printable_bounded_and_final(bytes in hostile()) {
            let once = shown(&bytes);
            prop_assert!(once.chars().all(is_shown), "{once:?}");
            prop_assert!(once.len() <= 4 * bytes.len());
            prop_assert_eq!(shown(once.as_bytes()), once);
        }
    }
}

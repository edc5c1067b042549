//! Makes of any text one that a line, a terminal and whoever reads it take for what it is.

use std::borrow::Cow;
use std::fmt::Write;

/// A word of a line: nothing in it is a space, looks like none, turns the text around or moves a cursor. What is not printable
/// is written as Rust writes it, `\u{202e}`, and a backslash as two.
pub fn word(text: &str) -> Cow<'_, str> {
    escaped(text, |byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// The same for several words, whose backslashes are their own.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |byte| byte.is_ascii_graphic() || byte == b' ')
}

fn escaped(text: &str, is_plain: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if text.bytes().all(&is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => {
                if is_plain(byte) {
                    escaped.push(character);
                } else if byte == b'\\' {
                    escaped.push_str("\\\\");
                } else {
                    escaped.extend(character.escape_unicode());
                }
            }
            // What is printable beyond ASCII stays: letters of all scripts.
            _ => escaped.extend(character.escape_debug()),
        }
    }
    Cow::Owned(escaped)
}

/// JSON that was written without line breaks, with all that is not printable in its own escapes.
pub fn json(text: String) -> String {
    if text.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        // Outside of strings all is ASCII, and inside quotes and backslashes are escaped already.
        let is_plain = match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => byte != 0x7f,
            _ => character.escape_debug().len() == 1,
        };
        if is_plain {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns the text around, ends a line for some, is a space for others, hides itself, is none yet.
    const HOSTILE: &str =
        "/\u{202e}gpj\u{85}\u{2028}\u{2029}\u{a0}\u{3000}\u{200b}\u{feff}\u{e0041}\u{1b}[2J\u{9b}\u{7f}\r\n\t\0\u{378}";

    fn is_safe(text: &str) -> bool {
        text.chars()
            .all(|character| character.is_ascii_graphic() || character.is_alphanumeric())
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        assert_eq!(
            word("/\u{202e}a\u{85}b\u{2028}"),
            "/\\u{202e}a\\u{85}b\\u{2028}"
        );
        assert!(is_safe(&word(HOSTILE)), "{}", word(HOSTILE));
        assert!(is_safe(&line(HOSTILE)), "{}", line(HOSTILE));
    }

    #[test]
    fn what_is_printable_stays() {
        assert!(matches!(word("/a?b=%20&c=\"{}"), Cow::Borrowed(_)));
        assert_eq!(word("/größe/数/🦆"), "/größe/数/🦆");
        assert_eq!(line("worker 1 \"said\" \\n"), "worker 1 \"said\" \\n");
    }

    #[test]
    fn an_escape_cannot_be_forged() {
        assert_eq!(word("/\\u{202e} 200"), "/\\\\u{202e}\\u{20}200");
    }

    #[test]
    fn json_says_the_same_when_it_is_escaped() {
        let plain = serde_json::json!({ "path": HOSTILE, "größe": "🦆" }).to_string();
        let escaped = json(plain.clone());
        assert!(
            escaped
                .chars()
                .all(|c| c == '🦆' || c == 'ö' || c == 'ß' || c.is_ascii_graphic()),
            "{escaped}"
        );
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parse(&escaped), parse(&plain));
    }
}

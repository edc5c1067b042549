//! `traceparent` and `tracestate`, as W3C Trace Context (level 1) has them.

use hyper::header::{HeaderName, HeaderValue};
use hyper::HeaderMap;

use crate::ids;

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Version 00: `00-<trace>-<span>-<flags>`, in bytes.
const LENGTH: usize = 55;

const SAMPLED: u8 = 1;

/// Flags that are passed on: sampled, and (level 2) that the trace's id is random.
const KNOWN_FLAGS: u8 = 3;

/// A place in a trace: the span that is the parent of what comes next. Neither id is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: u128,
    pub span: u64,
    flags: u8,
}

impl TraceContext {
    /// What a request says; `None` if it says nothing, or nothing sound.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        // Of two, nobody knows which one is meant.
        values.next().is_none().then_some(())?;
        Self::parse(value.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let fields = text.get(..LENGTH)?;
        let version = hex(&fields[..2])?;
        let dashes = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        let ends = match version {
            0 => text.len() == LENGTH,
            // Of a later one, what this one has.
            1..=254 => text.len() == LENGTH || text[LENGTH] == b'-',
            _ => false,
        };
        let context = Self {
            trace: hex(&fields[3..35])?,
            span: u64::try_from(hex(&fields[36..52])?).ok()?,
            flags: u8::try_from(hex(&fields[53..55])?).ok()? & KNOWN_FLAGS,
        };
        (dashes && ends && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// The first span of a new trace.
    pub fn new(sampled: bool) -> Self {
        Self {
            trace: ids::next().max(1),
            span: new_span(),
            flags: u8::from(sampled),
        }
    }

    /// Another span of the same trace.
    pub fn child(self) -> Self {
        Self {
            span: new_span(),
            ..self
        }
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As a request has it.
    pub fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        ids::write_hex(&self.trace.to_be_bytes(), &mut text[3..35]);
        ids::write_hex(&self.span.to_be_bytes(), &mut text[36..52]);
        ids::write_hex(&[self.flags], &mut text[53..55]);
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("00"))
    }

    /// Has a request say this. Its `tracestate` is that of its parent, if it has one.
    pub fn tell(self, headers: &mut HeaderMap, has_parent: bool) {
        headers.insert(TRACEPARENT, self.header());
        if !has_parent {
            headers.remove(TRACESTATE);
        }
    }
}

fn new_span() -> u64 {
    // The half that differs from one to the next.
    (ids::next() as u64).max(1)
}

/// Lower-case digits alone.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Removes what a request says of a trace if that is not sound, so that nobody behind takes it for something.
pub fn drop_unsound(headers: &mut HeaderMap) {
    if headers.contains_key(TRACEPARENT) && TraceContext::of(headers).is_none() {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

/// The same, and has a request that is in no trace begin one, which nobody records.
pub fn begin_unsampled(headers: &mut HeaderMap) {
    if TraceContext::of(headers).is_none() {
        TraceContext::new(false).tell(headers, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a value"));
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers
    }

    #[test]
    fn a_sound_one_is_read_and_written() {
        let context = TraceContext::of(&with(&[SOUND])).expect("sound");
        assert_eq!(context.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.header(), SOUND);
        let child = context.child();
        assert_eq!(child.trace, context.trace);
        assert_ne!(child.span, context.span);
        let later = SOUND.replacen("00", "cc", 1);
        assert!(TraceContext::of(&with(&[&format!("{later}-more")])).is_some());
        assert!(TraceContext::of(&with(&[&later])).is_some());
    }

    #[test]
    fn what_is_not_sound_is_dropped_with_its_state() {
        let trace = &SOUND[..35];
        for unsound in [
            "",
            "00",
            &SOUND.to_uppercase(),
            &SOUND.replacen("00", "ff", 1),
            &SOUND.replacen("00", "0g", 1),
            &format!("{SOUND}-more"),
            &format!("{}more", SOUND.replacen("00", "cc", 1)),
            &SOUND.replace('-', "_"),
            &format!("{trace}-0000000000000000-01"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            &SOUND[..54],
        ] {
            let mut headers = with(&[unsound]);
            assert_eq!(TraceContext::of(&headers), None, "{unsound}");
            drop_unsound(&mut headers);
            assert!(headers.is_empty(), "{unsound}");
        }
        let mut headers = with(&[SOUND, SOUND]);
        drop_unsound(&mut headers);
        assert!(headers.is_empty());
        let mut headers = with(&[SOUND]);
        drop_unsound(&mut headers);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_request_in_no_trace_begins_one_that_is_not_recorded() {
        let mut headers = with(&[]);
        begin_unsampled(&mut headers);
        let begun = TraceContext::of(&headers).expect("one");
        assert!(!begun.is_sampled());
        assert!(!headers.contains_key(TRACESTATE));
        let mut headers = with(&[SOUND]);
        begin_unsampled(&mut headers);
        assert_eq!(headers[TRACEPARENT], SOUND);
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }
}

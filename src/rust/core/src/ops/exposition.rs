//! The two forms of Prometheus' text, and which of them a client asks for.
//!
//! The metrics are rendered as OpenMetrics. The classic format is older, and what is read by whoever does not name another one: it
//! has a counter's whole name in its comments, no units, and no end.

use std::borrow::Cow;
use std::fmt::Write;

use hyper::header::ACCEPT;
use hyper::HeaderMap;

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    Classic,
    OpenMetrics,
}

impl Exposition {
    /// What a client asks for: OpenMetrics if it names that, and nothing else of ours that it likes better.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let (mut open, mut classic) = (0.0, 0.0);
        let lines = headers.get_all(ACCEPT).iter();
        let ranges = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0_f64, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value.to_owned()),
                    _ => {}
                }
            }
            match (kind.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                    open = quality.max(open);
                }
                ("text/plain", None | Some("0.0.4")) => classic = quality.max(classic),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics in this form.
    pub fn of(self, open: String) -> String {
        match self {
            Self::Classic => classic(&open),
            Self::OpenMetrics => open,
        }
    }
}

fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    // Writing to a String cannot fail.
    let mut put = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    // `HELP` comes before the type, which decides about the name.
    let mut help = None;
    for line in open.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            // The same in both: exemplars and times, which are not, there are none of.
            put(format_args!("{line}"));
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(name), text) => help = Some((name, text.unwrap_or_default())),
            (Some("TYPE"), Some(name), Some(kind)) => {
                let (ending, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "histogram" | "gauge" | "summary" => ("", kind),
                    _ => ("", "untyped"),
                };
                if let Some((of, text)) = help.take() {
                    if of == name {
                        put(format_args!("# HELP {name}{ending} {}", help_text(text)));
                    }
                }
                put(format_args!("# TYPE {name}{ending} {kind}"));
            }
            // Units and the end.
            _ => {}
        }
    }
    text
}

/// OpenMetrics escapes quotes, too.
fn help_text(text: &str) -> Cow<'_, str> {
    if text.contains("\\\"") {
        text.replace("\\\"", "\"").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn accepted(accept: &'static str) -> Exposition {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Exposition::accepted(&headers)
    }

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        use Exposition::{Classic, OpenMetrics};
        assert_eq!(Exposition::accepted(&HeaderMap::new()), Classic);
        for (accept, exposition) in [
            ("*/*", Classic),
            ("text/html", Classic),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Classic),
            ("application/openmetrics-text", OpenMetrics),
            // Prometheus 2.42 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Classic),
            ("application/openmetrics-text;q=0", Classic),
            ("application/openmetrics-text;version=2.0.0", Classic),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.5", OpenMetrics),
        ] {
            assert_eq!(accepted(accept), exposition, "{accept}");
        }
    }

    #[test]
    fn the_classic_form_says_the_same() {
        let open = "# HELP faucet_requests Requests, \\\"all\\\".\n\
            # TYPE faucet_requests counter\n\
            faucet_requests_total{cause=\" # TYPE\"} 1\n\
            # HELP faucet_wait_seconds Wait.\n\
            # TYPE faucet_wait_seconds histogram\n\
            # UNIT faucet_wait_seconds seconds\n\
            faucet_wait_seconds_bucket{le=\"+Inf\"} 0\n\
            # HELP faucet_size Size.\n\
            # TYPE faucet_size unknown\n\
            faucet_size 7\n\
            # EOF\n";
        assert_eq!(
            classic(open),
            "# HELP faucet_requests_total Requests, \"all\".\n\
            # TYPE faucet_requests_total counter\n\
            faucet_requests_total{cause=\" # TYPE\"} 1\n\
            # HELP faucet_wait_seconds Wait.\n\
            # TYPE faucet_wait_seconds histogram\n\
            faucet_wait_seconds_bucket{le=\"+Inf\"} 0\n\
            # HELP faucet_size Size.\n\
            # TYPE faucet_size untyped\n\
            faucet_size 7\n"
        );
    }
}

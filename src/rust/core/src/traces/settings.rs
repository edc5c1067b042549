//! Where spans are sent.

use crate::client::ServerAddress;

/// Where an OTLP collector takes spans.
const PATH: &str = "/v1/traces";

/// The collector that is told of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    pub(super) address: ServerAddress,
    /// Behind its base.
    pub(super) path: &'static str,
}

impl TraceSettings {
    /// Reads a collector's URL, such as `http://collector:4318`; spans are sent to `/v1/traces` below it.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err("It must begin with http:// or https://.".into());
        }
        let base = text.trim_end_matches('/');
        // As some write it.
        let base = base.strip_suffix(PATH).unwrap_or(base);
        Ok(Self {
            address: ServerAddress::parse(base)?,
            path: PATH,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_collectors_url() {
        for (text, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318"),
            ("http://localhost:4318/v1/traces", "http://localhost:4318"),
            (
                "https://otlp.example.com/api",
                "https://otlp.example.com:443/api",
            ),
        ] {
            let settings = TraceSettings::parse(text).expect(text);
            assert_eq!(settings.address.to_string(), shown);
        }
        for text in [
            "",
            "collector:4318",
            "unix:/run/x",
            "grpc://a",
            "http://",
            "http://a:b@c",
        ] {
            assert!(TraceSettings::parse(text).is_err(), "{text}");
        }
    }
}

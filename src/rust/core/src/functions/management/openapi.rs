//! What management can be asked for, as a document that other programs read: OpenAPI 3.0.

use serde_json::Value;

/// The document, for a server that its client calls by `base`.
pub fn openapi(base: &str) -> Value {
    let mut document: Value =
        serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    document["servers"] = serde_json::json!([{ "url": base }]);
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json() {
        let document = openapi("http://localhost:9000");
        assert_eq!(document["openapi"], "3.0.3");
        assert_eq!(document["servers"][0]["url"], "http://localhost:9000");
    }
}

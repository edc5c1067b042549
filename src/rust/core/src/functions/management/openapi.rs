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
    use super::super::ask::{is_management, Ask, PATHS};
    use super::*;
    use crate::front::Told;

    #[test]
    fn the_document_is_json() {
        let document = openapi("http://localhost:9000");
        assert_eq!(document["openapi"], "3.0.3");
        assert_eq!(document["servers"][0]["url"], "http://localhost:9000");
    }

    /// So that nothing is served which the document does not have, and the other way round.
    #[test]
    fn every_operation_of_the_document_can_be_asked() {
        let document = openapi("http://localhost:9000");
        let paths = document["paths"].as_object().expect("paths");
        for (path, operations) in paths {
            let path = path.replace('{', "").replace('}', "");
            assert_eq!(is_management(&path), !path.starts_with("/functions/"));
            let operations = operations.as_object().expect("operations");
            for method in operations.keys().filter(|key| *key != "parameters") {
                let method = method.to_uppercase().parse().expect("a method");
                let asked = Ask::read(&method, &path.parse().expect("a path"), b"");
                let known = !matches!(asked, Err(Told::WrongMethod(_)));
                assert_eq!(known, is_management(&path), "{method} {path}");
            }
        }
        for path in PATHS.iter().filter(|path| is_management(path)) {
            assert!(paths.contains_key(*path), "{path}");
        }
    }
}

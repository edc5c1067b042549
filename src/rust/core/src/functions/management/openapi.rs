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
    use crate::functions::{calls, Definition};
    use hyper::HeaderMap;

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
            // Chains and functions are called elsewhere, and another room asks of calls.
            let path = path
                .replace("{id}", &"0".repeat(32))
                .replace(['{', '}'], "");
            let is_elsewhere = path.starts_with("/functions/") || path == "/invoke";
            let (managed, of_calls) = (is_management(&path), calls::is_for(&path));
            assert_eq!(managed || of_calls, !is_elsewhere, "{path}");
            let operations = operations.as_object().expect("operations");
            for method in operations.keys().filter(|key| *key != "parameters") {
                let method = method.to_uppercase().parse().expect("a method");
                let uri = path.parse().expect("a path");
                let refused = match of_calls {
                    true => calls::Ask::read(&method, &uri, &HeaderMap::new()).err(),
                    false => Ask::read(&method, &uri, b"").err(),
                };
                let known = !matches!(refused, Some(Told::WrongMethod(_)));
                assert_eq!(known, !is_elsewhere, "{method} {path}");
            }
        }
        for path in PATHS.iter().filter(|path| is_management(path)) {
            assert!(paths.contains_key(*path), "{path}");
        }
    }

    #[test]
    fn the_fields_of_a_definition_are_those_of_the_document() {
        let document = openapi("http://localhost:9000");
        let fields = &document["components"]["schemas"]["Definition"]["properties"];
        let fields = fields.as_object().expect("fields");
        for field in fields.keys() {
            // What none of them takes.
            let mut definition = serde_json::json!({ "name": "a", "command": "cat" });
            definition[field] = serde_json::json!({ "no": 1 });
            let problem = Definition::parse_all(definition.to_string().as_bytes());
            let problem = problem.expect_err(field);
            assert!(!problem.message.contains("no field"), "{problem}");
        }
        let json = br#"{"name": "a", "command": "cat", "options": "n", "filePath": "a.R", "toAgent": "a:1", "workers": 1,
            "replicas": 1, "secrets": "db", "env": {}, "timeout": 1, "maxBody": 1, "queue": 1, "memory": 1, "cpuTime": 1,
            "stream": true}"#;
        let definition = Definition::parse_all(json).expect("valid").remove(0);
        let json = br#"{"name": "a", "url": "grpc://a:1", "services": "a.B"}"#;
        let service = Definition::parse_all(json).expect("valid").remove(0);
        for definition in [definition, service] {
            for field in definition.to_json().as_object().expect("fields").keys() {
                assert!(fields.contains_key(field), "{field}");
            }
        }
    }
}

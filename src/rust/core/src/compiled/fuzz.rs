//! See [`crate::fuzz`].

use super::{Endpoint, Kind, Pattern, Query, Router, Table};

/// The first line is a path, the second a query.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(found) = table().find("GET", path) {
        // What matches was there.
        assert!(found
            .values
            .iter()
            .all(|value| path.contains(value.as_str())));
        assert!(found.mounted_at < path.len());
    }
    let Some(Query(keys)) = Query::parse(query) else {
        return;
    };
    for (key, values) in keys {
        assert!(!key.is_empty() && key.is_ascii());
        for value in values {
            assert!(!value.is_empty() && value.is_ascii());
            // The same again, however it was written.
            let escaped = |text: &str| {
                text.bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect::<String>()
            };
            let again = Query::parse(&format!("{}={}", escaped(&key), escaped(&value)));
            assert_eq!(again, Some(Query(vec![(key.clone(), vec![value])])));
        }
    }
}

fn table() -> Table {
    let endpoint = |expression, kinds: &[Kind], number| Endpoint {
        methods: vec!["GET".to_owned()],
        pattern: Pattern::new(expression, kinds),
        compiled: Some(number),
    };
    let endpoints = |first: usize| {
        vec![
            endpoint("^/a.b$", &[], first),
            endpoint(
                r"^/(-?\d+)/([^/]+).c$",
                &[Kind::Integer, Kind::Text],
                first + 1,
            ),
            endpoint(r"^/(-?\d*\.?\d+)/$", &[Kind::Number], first + 2),
        ]
    };
    let mounted = Router {
        endpoints: endpoints(4),
        mounts: Vec::new(),
    };
    Table(Router {
        endpoints: endpoints(1),
        mounts: vec![("/m/".to_owned(), mounted)],
    })
}

//! What a worker says of its app's own routes, and of each whether it is compiled.

use std::sync::Arc;

use serde_json::{json, Value};

/// A route of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRoute {
    /// `GET`, or several: `GET, POST`.
    pub method: String,
    pub path: String,
    pub compiled: bool,
    /// Why it is not.
    pub why: Option<String>,
}

impl AppRoute {
    fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            method: text("method")?,
            path: text("path")?,
            compiled: value.get("compiled")?.as_bool()?,
            why: text("why"),
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "method": self.method,
            "path": self.path,
            "compiled": self.compiled,
            "why": self.why,
        })
    }
}

/// All of an app, in its order. Shared, as whoever asks for the status gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRoutes(Arc<[AppRoute]>);

impl AppRoutes {
    /// `None`: it is no list of routes. What in it is no route is left out.
    pub fn from_json(text: &str) -> Option<Self> {
        let values: Vec<Value> = serde_json::from_str(text).ok()?;
        Some(Self(
            values.iter().filter_map(AppRoute::from_json).collect(),
        ))
    }

    pub fn iter(&self) -> impl Iterator<Item = &AppRoute> {
        self.0.iter()
    }

    /// How many are compiled.
    pub fn compiled(&self) -> usize {
        self.iter().filter(|route| route.compiled).count()
    }

    /// As people read it: `3 of 5`.
    pub fn summary(&self) -> String {
        format!("{} of {}", self.compiled(), self.0.len())
    }

    pub(super) fn to_json(&self) -> Value {
        self.iter().map(AppRoute::to_json).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"[
        {"method": "GET", "path": "/a", "compiled": true, "why": null},
        {"method": "GET, POST", "path": "/b", "compiled": false, "why": "It has a hook."}
    ]"#;

    #[test]
    fn routes_are_what_the_worker_says() {
        let routes = AppRoutes::from_json(TWO).expect("routes");
        assert_eq!(routes.summary(), "1 of 2");
        let all: Vec<_> = routes.iter().collect();
        assert_eq!((&*all[0].path, &all[0].why), ("/a", &None));
        assert_eq!(all[1].method, "GET, POST");
        assert_eq!(all[1].why.as_deref(), Some("It has a hook."));
        let again = routes.to_json();
        assert_eq!(AppRoutes::from_json(&again.to_string()), Some(routes));
    }

    #[test]
    fn what_is_no_route_is_left_out() {
        let none = ["", "none", "{}", "3", "[", "null", "[[[["];
        assert!(none.iter().all(|text| AppRoutes::from_json(text).is_none()));
        let odd = r#"[1, {}, [], {"method": 1, "path": "/", "compiled": true},
            {"method": "GET", "path": "/", "compiled": "yes"},
            {"method": "GET", "path": "/kept", "compiled": false, "why": 3, "more": [1]}]"#;
        let routes = AppRoutes::from_json(odd).expect("routes");
        assert_eq!(routes.summary(), "0 of 1");
        assert_eq!(routes.iter().next().expect("one").why, None);
        let empty = AppRoutes::from_json("[]").expect("routes");
        assert_eq!(empty.summary(), "0 of 0");
    }
}

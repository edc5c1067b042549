//! Which pool a request is for: the longest prefix of its path, on the borders of segments, among the routes of its host or
//! else among those of every host.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::Route;

/// One segment's place in the tree of all prefixes.
struct Node<P> {
    pool: Option<Arc<P>>,
    children: HashMap<Box<str>, Node<P>>,
}

impl<P> Default for Node<P> {
    fn default() -> Self {
        Self {
            pool: None,
            children: HashMap::new(),
        }
    }
}

impl<P> Node<P> {
    fn insert(&mut self, segments: &[Box<str>], pool: Arc<P>) {
        let node = segments.iter().fold(self, |node, segment| {
            node.children.entry(segment.clone()).or_default()
        });
        node.pool = Some(pool);
    }

    /// The pool of the longest prefix of `path`, and how many bytes that prefix has.
    fn find(&self, path: &str) -> Option<(&Arc<P>, usize)> {
        let mut best = self.pool.as_ref().map(|pool| (pool, 0));
        let (mut node, mut at) = (self, 0);
        while !node.children.is_empty() {
            let Some(rest) = path[at..].strip_prefix('/') else {
                break;
            };
            let segment = rest.split('/').next().unwrap_or(rest);
            let Some(child) = node.children.get(&*decoded(segment)) else {
                break;
            };
            node = child;
            at += 1 + segment.len();
            if let Some(pool) = &node.pool {
                best = Some((pool, at));
            }
        }
        best
    }
}

/// A segment as it is meant. One that is no text, once decoded, is none of a route's.
fn decoded(segment: &str) -> Cow<'_, str> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    decoded.unwrap_or(Cow::Borrowed(segment))
}

/// A request's pool.
pub struct Matched<P> {
    pub pool: Arc<P>,
    /// Bytes of the path that the pool's workers do not see.
    pub prefix: usize,
}

/// The routing table. Immutable: a change makes another one.
pub struct Routes<P> {
    everywhere: Node<P>,
    hosts: HashMap<Box<str>, Node<P>>,
}

impl<P> Default for Routes<P> {
    fn default() -> Self {
        Self {
            everywhere: Node::default(),
            hosts: HashMap::new(),
        }
    }
}

impl<P> Routes<P> {
    /// Of two pools with the same route, the later one is found.
    pub fn new<'a>(pools: impl Iterator<Item = (&'a Route, Arc<P>)>) -> Self {
        let mut routes = Self::default();
        for (route, pool) in pools {
            let root = match route.host() {
                None => &mut routes.everywhere,
                Some(host) => routes.hosts.entry(host.into()).or_default(),
            };
            root.insert(route.segments(), pool);
        }
        routes
    }

    /// `authority` is a host, perhaps with a port, in any case; `path` begins with `/`, or is `*`.
    pub fn find(&self, authority: Option<&[u8]>, path: &str) -> Option<Matched<P>> {
        let own = if self.hosts.is_empty() {
            None
        } else {
            let node = authority.and_then(|authority| self.hosts.get(&*host_of(authority)?));
            node.and_then(|node| node.find(path))
        };
        let (pool, prefix) = own.or_else(|| self.everywhere.find(path))?;
        Some(Matched {
            pool: pool.clone(),
            prefix,
        })
    }
}

/// The host of an authority as routes have it.
fn host_of(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?;
    let host = text.split(':').next().unwrap_or(text);
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(names: &[&str]) -> Routes<String> {
        let routes: Vec<_> = names
            .iter()
            .map(|name| Route::parse(name).expect(name))
            .collect();
        Routes::new(
            routes
                .iter()
                .map(|route| (route, Arc::new(route.name().to_string()))),
        )
    }

    fn find(routes: &Routes<String>, host: &str, path: &str) -> Option<(String, String)> {
        let found = routes.find(Some(host.as_bytes()), path)?;
        Some((found.pool.to_string(), path[found.prefix..].to_owned()))
    }

    #[test]
    fn the_longest_prefix_wins_on_segment_borders() {
        let routes = routes(&["/", "/sales", "/sales/north", "/caf\u{e9}"]);
        for (path, pool, rest) in [
            ("/", "/", "/"),
            ("/other/sales", "/", "/other/sales"),
            ("/sales", "/sales", ""),
            ("/sales/", "/sales", "/"),
            ("/sales/a", "/sales", "/a"),
            ("/sales/north/a", "/sales/north", "/a"),
            ("/sales/northern", "/sales", "/northern"),
            ("/salesman", "/", "/salesman"),
            ("//sales", "/", "//sales"),
            ("/sales//north", "/sales", "//north"),
            ("/Sales", "/", "/Sales"),
            ("/%73ales/x", "/sales", "/x"),
            ("/sales%2Fnorth", "/", "/sales%2Fnorth"),
            ("/caf%C3%A9/x", "/caf\u{e9}", "/x"),
            ("/caf%c3/x", "/", "/caf%c3/x"),
            ("/%", "/", "/%"),
            ("/%zz", "/", "/%zz"),
            ("*", "/", "*"),
        ] {
            let found = find(&routes, "any", path).expect(path);
            assert_eq!(found, (pool.to_owned(), rest.to_owned()), "{path}");
        }
    }

    #[test]
    fn a_hosts_routes_come_before_those_of_every_host() {
        let routes = routes(&["/sales", "sales.example.com/", "sales.example.com/api"]);
        let pool = |host, path| find(&routes, host, path).map(|(pool, _)| pool);
        assert_eq!(
            pool("sales.example.com", "/x").as_deref(),
            Some("sales.example.com/")
        );
        assert_eq!(
            pool("SALES.example.com:80", "/api/1").as_deref(),
            Some("sales.example.com/api")
        );
        assert_eq!(
            pool("sales.example.com.", "/sales").as_deref(),
            Some("sales.example.com/")
        );
        assert_eq!(pool("other", "/sales").as_deref(), Some("/sales"));
        assert_eq!(pool("other", "/"), None);
        assert!(routes.find(None, "/sales").is_some());
    }

    proptest! {
        /// Against the plainest way to find it.
        #[test]
        fn as_one_would_look_it_up_by_hand(
            names in prop::collection::vec("(/[ab]{1,2}){0,3}", 0..6),
            path in "(/[ab]{0,2}){1,4}",
        ) {
            let names: Vec<String> = names.into_iter().map(|name| format!("{name}/")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let routes = routes(&names);
            let expected = names
                .iter()
                .map(|name| name.trim_end_matches('/'))
                .filter(|name| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
                .max_by_key(|name| name.len());
            let found = routes.find(None, &path).map(|found| found.prefix);
            prop_assert_eq!(found, expected.map(str::len));
        }
    }
}

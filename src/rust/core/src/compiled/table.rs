//! The endpoints of a router, and of those that are mounted in it, in the order in which plumber looks at them.

use super::path::{Match, Pattern};

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    pub methods: Vec<String>,
    pub pattern: Pattern,
    /// Its number, if it is compiled.
    pub compiled: Option<usize>,
}

/// A router: its own endpoints first, then those of the first mount whose path the request's path begins with.
#[derive(Debug, Default)]
pub struct Router {
    pub endpoints: Vec<Endpoint>,
    /// With the paths where they are, `/.../`.
    pub mounts: Vec<(String, Router)>,
}

/// A compiled endpoint for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: usize,
    /// The values of the arguments in its path.
    pub values: Vec<String>,
    /// How much of the path, in bytes, leads to the router that it is in.
    pub mounted_at: usize,
}

/// What is compiled of an app.
#[derive(Debug, Default)]
pub struct Table(pub Router);

impl Table {
    /// `None`: there is none, or that is not certain, or it is not compiled.
    pub fn find(&self, method: &str, path: &str) -> Option<Found> {
        if !path.is_ascii() {
            return None;
        }
        let mut router = &self.0;
        let mut mounted_at = 0;
        loop {
            let path = &path[mounted_at..];
            for endpoint in &router.endpoints {
                if !endpoint.methods.iter().any(|own| own == method) {
                    continue;
                }
                match endpoint.pattern.matches(path) {
                    Match::No => {}
                    Match::Unknown => return None,
                    Match::Yes(values) => {
                        return endpoint.compiled.map(|number| Found {
                            number,
                            values,
                            mounted_at,
                        })
                    }
                }
            }
            // The first one decides, whatever it has.
            let (prefix, mounted) = router
                .mounts
                .iter()
                .find(|(prefix, _)| path.starts_with(prefix.as_str()))?;
            mounted_at += prefix.len().saturating_sub(1);
            router = mounted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn endpoint(methods: &str, expression: &str, kinds: &[Kind], number: usize) -> Endpoint {
        Endpoint {
            methods: methods.split(' ').map(str::to_owned).collect(),
            pattern: Pattern::new(expression, kinds),
            // So that tests can have one that is not.
            compiled: (number > 0).then_some(number),
        }
    }

    fn number(table: &Table, method: &str, path: &str) -> Option<usize> {
        table.find(method, path).map(|found| found.number)
    }

    #[test]
    fn the_first_that_matches_is_it() {
        let table = Table(Router {
            endpoints: vec![
                endpoint("POST", "^/x$", &[], 1),
                endpoint("GET HEAD", r"^/(-?\d+)$", &[Kind::Integer], 2),
                endpoint("GET", "^/([^/]+)$", &[Kind::Text], 3),
                endpoint("GET", "^/x$", &[], 4),
            ],
            mounts: Vec::new(),
        });
        assert_eq!(number(&table, "POST", "/x"), Some(1));
        assert_eq!(number(&table, "HEAD", "/7"), Some(2));
        assert_eq!(number(&table, "GET", "/x"), Some(3));
        assert_eq!(number(&table, "HEAD", "/x"), None);
        assert_eq!(number(&table, "GET", "/x/y"), None);
        assert_eq!(number(&table, "GET", "/ä"), None);
    }

    #[test]
    fn what_is_not_compiled_hides_what_is_behind_it() {
        let table = Table(Router {
            endpoints: vec![
                endpoint("GET", "^/a$", &[], 0),
                endpoint("GET", "^/bb+$", &[], 1),
                endpoint("GET", "^/([^/]+)$", &[Kind::Text], 2),
            ],
            mounts: Vec::new(),
        });
        assert_eq!(number(&table, "GET", "/a"), None);
        assert_eq!(number(&table, "GET", "/bb"), None);
        assert_eq!(number(&table, "GET", "/c"), Some(2));
    }

    #[test]
    fn the_first_mount_on_the_way_decides() {
        let inner = |number| Router {
            endpoints: vec![endpoint("GET", "^/z$", &[], number)],
            mounts: Vec::new(),
        };
        let table = Table(Router {
            endpoints: vec![endpoint("GET", "^/m/own$", &[], 1)],
            mounts: vec![
                (
                    "/m/".into(),
                    Router {
                        endpoints: Vec::new(),
                        mounts: vec![("/n/".into(), inner(2))],
                    },
                ),
                ("/m/z/".into(), inner(3)),
                ("/".into(), inner(4)),
            ],
        });
        assert_eq!(number(&table, "GET", "/m/own"), Some(1));
        let found = table.find("GET", "/m/n/z").expect("an endpoint");
        assert_eq!((found.number, found.mounted_at), (2, 4));
        assert_eq!(number(&table, "GET", "/m/z/z"), None);
        assert_eq!(number(&table, "GET", "/z"), Some(4));
    }
}

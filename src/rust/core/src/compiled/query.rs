//! A query, as plumber's `parseQS()` takes it apart.

use std::collections::HashMap;

use super::{decoded, is_plain};

/// From so many different keys on plumber sorts them, as its locale does.
const MOST_KEYS: usize = 150;

/// Keys in the order in which they first came, each with its values. No key and no value is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, Vec<String>)>);

impl Query {
    /// `None`: plumber is to do it, and to say what it says of it.
    pub fn parse(query: &str) -> Option<Self> {
        if query.is_empty() {
            return Some(Self::default());
        }
        if !is_plain(query) {
            return None;
        }
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        let mut places = HashMap::new();
        for pair in query.split('&') {
            // Empty parts do not count: `=a==b` is a pair, `a=` and `a=b=c` are none.
            let mut parts = pair.split('=').filter(|part| !part.is_empty());
            let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let (key, value) = (text(key), text(value));
            let place = *places.entry(key.clone()).or_insert(keys.len());
            match keys.get_mut(place) {
                Some((_, values)) => values.push(value),
                None => keys.push((key, vec![value])),
            }
        }
        let repeats = keys.iter().any(|(_, values)| values.len() > 1);
        (!repeats || keys.len() <= MOST_KEYS).then_some(Self(keys))
    }
}

fn text(escaped: &str) -> String {
    decoded(&escaped.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Vec<(String, String)> {
        let Query(keys) = Query::parse(query).expect(query);
        keys.into_iter()
            .map(|(key, values)| (key, values.join("|")))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_a_key_with_a_value_is_an_argument() {
        assert_eq!(of(""), []);
        assert_eq!(of("&&"), []);
        assert_eq!(of("a=1&b=2"), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(of("a&b=&=c&d=e=f&g=h"), pairs(&[("g", "h")]));
        assert_eq!(of("=a==b="), pairs(&[("a", "b")]));
    }

    #[test]
    fn values_of_one_key_are_one_vector() {
        let found = of("a=1&b=2&a=3&%61=4");
        assert_eq!(found, pairs(&[("a", "1|3|4"), ("b", "2")]));
    }

    #[test]
    fn escapes_are_decoded_after_all_is_split() {
        assert_eq!(
            of("a%3Db=c%26d&e+f=g%2Bh"),
            pairs(&[("a=b", "c&d"), ("e f", "g+h")])
        );
    }

    #[test]
    fn what_depends_on_plumber_is_left_to_it() {
        for odd in ["a=%", "a=%4", "a=%zz", "a=%00", "a=%e4", "a=%C3%A4", "ä=1"] {
            assert_eq!(Query::parse(odd), None, "{odd}");
        }
        let many: Vec<String> = (0..=MOST_KEYS).map(|i| format!("k{i}=1")).collect();
        let many = many.join("&");
        assert!(Query::parse(&many).is_some());
        assert_eq!(Query::parse(&format!("{many}&k0=2")), None);
    }
}

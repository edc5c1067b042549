//! What a process may have written into its file: the page that shows it is valid.

use std::collections::BTreeMap;

use super::exposition::{render, Family};
use super::layout::{series, Head, HEAD};

/// Bytes of a file.
pub fn metrics(data: &[u8]) {
    let rest = match Head::read(data) {
        Some(head) => data.get(HEAD..head.end.min(data.len())).unwrap_or_default(),
        None => data,
    };
    for series in series(rest) {
        let key = ("/".into(), series.labels);
        let family = Family {
            definition: series.definition,
            series: BTreeMap::from([(key, series.numbers)]),
        };
        let (text, _) = render([&family], &BTreeMap::new(), usize::MAX);
        let mut lines = text.split_terminator('\n');
        let name = &family.definition.name;
        if !family.definition.help.is_empty() {
            assert!(lines
                .next()
                .is_some_and(|help| help.starts_with(&format!("# HELP {name} "))));
        }
        let kind = family.definition.kind.name();
        assert_eq!(lines.next(), Some(format!("# TYPE {name} {kind}").as_str()));
        let mut before = 0.0;
        for line in lines {
            let (labels, number) = line.rsplit_once("} ").expect("labels and a number");
            let number: f64 = number.parse().expect("a number");
            let rest = labels.strip_prefix(name.as_str()).expect("its name");
            if rest.starts_with("_bucket{") {
                assert!(number >= before, "{text}");
                before = number;
            }
            let (_, labels) = rest.split_once('{').expect("labels");
            assert_labels(labels);
        }
    }
}

/// `name="value"`, with commas in between, and nothing that ends a value early.
fn assert_labels(labels: &str) {
    let mut rest = labels;
    loop {
        let (name, value) = rest.split_once("=\"").expect("a name");
        assert!(name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        let mut escaped = false;
        let end = value.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        rest = &value[end.expect("the end of a value") + 1..];
        if rest.is_empty() {
            return;
        }
        rest = rest.strip_prefix(',').expect("another label");
    }
}

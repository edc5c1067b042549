use proptest::prelude::*;

use super::*;

/// Of each stage its name and its options.
type Stages = Vec<(String, Vec<(String, String)>)>;

type Options = &'static [(&'static str, &'static str)];

/// A text, and what is read of it.
type Case = (&'static str, &'static [(&'static str, Options)]);

fn stages(chain: &Chain) -> Stages {
    let stage = |stage: &Stage| (stage.function.clone(), stage.options.clone());
    chain.stages.iter().map(stage).collect()
}

fn expected(stages: &[(&str, Options)]) -> Stages {
    let option = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let stage = |(name, options): &(&str, Options)| {
        ((*name).to_owned(), options.iter().map(option).collect())
    };
    stages.iter().map(stage).collect()
}

#[test]
fn both_forms() {
    let cases: [Case; 15] = [
        ("f", &[("f", &[])]),
        ("  f()\n", &[("f", &[])]),
        (
            "sed(e = 's/hate/love/', n = 3) | to_upper",
            &[
                ("sed", &[("e", "s/hate/love/"), ("n", "3")]),
                ("to_upper", &[]),
            ],
        ),
        (
            "sed e=s/hate/love/ | to-upper",
            &[("sed", &[("e", "s/hate/love/")]), ("to-upper", &[])],
        ),
        ("a|b|c", &[("a", &[]), ("b", &[]), ("c", &[])]),
        ("f (a=1,b=TRUE)", &[("f", &[("a", "1"), ("b", "TRUE")])]),
        (
            "f a=1\tb=2\n|g",
            &[("f", &[("a", "1"), ("b", "2")]), ("g", &[])],
        ),
        ("f a= b=2", &[("f", &[("a", ""), ("b", "2")])]),
        ("f(a = '', b = \"\")", &[("f", &[("a", ""), ("b", "")])]),
        ("f a=b=c", &[("f", &[("a", "b=c")])]),
        ("f(a = b=c)", &[("f", &[("a", "b=c")])]),
        ("f a=1 a=2", &[("f", &[("a", "1"), ("a", "2")])]),
        ("f a=x,y) b=(", &[("f", &[("a", "x,y)"), ("b", "(")])]),
        ("f .x=1 ..y=2", &[("f", &[(".x", "1"), ("..y", "2")])]),
        (
            "f(caf\u{e9} = na\u{ef}ve)",
            &[("f", &[("caf\u{e9}", "na\u{ef}ve")])],
        ),
    ];
    for (text, expected_stages) in cases {
        let chain = Chain::parse(text).expect(text);
        assert_eq!(stages(&chain), expected(expected_stages), "{text}");
    }
}

#[test]
fn quotes_protect() {
    for (text, value) in [
        ("f a='x | y = z'", "x | y = z"),
        ("f a=\"x | y\" | g", "x | y"),
        ("f(a = 'x), (y')", "x), (y"),
        (r"f a='it\'s'", "it's"),
        (r#"f a="a\"b""#, "a\"b"),
        (r"f a='\\'", r"\"),
        // Only that quote and the backslash itself: a regular expression is as it is written.
        (r"f a='\d+\.\s\n'", r"\d+\.\s\n"),
        (r#"f a='\"'"#, r#"\""#),
        (r"f a=\d|g", r"\d"),
        // Inside a bare value.
        ("f e=s/don't/do/", "s/don't/do/"),
        ("f(e = a'b)", "a'b"),
        ("f a='\u{1f600}\n'", "\u{1f600}\n"),
        ("f 'an option'=x", "x"),
        ("f(\"an option\" = x)", "x"),
    ] {
        let chain = Chain::parse(text).expect(text);
        assert_eq!(chain.stages[0].options[0].1, value, "{text}");
    }
}

#[test]
fn a_stage_knows_its_column() {
    let chain = Chain::parse("f(a = '\u{1f600}\u{e9}') |\n  g").expect("a chain");
    let columns: Vec<_> = chain.stages.iter().map(|stage| stage.column).collect();
    assert_eq!(columns, [1, 17]);
}

#[test]
fn an_error_points_at_its_column() {
    for (text, column, message) in [
        ("", 1, "the name of a function is missing here"),
        ("  ", 3, "the name of a function is missing here"),
        ("a | ", 5, "the name of a function is missing here"),
        ("a || b", 4, "the name of a function is missing here"),
        ("| a", 1, "the name of a function is missing here"),
        ("(a)", 1, "the name of a function must be here, not `(`"),
        ("a | n=3", 5, "the name of a function must come before the option `n`"),
        (
            "a | http://host/f",
            5,
            "`http://host/f` is a path or a URL: only functions that are deployed can be called",
        ),
        (
            "/bin/sed e=1",
            1,
            "`/bin/sed` is a path or a URL: only functions that are deployed can be called",
        ),
        (
            "_f",
            1,
            "`_f` is no name: a name has 1 to 64 letters, digits, `.`, `_` and `-`, and begins with a letter or a digit",
        ),
        ("f(a = 1", 2, "this bracket is not closed"),
        ("f(", 3, "an option is missing here"),
        ("f(,)", 3, "an option is missing here"),
        ("f(a = 1,)", 9, "an option is missing here"),
        ("f(a = 1 b = 2)", 9, "`,` or `)` must be here"),
        ("f(a = 1 | g)", 9, "`,` or `)` must be here"),
        ("f(a = 1) b=2", 10, "`|` must be here, or the end"),
        ("f(a = 1))", 9, "`|` must be here, or the end"),
        ("f('s/a/b/')", 3, "`s/a/b/` has no value: options are written like `(n = 3)`"),
        ("f(a = )", 7, "a value is missing here: an empty one is written `''`"),
        ("f(a = , b = 1)", 7, "a value is missing here: an empty one is written `''`"),
        (
            "f(a = c(1, 2))",
            8,
            "a value is text, nothing that is evaluated: quote it if it has `(`",
        ),
        ("f(= 1)", 3, "an option must have a name before `=`"),
        ("f =1", 3, "an option must have a name before `=`"),
        ("f -n 3", 3, "`-n` has no value: options are written like `n=3`, without `-`"),
        (
            "f n = 3",
            3,
            "`n` has no value: options are written like `n=3`, without spaces around `=`",
        ),
        ("f \u{e9}='x", 5, "this quote is not closed"),
        ("f a=\"x'", 5, "this quote is not closed"),
        (r"f a='x\'", 5, "this quote is not closed"),
        ("f a='x'y", 8, "white space or `|` must be behind a quoted value"),
        ("f(a='x'y)", 8, "`,` or `)` must be here"),
        ("f )", 3, "an option must be here, not `)`"),
        ("f a=\0", 5, "a value cannot hold a NUL"),
        ("f a='\0'", 5, "a value cannot hold a NUL"),
    ] {
        let message = message.to_owned();
        assert_eq!(Chain::parse(text), Err(ChainError { message, column }), "{text:?}");
    }
}

#[test]
fn there_are_limits() {
    let most = vec!["f"; MOST_STAGES].join("|");
    assert_eq!(
        Chain::parse(&most).expect("as many").stages.len(),
        MOST_STAGES
    );
    let error = Chain::parse(&format!("{most}|f")).expect_err("one too many");
    assert_eq!(error.column, 2 * MOST_STAGES + 1);

    let most = format!("f{}", " a=1".repeat(MOST_OPTIONS));
    Chain::parse(&most).expect("as many");
    Chain::parse(&format!("{most} a=1")).expect_err("one too many");
    let brackets = |count| format!("f({})", vec!["a=1"; count].join(","));
    Chain::parse(&brackets(MOST_OPTIONS)).expect("as many");
    Chain::parse(&brackets(MOST_OPTIONS + 1)).expect_err("one too many");

    let longest = format!("f a={}", "x".repeat(LONGEST - 4));
    Chain::parse(&longest).expect("as long");
    let error = Chain::parse(&format!("{longest}x")).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "a chain has at most 65536 bytes (column 1)"
    );
}

#[test]
fn the_other_spelling_of_a_name() {
    let other = |name: &str| Chain::parse(name).expect(name).stages[0].other_spelling();
    assert_eq!(other("to_upper").as_deref(), Some("to-upper"));
    assert_eq!(other("a-b_c").as_deref(), Some("a_b-c"));
    assert_eq!(other("upper.1"), None);
}

#[test]
fn how_a_chain_is_shown() {
    for (text, shown) in [
        ("f", "f"),
        ("f()|g", "f | g"),
        (
            "sed e=s/hate/love/ n=3 | to-upper",
            "sed(e = s/hate/love/, n = 3) | to-upper",
        ),
        (
            r"f a='x\d | y' b= 'a b'=\",
            r"f(a = 'x\\d | y', b = '', 'a b' = '\\')",
        ),
    ] {
        assert_eq!(Chain::parse(text).expect(text).to_string(), shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_is_read_back(
        given in prop::collection::vec(
            (
                "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
                prop::collection::vec(
                    ("[^\0]{1,8}|[-a-z'\" =|,()\\\\]{1,8}", "[^\0]{0,8}|[-a-z'\" =|,()\\\\]{0,8}"),
                    0..5,
                ),
            ),
            1..5,
        ),
    ) {
        let stage = |(function, options): (String, Vec<(String, String)>)| Stage { function, options, column: 1 };
        let chain = Chain { stages: given.into_iter().map(stage).collect() };
        let shown = chain.to_string();
        let read = Chain::parse(&shown);
        prop_assert_eq!(read.as_ref().map(stages), Ok(stages(&chain)), "{}", shown);
        prop_assert_eq!(read.map(|chain| chain.to_string()), Ok(shown));
    }

    /// Nor is there an error without a place.
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[a-z'\" =|,()\\\\\0-]*") {
        match Chain::parse(&text) {
            Ok(chain) => prop_assert!(!chain.stages.is_empty()),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column)),
        }
    }
}

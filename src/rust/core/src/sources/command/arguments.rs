//! Arguments of a program from the options of a request.

use crate::functions::{Options, Signature, Type};

/// Those of `options`, which fit the signature: a flag is there or is not, and what takes a value has it as the argument behind
/// it, whatever that looks like. Others, if they are taken, as [`Options::arguments`] has them.
///
/// An option that is known is never followed by a value that it does not take: the program would take that for a file, or for
/// another option.
pub fn arguments(options: &Options, signature: &Signature) -> Vec<String> {
    let mut arguments = Vec::new();
    for (name, value) in options.iter() {
        match signature.kind(name) {
            Some(Type::Logical) if is_false(value) => {}
            Some(Type::Logical) => arguments.push(dashed(name)),
            Some(_) => arguments.extend([dashed(name), value.to_owned()]),
            None => arguments.extend(Options::argument(name, value)),
        }
    }
    arguments
}

fn is_false(value: &str) -> bool {
    ["false", "f", "0"].contains(&&*value.to_ascii_lowercase())
}

fn dashed(name: &str) -> String {
    let mut flag = Options::argument(name, "");
    flag.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_has_a_value_or_has_none() {
        let names = ["n", "quiet", "e=", "file="].map(str::to_owned);
        let signature = Signature::of_command(&names);
        let of = |query: &str| {
            let options = Options::parse(query).expect(query);
            signature.check(&options).expect(query);
            arguments(&options, &signature)
        };
        assert_eq!(of("n&e=s/a/b/"), ["-n", "-e", "s/a/b/"]);
        assert_eq!(of("n=true&quiet=false"), ["-n"]);
        assert_eq!(of("n=0&quiet=1"), ["--quiet"]);
        assert_eq!(of("e=&file=-i"), ["-e", "", "--file", "-i"]);
        for bad in ["n=-i", "quiet=/etc/passwd", "i", "e=p&e=q"] {
            let options = Options::parse(bad).expect(bad);
            assert!(signature.check(&options).is_err(), "{bad}");
        }
        let open = Signature::of_command(&["...".to_owned()]);
        let options = Options::parse("n&e=p").expect("options");
        open.check(&options).expect("any");
        assert_eq!(arguments(&options, &open), ["-n", "-e", "p"]);
    }
}

//! What a deployed function's worker needs beside serving: the options and media types of a call, and a limit on what it computes.

use std::cell::RefCell;

use extendr_api::prelude::*;
use faucet_core::functions::{negotiate, Media, Options, Parameter, Signature, Type};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

/// The function of this process.
struct Declared {
    signature: Signature,
    /// The arguments that no option may name: they are the function's input.
    inputs: Vec<String>,
}

thread_local! {
    static DECLARED: RefCell<Declared> = const {
        RefCell::new(Declared {
            signature: Signature { parameters: Vec::new(), open: false },
            inputs: Vec::new(),
        })
    };
}

/// Says what the function takes.
/// @param names,types,required Its options, in order; the types are R's, or `"any"`.
/// @param open Whether it takes others, too.
/// @param inputs Its other arguments.
/// @return The same as JSON, in one line.
/// @noRd
#[extendr]
fn function_declare(
    names: Strings,
    types: Strings,
    required: Logicals,
    open: bool,
    inputs: Strings,
) -> String {
    let parameters = names.iter().zip(types.iter()).zip(required.iter());
    let parameter = |((name, kind), required): ((&Rstr, &Rstr), Rbool)| Parameter {
        name: name.to_string(),
        kind: Type::named(kind),
        required: required.is_true(),
    };
    let signature = Signature {
        parameters: parameters.map(parameter).collect(),
        open,
    };
    let json = signature.to_json().to_string();
    DECLARED.with(|declared| {
        *declared.borrow_mut() = Declared {
            signature,
            inputs: inputs.iter().map(|name| name.to_string()).collect(),
        };
    });
    json
}

/// The options of a call, each of the type of its default.
/// @param query What follows the URL's path, with or without its `?`.
/// @return A named list; or two strings, what is wrong and with which option.
/// @noRd
#[extendr]
fn function_options(query: &str) -> Robj {
    let query = query.strip_prefix('?').unwrap_or(query);
    let wrong = |message: String, option: &str| Robj::from([message.as_str(), option].as_slice());
    let options = match Options::parse(query) {
        Ok(options) => options,
        Err(error) => return wrong(error.to_string(), ""),
    };
    DECLARED.with(|declared| {
        let declared = declared.borrow();
        let input = options
            .iter()
            .find(|(name, _)| declared.inputs.iter().any(|input| input == name));
        if let Some((name, _)) = input {
            let message = format!("`{name}` is the function's input, and no option");
            return wrong(message, name);
        }
        if let Err(mismatch) = declared.signature.check(&options) {
            return wrong(mismatch.to_string(), mismatch.option());
        }
        let typed = |(name, value): (&str, &str)| {
            let kind = declared.signature.kind(name).unwrap_or(Type::Any);
            (name.to_owned(), typed(kind, value))
        };
        List::from_pairs(options.iter().map(typed).collect::<Vec<_>>()).into()
    })
}

/// The value of an option that was found to fit.
fn typed(kind: Type, text: &str) -> Robj {
    match kind {
        // The empty one is that of `?quiet`.
        Type::Logical => {
            let yes = ["", "true", "t", "1"].contains(&&*text.to_ascii_lowercase());
            Robj::from(yes)
        }
        Type::Integer => text.parse::<i32>().unwrap_or(i32::MIN).into(),
        Type::Double => text.parse::<f64>().unwrap_or(f64::NAN).into(),
        Type::Character | Type::Any => text.into(),
    }
}

/// What an input is.
/// @param content_type A request's Content-Type.
/// @return Two strings: the type in small letters, without parameters, and its charset, which is UTF-8 if none is said.
/// @noRd
#[extendr]
fn function_media(content_type: &str) -> Vec<String> {
    // What a server other than ours has let through may be no UTF-8.
    let media = Media::parse(&String::from_utf8_lossy(content_type.as_bytes()));
    vec![media.kind, media.charset.unwrap_or_else(|| "UTF-8".into())]
}

/// The type that a client likes best, and of those it likes as much, the first.
/// @param accept A request's Accept.
/// @param offered What it can have.
/// @return One of these; NULL if it takes none of them.
/// @noRd
#[extendr]
fn function_negotiate(accept: &str, offered: Strings) -> Robj {
    let accept = String::from_utf8_lossy(accept.as_bytes());
    let offered: Vec<&str> = offered.iter().map(|kind| kind.as_ref()).collect();
    match negotiate(&accept, &offered) {
        Some(best) => offered[best].into(),
        None => r!(NULL),
    }
}

/// From now on this process may compute for so many seconds, whatever it has used so far; the system ends it when it has. It is
/// looked at in whole seconds: up to one more may pass.
/// @noRd
#[extendr(invisible)]
fn function_limit_cpu(seconds: f64) {
    let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else {
        return;
    };
    let used = used.user_time() + used.system_time();
    let used = used.num_microseconds() as f64 / 1e6;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CPU) {
        let soft = (used + seconds).ceil() as u64;
        // Above what the process may ever use it is that.
        let _ = setrlimit(Resource::RLIMIT_CPU, soft.min(hard), hard);
    }
}

extendr_module! {
    mod call;
    fn function_declare;
    fn function_options;
    fn function_media;
    fn function_negotiate;
    fn function_limit_cpu;
}

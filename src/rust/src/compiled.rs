//! Compiled routes, as R describes them, and what R is told of a request that comes to one: see `R/compile.R`.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use extendr_api::prelude::*;
use faucet_core::compiled::{is_plain, Endpoint, Found, Kind, Pattern, Query, Router, Table};
use faucet_core::serve::Request;

/// A variable that must stay what it was when the routes were compiled.
struct Watched {
    environment: Environment,
    symbol: Robj,
    /// Held on to, so that R changes a copy of it, and that nothing else comes to be where it was.
    value: Robj,
}

impl Watched {
    fn is_same(&self) -> bool {
        // SAFETY: on R's thread; addresses are compared, and nothing is done with what is there.
        self.environment
            .local(self.symbol.clone())
            .is_ok_and(|value| unsafe { value.get() == self.value.get() })
    }
}

struct Route {
    /// The arguments in its path.
    names: Vec<String>,
    kinds: Vec<Kind>,
    /// The arguments that the handler takes, if it takes nothing else from requests without a body.
    formals: Option<Vec<String>>,
    watched: Vec<Watched>,
}

struct Compiled {
    table: Table,
    routes: Vec<Rc<Route>>,
    /// Of a longer body the app itself is to say what it says, in bytes.
    max_body: f64,
}

thread_local! {
    static COMPILED: RefCell<Option<Rc<Compiled>>> = const { RefCell::new(None) };
    /// The last call, for R to ask about.
    static LAST: RefCell<Option<Rc<Call>>> = const { RefCell::new(None) };
}

/// A value of an argument.
enum Value {
    Texts(Vec<String>),
    /// As R reads it, which rounds in its own way.
    Number(String),
    Integer(i32),
    Logical(Option<bool>),
}

impl Value {
    fn to_r(&self) -> Robj {
        match self {
            Self::Texts(texts) => texts.iter().map(String::as_str).collect_robj(),
            Self::Number(text) => {
                Robj::from(text.as_str()).coerce_vector(extendr_api::rtype_to_sxp(Rtype::Doubles))
            }
            Self::Integer(number) => (*number).into(),
            Self::Logical(None) => Rbool::na().into(),
            Self::Logical(Some(value)) => (*value).into(),
        }
    }

    /// As R converts it; `None` if R would warn.
    fn of(text: String, kind: Kind) -> Option<Self> {
        match kind {
            Kind::Text => Some(Self::Texts(vec![text])),
            Kind::Number => Some(Self::Number(text)),
            Kind::Integer => text
                .parse()
                .ok()
                .filter(|number| *number != i32::MIN)
                .map(Self::Integer),
            Kind::Logical => Some(Self::Logical(match text.as_str() {
                "T" | "true" | "TRUE" => Some(true),
                "F" | "false" | "FALSE" => Some(false),
                _ => None,
            })),
        }
    }
}

type Arguments = Vec<(String, Value)>;

/// A request for a compiled route.
pub struct Call {
    number: usize,
    route: Rc<Route>,
    query: Arguments,
    path: Arguments,
    /// The path as the router knows it that the route is in, if it is mounted.
    mounted: Option<String>,
    /// The type of its body.
    content_type: Option<String>,
}

/// What is to be done with a request.
pub enum Way {
    Compiled(Rc<Call>),
    Plumber,
    /// The app has changed: from now on all requests are plumber's.
    Changed,
}

/// Which way a request with a body of so many bytes takes.
pub fn way(request: &Request, length: u64) -> Way {
    let Some(compiled) = COMPILED.with(|compiled| compiled.borrow().clone()) else {
        return Way::Plumber;
    };
    if length as f64 > compiled.max_body {
        return Way::Plumber;
    }
    let path = request.target.path();
    let Some(found) = compiled.table.find(request.method.as_str(), path) else {
        return Way::Plumber;
    };
    let Some(route) = compiled.routes.get(found.number - 1).cloned() else {
        return Way::Plumber;
    };
    let Some(call) = call(request, found, &route) else {
        return Way::Plumber;
    };
    if route.watched.iter().all(Watched::is_same) {
        let call = Rc::new(call);
        LAST.with(|last| *last.borrow_mut() = Some(call.clone()));
        return Way::Compiled(call);
    }
    compiled_stop();
    Way::Changed
}

/// `None`: something in the request is not plain.
fn call(request: &Request, found: Found, route: &Rc<Route>) -> Option<Call> {
    if !are_plain(request) {
        return None;
    }
    let Query(query) = Query::parse(request.target.query().unwrap_or_default())?;
    let query = query
        .into_iter()
        .map(|(key, values)| (key, Value::Texts(values)));
    let path = route.names.iter().zip(&route.kinds).zip(found.values);
    let path = path
        .map(|((name, kind), text)| Some((name.clone(), Value::of(text, *kind)?)))
        .collect::<Option<_>>()?;
    let whole = request.target.path();
    Some(Call {
        number: found.number,
        route: route.clone(),
        query: query.collect(),
        path,
        mounted: (found.mounted_at > 0).then(|| whole[found.mounted_at..].to_owned()),
        content_type: content_type(request)?,
    })
}

/// `None`: it has several, which is for R to put together.
fn content_type(request: &Request) -> Option<Option<String>> {
    let mut values = request.headers.get_all("content-type").iter();
    let first = values.next();
    if values.next().is_some() {
        return None;
    }
    // That headers are text is known by now.
    Some(first.and_then(|value| {
        std::str::from_utf8(value.as_bytes())
            .ok()
            .map(str::to_owned)
    }))
}

/// Whether all headers are text, and the cookies plain.
fn are_plain(request: &Request) -> bool {
    request.headers.iter().all(|(name, value)| {
        let text = std::str::from_utf8(value.as_bytes());
        text.is_ok_and(|text| name != "cookie" || is_plain(text))
    })
}

impl Call {
    /// What R is told: `route`, its number; and `args`, what the handler takes, or, where R has to look at that, all arguments: see
    /// `serve_arguments()`.
    pub fn parts(&self, has_body: bool) -> Vec<(&'static str, Robj)> {
        let mut parts = vec![("route", Robj::from(self.number as i32))];
        match &self.route.formals {
            Some(formals) if !has_body => {
                let mut taken: Vec<&(String, Value)> = Vec::with_capacity(formals.len());
                for argument in self.query.iter().chain(&self.path) {
                    // Of several with one name the first counts.
                    let (name, _) = argument;
                    if formals.contains(name) && taken.iter().all(|(other, _)| other != name) {
                        taken.push(argument);
                    }
                }
                parts.push(("args", list(taken.into_iter())));
            }
            _ => parts.extend(self.arguments()),
        }
        parts
    }

    fn arguments(&self) -> Vec<(&'static str, Robj)> {
        let mut parts = vec![
            ("query", list(self.query.iter())),
            ("path", list(self.path.iter())),
        ];
        if let Some(mounted) = &self.mounted {
            parts.push(("path_info", mounted.as_str().into()));
        }
        if let Some(content_type) = &self.content_type {
            parts.push(("type", content_type.as_str().into()));
        }
        parts
    }
}

/// All arguments of the call in hand.
/// @return A list: `query` and `path`, lists by name; `path_info`, the path as the router knows it that the route is in, if that is
/// mounted; and `type`, that of the body, if it has one.
/// @noRd
#[extendr]
fn serve_arguments() -> List {
    let last = LAST.with(|last| last.borrow().clone());
    List::from_pairs(last.map(|call| call.arguments()).unwrap_or_default())
}

fn list<'a>(arguments: impl ExactSizeIterator<Item = &'a (String, Value)> + Clone) -> Robj {
    if arguments.len() == 0 {
        return List::new(0).into();
    }
    let names = arguments.clone().map(|(name, _)| name.as_str());
    let values = arguments.map(|(_, value)| value.to_r());
    List::from_names_and_values(names, values)
        .unwrap_or_else(|_| List::new(0))
        .into()
}

/// From now on requests for these routes are told as such.
/// @param router Where they are: `endpoints`, each with `methods`, `regex`, `types` and `number`, that of its route or 0; and
///   `mounts`, routers by their paths.
/// @param routes Of each its `names` and `types`, of the arguments in its path; `formals`, or `NULL`; and `watched`,
///   variables that must stay what they are: lists of an environment, and names in it.
/// @param max_body The longest body, in bytes.
/// @return Whether all of that could be read.
/// @noRd
#[extendr]
fn compiled_start(router: List, routes: List, max_body: f64) -> bool {
    let read = || {
        let routes = routes.values().map(|route| read_route(&route.as_list()?));
        Some(Compiled {
            table: Table(read_router(&router)?),
            routes: routes.collect::<Option<_>>()?,
            max_body,
        })
    };
    let compiled = read().map(Rc::new);
    let started = compiled.is_some();
    COMPILED.with(|own| *own.borrow_mut() = compiled);
    started
}

/// From now on none are.
/// @noRd
#[extendr(invisible)]
fn compiled_stop() {
    COMPILED.with(|compiled| compiled.borrow_mut().take());
}

fn part(list: &List, name: &str) -> Option<Robj> {
    list.iter()
        .find(|(own, _)| *own == name)
        .map(|(_, value)| value)
}

fn texts(list: &List, name: &str) -> Option<Vec<String>> {
    let value = part(list, name)?;
    Some(value.as_str_iter()?.map(str::to_owned).collect())
}

fn kinds(list: &List) -> Option<Vec<Kind>> {
    let types = texts(list, "types")?;
    types.iter().map(|name| Kind::named(name)).collect()
}

fn read_router(router: &List) -> Option<Router> {
    let endpoints = part(router, "endpoints")?.as_list()?;
    let mounts = part(router, "mounts")?.as_list()?;
    Some(Router {
        endpoints: endpoints
            .values()
            .map(|endpoint| read_endpoint(&endpoint.as_list()?))
            .collect::<Option<_>>()?,
        mounts: mounts
            .iter()
            .map(|(path, router)| Some((path.to_owned(), read_router(&router.as_list()?)?)))
            .collect::<Option<_>>()?,
    })
}

fn read_endpoint(endpoint: &List) -> Option<Endpoint> {
    let regex = texts(endpoint, "regex")?.pop()?;
    let number = part(endpoint, "number")?.as_integer()?;
    // A type that is not known is in a path that is not.
    let pattern = Pattern::new(&regex, &kinds(endpoint).unwrap_or_default());
    let is_known = !matches!(pattern, Pattern::Unknown(_));
    Some(Endpoint {
        methods: texts(endpoint, "methods")?,
        pattern,
        compiled: usize::try_from(number)
            .ok()
            .filter(|number| is_known && *number > 0),
    })
}

fn read_route(route: &List) -> Option<Rc<Route>> {
    Some(Rc::new(Route {
        names: texts(route, "names")?,
        kinds: kinds(route)?,
        formals: texts(route, "formals"),
        watched: read_watched(&part(route, "watched")?.as_list()?)?,
    }))
}

fn read_watched(watched: &List) -> Option<Vec<Watched>> {
    let mut all = Vec::new();
    for one in watched.values() {
        let one = one.as_list()?;
        let environment = one.elt(0).ok()?.as_environment()?;
        for name in one.elt(1).ok()?.as_str_iter()? {
            let symbol: Robj = Symbol::from_string(name).into();
            let value = environment.local(symbol.clone()).ok()?;
            all.push(Watched {
                environment: environment.clone(),
                symbol,
                value,
            });
        }
    }
    Some(all)
}

/// Whether plumber's expression for a path is one whose meaning is known.
/// @noRd
#[extendr]
fn compiled_knows(regex: &str, types: Vec<String>) -> bool {
    let kinds: Option<Vec<Kind>> = types.iter().map(|name| Kind::named(name)).collect();
    kinds.is_some_and(|kinds| !matches!(Pattern::new(regex, &kinds), Pattern::Unknown(_)))
}

extendr_module! {
    mod compiled;
    fn compiled_start;
    fn compiled_stop;
    fn compiled_knows;
    fn serve_arguments;
}

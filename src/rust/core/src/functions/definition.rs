//! What is deployed, as those who deploy it write it down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fields::{
    bytes, command, digest, file_in, flag, folder, names, options, replicas, seconds, services,
    text, texts, url, variables, workers, wrong, BadDefinition,
};
use super::{Name, Signature};
use crate::sources::local::WorkerRange;

/// What a function runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was uploaded before: the SHA-256 of its archive, in lower-case hexadecimal digits.
    Bundle(String),
    /// A folder on the agent's machine. Absolute.
    Folder(PathBuf),
    /// A program and its first arguments, run for each request.
    Command(Vec<String>),
    /// A service that runs already: `http` or `https`, or `grpc`.
    Url(String),
}

/// A function and how it is to run. What is `None` is left to the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub name: Name,
    pub code: Code,
    /// The file in its folder that is run: a path from there, which does not lead out of it.
    pub file_path: Option<String>,
    /// The only agent that is to have it, as `host:port` or by name.
    pub to_agent: Option<String>,
    pub workers: Option<WorkerRange>,
    /// On how many agents it is.
    pub replicas: u32,
    /// What its workers may read.
    pub secrets: Vec<Name>,
    pub env: BTreeMap<String, String>,
    /// How long a worker may take for a request.
    pub timeout: Option<Duration>,
    pub max_body: Option<u64>,
    pub queue: Option<u64>,
    /// Bytes of memory that a worker may have.
    pub memory: Option<u64>,
    /// Seconds that a request may compute.
    pub cpu_time: Option<Duration>,
    /// Whether requests are read, and answers written, while they come.
    pub stream: bool,
    /// The options that callers may give a command, which it has as arguments: `n` is a flag, `e=` takes a value, and with `...`
    /// any others may be given, which is for programs that no option makes dangerous. None unless named.
    pub options: Vec<String>,
    /// Services of a `grpc` URL that are called by their own names, `/package.Service/Method`, as stock clients do.
    pub services: Vec<String>,
}

impl Definition {
    /// Of the JSON of `POST /deploy`: an array, one object, or an array below `deploy`. Besides our own words, those of RYO-FaaS
    /// are understood: `packageDir` for `dir`, and `agentAddr` (an array) for `toAgent`.
    ///
    /// # Errors
    /// It is no JSON, or something in it is missing, unknown or wrong.
    pub fn parse_all(json: &[u8]) -> Result<Vec<Self>, BadDefinition> {
        let whole = |message: String| BadDefinition {
            number: None,
            field: None,
            message,
        };
        let value = serde_json::from_slice(json)
            .map_err(|error| whole(format!("this is no JSON: {error}")))?;
        let value = match value {
            Value::Object(mut file) if file.contains_key("deploy") => {
                let functions = file.remove("deploy").unwrap_or_default();
                if let Some(other) = file.keys().next() {
                    return Err(wrong(other, "is no field beside `deploy`"));
                }
                match functions {
                    Value::Array(_) => functions,
                    _ => return Err(wrong("deploy", "must be an array of functions")),
                }
            }
            value => value,
        };
        let values = match value {
            Value::Array(values) => values,
            Value::Object(_) => vec![value],
            _ => return Err(whole("this must be an array of functions".into())),
        };
        let several = values.len() > 1;
        let mut definitions: Vec<Self> = Vec::with_capacity(values.len());
        for (at, value) in values.into_iter().enumerate() {
            let definition = Self::of_value(value).and_then(|definition| {
                let twice = definitions
                    .iter()
                    .any(|known| known.name == definition.name);
                let message = "is the name of another one, too";
                (!twice)
                    .then_some(definition)
                    .ok_or_else(|| wrong("name", message))
            });
            definitions.push(definition.map_err(|error| BadDefinition {
                number: several.then_some(at + 1),
                ..error
            })?);
        }
        Ok(definitions)
    }

    /// Whether its workers read what comes as it comes.
    pub fn streams(&self) -> bool {
        self.stream || matches!(self.code, Code::Command(_))
    }

    fn of_value(value: Value) -> Result<Self, BadDefinition> {
        let Value::Object(object) = value else {
            return Err(BadDefinition {
                number: None,
                field: None,
                message: "a function must be an object".into(),
            });
        };
        let mut fields = Fields(object);
        let name = fields
            .take("name")
            .ok_or_else(|| wrong("name", "is missing"))?;
        let name = Name::parse(&text("name", name)?)
            .map_err(|error| wrong("name", format!("is none: {error}")))?;
        let code = fields.code()?;
        let folder = match &code {
            Code::Folder(folder) => Some(folder.as_path()),
            _ => None,
        };
        let definition = Self {
            name,
            file_path: fields.optional("filePath", |field, value| file_in(field, value, folder))?,
            code,
            to_agent: fields.agent()?,
            workers: fields.optional("workers", workers)?,
            replicas: fields.optional("replicas", replicas)?.unwrap_or(1),
            secrets: fields.optional("secrets", names)?.unwrap_or_default(),
            env: fields.optional("env", variables)?.unwrap_or_default(),
            timeout: fields.optional("timeout", seconds)?,
            max_body: fields.optional("maxBody", bytes)?,
            queue: fields.optional("queue", bytes)?,
            memory: fields.optional("memory", bytes)?,
            cpu_time: fields.optional("cpuTime", seconds)?,
            stream: fields.optional("stream", flag)?.unwrap_or_default(),
            options: fields.optional("options", options)?.unwrap_or_default(),
            services: fields.optional("services", services)?.unwrap_or_default(),
        };
        if !definition.services.is_empty() && !definition.is_grpc() {
            return Err(wrong(
                "services",
                "are for a `url` that begins with grpc://",
            ));
        }
        if !definition.options.is_empty() && definition.command_signature().is_none() {
            let message = "are for a `command`: a function's are its arguments";
            return Err(wrong("options", message));
        }
        match fields.0.into_iter().next() {
            Some((name, _)) => Err(wrong(&name, "is no field of a function")),
            None => Ok(definition),
        }
    }

    /// Whether it is a service of gRPC.
    pub fn is_grpc(&self) -> bool {
        matches!(&self.code, Code::Url(url) if url.starts_with("grpc://"))
    }

    /// What callers may give, if it is a command.
    pub fn command_signature(&self) -> Option<Signature> {
        match self.code {
            Code::Command(_) => Some(Signature::of_command(&self.options)),
            Code::Bundle(_) | Code::Folder(_) | Code::Url(_) => None,
        }
    }

    /// The JSON that [`Definition::parse_all`] makes the same of.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |field: &str, value: Option<Value>| {
            object.extend(value.map(|value| (field.to_owned(), value)));
        };
        put("name", Some(self.name.as_str().into()));
        let (field, value) = match &self.code {
            Code::Bundle(digest) => ("bundle", digest.as_str().into()),
            Code::Folder(path) => ("dir", path.display().to_string().into()),
            Code::Command(words) => ("command", words.clone().into()),
            Code::Url(url) => ("url", url.as_str().into()),
        };
        put(field, Some(value));
        put("filePath", self.file_path.clone().map(Value::from));
        put("toAgent", self.to_agent.clone().map(Value::from));
        let range = |range: WorkerRange| Value::from(vec![range.min, range.max]);
        put("workers", self.workers.map(range));
        put("replicas", Some(self.replicas.into()));
        let secrets: Vec<&str> = self.secrets.iter().map(Name::as_str).collect();
        put("secrets", Some(secrets.into()));
        let variables = self.env.iter();
        let variables: Map<_, _> = variables
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        put("env", Some(variables.into()));
        let duration = |duration: Duration| Value::from(duration.as_secs_f64());
        put("timeout", self.timeout.map(duration));
        put("maxBody", self.max_body.map(Value::from));
        put("queue", self.queue.map(Value::from));
        put("memory", self.memory.map(Value::from));
        put("cpuTime", self.cpu_time.map(duration));
        put("stream", Some(self.stream.into()));
        if !self.options.is_empty() {
            put("options", Some(self.options.clone().into()));
        }
        if !self.services.is_empty() {
            put("services", Some(self.services.clone().into()));
        }
        object.into()
    }
}

/// The fields of an object that nobody has asked for yet.
struct Fields(Map<String, Value>);

impl Fields {
    /// One that is `null` is not there.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl Fn(&'static str, Value) -> Result<T, BadDefinition>,
    ) -> Result<Option<T>, BadDefinition> {
        self.take(field).map(|value| read(field, value)).transpose()
    }

    fn code(&mut self) -> Result<Code, BadDefinition> {
        let bundle = self.optional("bundle", digest)?.map(Code::Bundle);
        let dir = self.optional("dir", folder)?.map(Code::Folder);
        let package_dir = self.optional("packageDir", folder)?.map(Code::Folder);
        let command = self.optional("command", command)?.map(Code::Command);
        let url = self.optional("url", url)?.map(Code::Url);
        let given = [bundle, dir, package_dir, command, url].into_iter();
        let mut given: Vec<Code> = given.flatten().collect();
        match (given.pop(), given.is_empty()) {
            (Some(code), true) => Ok(code),
            (None, _) => Err(wrong(
                "bundle",
                "is missing: a function has a `bundle`, a `dir`, a `command` or a `url`",
            )),
            (Some(_), false) => Err(wrong(
                "bundle",
                "is not alone: a function has only one of `bundle`, `dir`, `command` and `url`",
            )),
        }
    }

    fn agent(&mut self) -> Result<Option<String>, BadDefinition> {
        let to_agent = self.optional("toAgent", text)?;
        let addresses = self.optional("agentAddr", texts)?.unwrap_or_default();
        match (to_agent, addresses.as_slice()) {
            (to_agent, []) => Ok(to_agent),
            (None, [address]) => Ok(Some(address.clone())),
            _ => Err(wrong(
                "agentAddr",
                "names several agents: give one, or `replicas`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Type;

    fn parse(json: &str) -> Result<Vec<Definition>, String> {
        Definition::parse_all(json.as_bytes()).map_err(|error| error.to_string())
    }

    fn one(json: &str) -> Definition {
        parse(json).expect(json).remove(0)
    }

    #[test]
    fn a_function_with_all_that_it_may_have() {
        let digest = "0123456789abcdef".repeat(4);
        let definition = one(&format!(
            r#"[{{"name": "sed", "bundle": "{digest}", "filePath": "plumber.R", "toAgent": "b:9000", "workers": [0, 2],
                "replicas": 3, "secrets": ["db", "mail"], "env": {{"LANG": "C", "EMPTY": ""}}, "timeout": 1.5,
                "maxBody": 1e6, "queue": 0, "memory": 1073741824, "cpuTime": 10, "stream": true}}]"#
        ));
        let expected = Definition {
            name: Name::parse("sed").expect("a name"),
            code: Code::Bundle(digest),
            file_path: Some("plumber.R".into()),
            to_agent: Some("b:9000".into()),
            workers: Some(WorkerRange { min: 0, max: 2 }),
            replicas: 3,
            secrets: ["db", "mail"]
                .map(|name| Name::parse(name).expect("a name"))
                .into(),
            env: [("EMPTY", ""), ("LANG", "C")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            timeout: Some(Duration::from_millis(1500)),
            max_body: Some(1_000_000),
            queue: Some(0),
            memory: Some(1 << 30),
            cpu_time: Some(Duration::from_secs(10)),
            stream: true,
            options: vec![],
            services: Vec::new(),
        };
        assert_eq!(definition, expected);
        assert_eq!(one(&definition.to_json().to_string()), definition);
    }

    #[test]
    fn what_is_left_out_is_left_to_the_agent() {
        let definition = one(r#"{"name": "up", "command": ["tr", "a-z", "A-Z"], "workers": null}"#);
        assert_eq!(definition.workers, None);
        assert_eq!(definition.replicas, 1);
        assert_eq!(
            definition.code,
            Code::Command(vec!["tr".into(), "a-z".into(), "A-Z".into()])
        );
        assert_eq!(one(&definition.to_json().to_string()), definition);
        assert_eq!(parse("[]"), Ok(vec![]));
        let definition = one(r#"{"name": "up", "command": "cat", "workers": 4}"#);
        assert_eq!(definition.workers, Some(WorkerRange::fixed(4)));
    }

    /// As its own `deploy.json`, and its requests by curl, have it.
    #[test]
    fn in_the_words_of_ryo_faas() {
        let definition = one(
            r#"[{"packageDir": "/src/hello", "name": "HelloWorld", "filePath": "/src/hello/hello.R",
                "agentAddr": ["localhost:9000"]}]"#,
        );
        let same = one(
            r#"[{"dir": "/src/hello", "name": "HelloWorld", "filePath": "/src/hello/hello.R", "toAgent": "localhost:9000"}]"#,
        );
        assert_eq!(definition, same);
        assert_eq!(definition.code, Code::Folder("/src/hello".into()));
        let file = parse(
            r#"{"deploy": [{"name": "a", "packageDir": "/a", "filePath": "/a/a.R"}, {"name": "b", "command": "cat"}]}"#,
        );
        assert_eq!(file.expect("a file").len(), 2);
        for (json, problem) in [
            (
                r#"{"deploy": {}}"#,
                "`deploy` must be an array of functions",
            ),
            (
                r#"{"deploy": [], "name": "a"}"#,
                "`name` is no field beside `deploy`",
            ),
            (r#"{"deploy": [3]}"#, "a function must be an object"),
        ] {
            assert_eq!(parse(json).expect_err(json), problem);
        }
        let problem = parse(r#"{"name": "a", "dir": "/a", "agentAddr": ["a:1", "b:1"]}"#);
        assert_eq!(
            problem.expect_err("two"),
            "`agentAddr` names several agents: give one, or `replicas`"
        );
    }

    #[test]
    fn a_file_is_in_its_folder() {
        let digest = "0123456789abcdef".repeat(4);
        let in_bundle =
            |file: &str| format!(r#"{{"name": "a", "bundle": "{digest}", "filePath": "{file}"}}"#);
        let in_dir =
            |file: &str| format!(r#"{{"name": "a", "dir": "/src/a", "filePath": "{file}"}}"#);
        for (json, file) in [
            (in_bundle("a.R"), "a.R"),
            (in_bundle("R/a.R"), "R/a.R"),
            (in_bundle("..a.R"), "..a.R"),
            (in_bundle("./a.R"), "a.R"),
            (in_dir("R/a.R"), "R/a.R"),
            (in_dir("/src/a/R/a.R"), "R/a.R"),
        ] {
            assert_eq!(one(&json).file_path.as_deref(), Some(file), "{json}");
        }
        for json in [
            in_bundle("../a.R"),
            in_bundle("R/../../a.R"),
            in_bundle("R/.."),
            in_bundle("/etc/passwd"),
            in_bundle("/src/a/a.R"),
            in_bundle("."),
            in_bundle(""),
            in_bundle("a\\u0000.R"),
            in_dir("/etc/passwd"),
            in_dir("/src/ab/a.R"),
            in_dir("/src/a"),
            in_dir("/src/a/../b.R"),
            in_dir("../b/a.R"),
        ] {
            let problem = parse(&json).expect_err(&json);
            assert!(problem.starts_with("`filePath` must be "), "{problem}");
        }
    }

    #[test]
    fn what_callers_may_give_a_command() {
        let definition =
            one(r#"{"name": "sed", "command": ["sed", "-n"], "options": ["n", "e=", "quiet"]}"#);
        assert_eq!(definition.options, ["n", "e=", "quiet"]);
        assert_eq!(one(&definition.to_json().to_string()), definition);
        let signature = definition.command_signature().expect("a command");
        assert_eq!(signature.kind("e"), Some(Type::Character));
        assert_eq!(signature.kind("n"), Some(Type::Logical));
        assert!(!signature.open && signature.kind("i").is_none());
        let any = one(r#"{"name": "a", "command": "cat", "options": "..."}"#);
        assert!(any.command_signature().expect("a command").open);
        let none = one(r#"{"name": "a", "command": "cat"}"#);
        assert_eq!(none.command_signature(), Some(Signature::default()));
        let code = one(r#"{"name": "a", "dir": "/a"}"#);
        assert_eq!(code.command_signature(), None);
        let problem = parse(r#"{"name": "a", "dir": "/a", "options": ["n"]}"#);
        assert_eq!(
            problem.expect_err("R code"),
            "`options` are for a `command`: a function's are its arguments"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, expected) in [
            ("{", "this is no JSON: EOF while parsing an object at line 1 column 1"),
            ("3", "this must be an array of functions"),
            ("[3]", "a function must be an object"),
            (r#"{"command": "cat"}"#, "`name` is missing"),
            (r#"{"name": 3, "command": "cat"}"#, "`name` must be a text that is not empty"),
            (
                r#"{"name": "a"}"#,
                "`bundle` is missing: a function has a `bundle`, a `dir`, a `command` or a `url`",
            ),
            (
                r#"{"name": "a", "dir": "/a", "url": "http://a"}"#,
                "`bundle` is not alone: a function has only one of `bundle`, `dir`, `command` and `url`",
            ),
            (r#"{"name": "a", "command": "cat", "wrokers": 1}"#, "`wrokers` is no field of a function"),
            (
                r#"[{"name": "a", "command": "cat"}, {"name": "a", "command": "cat"}]"#,
                "function 2: `name` is the name of another one, too",
            ),
            (
                r#"[{"name": "a", "command": "cat"}, {"name": "b", "command": []}]"#,
                "function 2: `command` must name a program",
            ),
        ] {
            assert_eq!(parse(json).expect_err(json), expected, "{json}");
        }
        let problem = parse(r#"{"name": "a/b", "command": "cat"}"#).expect_err("a slash");
        assert!(
            problem.starts_with("`name` is none: a name has 1 to 64"),
            "{problem}"
        );
    }

    #[test]
    fn values_have_their_bounds() {
        for field in [
            r#""dir": "a/b""#,
            r#""dir": """#,
            r#""bundle": "0123""#,
            r#""url": "ftp://a/""#,
            r#""url": "/a""#,
            r#""command": ["cat", ""]"#,
            r#""command": "a\u0000b""#,
        ] {
            let json = format!(r#"{{"name": "a", {field}}}"#);
            assert!(parse(&json).is_err(), "{json}");
        }
        for field in [
            r#""workers": 0"#,
            r#""workers": [2, 1]"#,
            r#""workers": [0, 1, 2]"#,
            r#""workers": 1.5"#,
            r#""workers": 100000"#,
            r#""replicas": 0"#,
            r#""secrets": [1]"#,
            r#""secrets": ["../key"]"#,
            r#""env": {"A=B": "c"}"#,
            r#""env": {"A": 1}"#,
            r#""timeout": 0"#,
            r#""timeout": 1e300"#,
            r#""timeout": 1.1e9"#,
            r#""timeout": 1e-30"#,
            r#""maxBody": -1"#,
            r#""maxBody": 1e300"#,
            r#""queue": 0.5"#,
            r#""stream": "yes""#,
            r#""options": ["-n"]"#,
            r#""options": ["="]"#,
            r#""options": ["a=b"]"#,
            r#""options": ["n", "n="]"#,
            r#""options": [1]"#,
        ] {
            let json = format!(r#"{{"name": "a", "command": "cat", {field}}}"#);
            let name = field[1..].split('"').next().unwrap_or_default();
            let problem = parse(&json).expect_err(&json);
            assert!(problem.starts_with(&format!("`{name}` must ")), "{problem}");
        }
    }
}

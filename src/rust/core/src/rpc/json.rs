//! Messages of management and its JSON: the same fields, each with its other name.

use serde_json::{json, Map, Value};

use super::proto::definition::Code;
use super::proto::{
    Command, Definition, Function, FunctionDetails, Parameter, Replica, Signature, Workers,
};

/// As `POST /deploy` takes it. What is not set is not there.
pub(super) fn definition_json(definition: Definition) -> Value {
    let mut object = Map::new();
    let mut put = |field: &str, value: Option<Value>| {
        object.extend(value.map(|value| (field.to_owned(), value)));
    };
    put("name", Some(definition.name.into()));
    match definition.code {
        None => {}
        Some(Code::Bundle(digest)) => put("bundle", Some(digest.into())),
        Some(Code::Dir(path)) => put("dir", Some(path.into())),
        Some(Code::Command(command)) => put("command", Some(command.words.into())),
        Some(Code::Url(url)) => put("url", Some(url.into())),
    }
    put("filePath", definition.file_path.map(Value::from));
    put("toAgent", definition.to_agent.map(Value::from));
    let range = |range: Workers| json!([range.min, range.max]);
    put("workers", definition.workers.map(range));
    put("replicas", definition.replicas.map(Value::from));
    put("secrets", Some(definition.secrets.into()));
    put("env", Some(json!(definition.env)));
    put("timeout", definition.timeout.map(Value::from));
    put("maxBody", definition.max_body.map(Value::from));
    put("queue", definition.queue.map(Value::from));
    put("memory", definition.memory.map(Value::from));
    put("cpuTime", definition.cpu_time.map(Value::from));
    put("stream", definition.stream.map(Value::from));
    put("options", Some(definition.options.into()));
    put("services", Some(definition.services.into()));
    object.into()
}

fn text(value: &Value, field: &str) -> String {
    optional_text(value, field).unwrap_or_default()
}

fn optional_text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let texts = |text: &Value| text.as_str().map(str::to_owned);
    let values = value[field].as_array();
    values.into_iter().flatten().filter_map(texts).collect()
}

fn small(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Each of an array.
pub(super) fn all<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    let values = value.as_array();
    values.into_iter().flatten().map(read).collect()
}

pub(super) fn functions(value: &Value) -> Vec<Function> {
    all(value, function)
}

pub(super) fn function(value: &Value) -> Function {
    Function {
        name: text(value, "name"),
        status: text(value, "status"),
        url: text(value, "url"),
        proxy: text(value, "proxy"),
        at_agent: text(value, "atAgent"),
        version: value["version"].as_u64(),
        message: text(value, "message"),
        lines: texts(value, "lines"),
        removed: value["removed"].as_bool().unwrap_or_default(),
    }
}

fn definition(value: &Value) -> Option<Definition> {
    let object = value.as_object()?;
    let code = optional_text(value, "bundle").map(Code::Bundle);
    let code = code.or_else(|| optional_text(value, "dir").map(Code::Dir));
    let code = code.or_else(|| optional_text(value, "url").map(Code::Url));
    let code = code.or_else(|| {
        object.get("command")?;
        let words = texts(value, "command");
        Some(Code::Command(Command { words }))
    });
    let workers = value["workers"].as_array().and_then(|range| {
        let (min, max) = (small(range.first()?)?, small(range.get(1)?)?);
        Some(Workers { min, max })
    });
    let variables = value["env"].as_object();
    let variable = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
    Some(Definition {
        name: text(value, "name"),
        code,
        file_path: optional_text(value, "filePath"),
        to_agent: optional_text(value, "toAgent"),
        workers,
        replicas: small(&value["replicas"]),
        secrets: texts(value, "secrets"),
        env: variables
            .into_iter()
            .flatten()
            .filter_map(variable)
            .collect(),
        timeout: value["timeout"].as_f64(),
        max_body: value["maxBody"].as_u64(),
        queue: value["queue"].as_u64(),
        memory: value["memory"].as_u64(),
        cpu_time: value["cpuTime"].as_f64(),
        stream: value["stream"].as_bool(),
        options: texts(value, "options"),
        services: texts(value, "services"),
    })
}

fn signature(value: &Value) -> Option<Signature> {
    let parameter = |value: &Value| Parameter {
        name: text(value, "name"),
        r#type: text(value, "type"),
        required: value["required"].as_bool().unwrap_or_default(),
    };
    value.as_object()?;
    Some(Signature {
        parameters: all(&value["parameters"], parameter),
        open: value["open"].as_bool().unwrap_or_default(),
    })
}

pub(super) fn details(value: &Value) -> FunctionDetails {
    let replica = |value: &Value| Replica {
        agent: text(value, "agent"),
        status: text(value, "status"),
        message: text(value, "message"),
    };
    FunctionDetails {
        function: Some(function(value)),
        definition: definition(&value["definition"]),
        signature: signature(&value["signature"]),
        deployed: text(value, "deployed"),
        previous: value["previous"].as_u64(),
        workers: small(&value["workers"]).unwrap_or_default(),
        queue: value["queue"].as_u64().unwrap_or_default(),
        requests: value["requests"].as_u64().unwrap_or_default(),
        replicas: all(&value["replicas"], replica),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::functions;

    fn full(code: Code) -> Definition {
        Definition {
            name: "a".into(),
            code: Some(code),
            file_path: Some("f.R".into()),
            to_agent: Some("b:1".into()),
            workers: Some(Workers { min: 0, max: 3 }),
            replicas: Some(2),
            secrets: vec!["s".into()],
            env: BTreeMap::from([("K".into(), "v".into())]),
            timeout: Some(1.5),
            max_body: Some(7),
            queue: Some(8),
            memory: Some(9),
            cpu_time: Some(2.5),
            stream: Some(true),
            options: Vec::new(),
            services: Vec::new(),
        }
    }

    /// Every field arrives where management reads it, and comes back: one that a definition gets and this has not is seen by its
    /// number.
    #[test]
    fn definitions_come_back_as_they_were() {
        let words = vec!["sed".into(), "-n".into()];
        for (code, options, services) in [
            (Code::Bundle("0".repeat(64)), vec![], vec![]),
            (Code::Dir("/d".into()), vec![], vec![]),
            (Code::Url("http://u".into()), vec![], vec![]),
            (
                Code::Url("grpc://u:1".into()),
                vec![],
                vec!["a.B".to_owned()],
            ),
            (
                Code::Command(Command { words }),
                vec!["e=".to_owned()],
                vec![],
            ),
        ] {
            let given = Definition {
                options,
                services,
                ..full(code)
            };
            let json = definition_json(given.clone());
            let parsed = functions::Definition::parse_all(json.to_string().as_bytes());
            let parsed = parsed.expect("a definition").remove(0);
            let back = parsed.to_json();
            assert_eq!(definition(&back), Some(given.clone()));
            let lists = [&given.options, &given.services].into_iter();
            let empty = lists.filter(|list| list.is_empty()).count();
            assert_eq!(
                back.as_object().map(Map::len),
                json.as_object().map(|json| json.len() - empty)
            );
        }
    }

    #[test]
    fn what_is_not_set_is_left_to_the_agent() {
        let json = definition_json(Definition {
            name: "a".into(),
            code: Some(Code::Url("http://u".into())),
            ..Definition::default()
        });
        let parsed = functions::Definition::parse_all(json.to_string().as_bytes());
        let expected = functions::Definition::parse_all(br#"{"name": "a", "url": "http://u"}"#);
        assert_eq!(parsed, expected);
        assert!(parsed.is_ok());
    }

    #[test]
    fn details_are_read() {
        let read = details(&json!({
            "name": "a", "status": "deployed", "url": "u", "proxy": "", "atAgent": "b:1", "version": 2,
            "definition": null, "signature": {"parameters": [{"name": "e", "type": "any", "required": true}], "open": false},
            "deployed": "2020-01-01T00:00:00Z", "previous": 1, "workers": 1, "queue": 0, "requests": 5,
            "replicas": [{"agent": "b:1", "status": "deployed", "message": null}],
        }));
        assert_eq!(
            read.function.map(|function| function.version),
            Some(Some(2))
        );
        assert_eq!(read.definition, None);
        assert_eq!(read.signature.map(|it| it.parameters.len()), Some(1));
        assert_eq!((read.previous, read.requests), (Some(1), 5));
        assert_eq!(read.replicas.len(), 1);
    }
}

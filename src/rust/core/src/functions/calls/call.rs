//! A call that nobody waits for, as it is kept and as it is told of.

use std::time::{Duration, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::HeaderMap;
use serde_json::{json, Map, Value};

use super::callback::CallbackUrl;
use super::CallId;
use crate::client_address::ClientAddress;

/// How often a call is begun that may be begun again, at most.
pub const MOST_RUNS: u32 = 3;

/// `Queued`, then `Running`, then one of the others; from `Running` back to `Queued` while no function has seen any of it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Queued,
    /// Its functions have it, or it waits for their workers.
    Running,
    Done(Outcome),
    /// What it was answered with, or why it was not: see [`error`](super::error).
    Failed(Value),
    /// The server ended while it was running.
    Lost(Value),
    Cancelled,
}

/// The answer of a call that went well. Its bytes are in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    pub content_type: Option<String>,
    /// In bytes.
    pub length: u64,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::Lost(_) => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Where the end of a call is told, and what has come of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    pub url: CallbackUrl,
    pub status: Delivery,
    /// How often it was tried.
    pub tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Waiting,
    Delivered,
    Failed,
}

impl Delivery {
    const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: CallId,
    /// As it was written.
    pub chain: String,
    /// Whose it is.
    pub client: ClientAddress,
    /// Of those of its request that are for its functions.
    pub headers: HeaderMap,
    /// The length of its input, in bytes.
    pub input: u64,
    /// How long it may take, waiting included, from `created` on. `None`: as long as its functions may.
    pub timeout: Option<Duration>,
    /// How long its result is kept once it has ended.
    pub result_ttl: Duration,
    /// Whether it may be begun again when it is not known how far it came.
    pub retry: bool,
    /// How often it was begun.
    pub runs: u32,
    pub created: SystemTime,
    pub started: Option<SystemTime>,
    pub ended: Option<SystemTime>,
    pub state: State,
    /// Whether its result is gone, as `result_ttl` is over.
    pub expired: bool,
    pub callback: Option<Callback>,
}

impl Call {
    /// What is told of it.
    pub fn told(&self) -> Value {
        let url = format!("/calls/{}", self.id);
        let (result, error) = match &self.state {
            State::Done(done) if !self.expired => (
                json!({
                    "status": done.status, "type": done.content_type, "length": done.length,
                    "url": format!("{url}/result"),
                }),
                Value::Null,
            ),
            State::Failed(error) | State::Lost(error) => (Value::Null, error.clone()),
            _ => (Value::Null, Value::Null),
        };
        json!({
            "id": self.id.to_string(),
            "chain": self.chain,
            "status": self.state.name(),
            "created": time(self.created),
            "started": self.started.map(time),
            "ended": self.ended.map(time),
            "error": error,
            "result": result,
            "callback": self.callback.as_ref().map(|callback| json!({
                "url": callback.url.as_str(), "status": callback.status.name(), "tries": callback.tries,
            })),
        })
    }

    /// When its result goes, if it has ended.
    pub fn expires(&self) -> Option<SystemTime> {
        self.ended?.checked_add(self.result_ttl)
    }

    /// When nothing is known of it any more: as long after that as its result was kept.
    pub fn is_forgotten(&self) -> Option<SystemTime> {
        self.expires()?.checked_add(self.result_ttl)
    }

    /// Whether its end is still to be told to somebody.
    pub fn is_to_be_told(&self) -> bool {
        let callback = self.callback.as_ref();
        self.state.has_ended()
            && callback.is_some_and(|callback| callback.status == Delivery::Waiting)
    }

    /// What is left of its time, if it has a limit.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        let gone = now.duration_since(self.created).unwrap_or_default();
        self.timeout.map(|timeout| timeout.saturating_sub(gone))
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn to_json(&self) -> Value {
        let mut record = self.told();
        let text = |value: &HeaderValue| Value::from(value.to_str().unwrap_or_default());
        let headers = self.headers.iter();
        let headers: Map<_, _> = headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        let more = json!({
            "client": self.client.to_string(),
            "headers": headers,
            "input": self.input,
            "timeout": self.timeout.map(|timeout| timeout.as_secs_f64()),
            "result_ttl": self.result_ttl.as_secs_f64(),
            "retry": self.retry,
            "runs": self.runs,
            "expired": self.expired,
        });
        if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
            record.extend(more);
        }
        record
    }

    /// Reads what was kept under a name.
    ///
    /// # Errors
    /// It is no such record.
    pub fn parse(name: &str, content: &[u8]) -> Result<Self, String> {
        let record: Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let fields = Fields(&record);
        Ok(Self {
            id: CallId::parse(name).ok_or("its name is no id")?,
            chain: fields.text("chain")?.to_owned(),
            client: fields
                .text("client")?
                .parse()
                .map_err(|_| "`client` is none")?,
            headers: fields.headers()?,
            input: fields.number("input")?,
            timeout: fields.seconds("timeout")?,
            result_ttl: fields.seconds("result_ttl")?.ok_or("no `result_ttl`")?,
            retry: fields.flag("retry")?,
            runs: fields.number("runs")?.try_into().unwrap_or(u32::MAX),
            created: fields.time("created")?.ok_or("no `created`")?,
            started: fields.time("started")?,
            ended: fields.time("ended")?,
            state: fields.state()?,
            expired: fields.flag("expired")?,
            callback: fields.callback()?,
        })
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A record that is read.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.0[name].as_str().ok_or(format!("no `{name}`"))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.0[name].as_u64().ok_or(format!("no `{name}`"))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.0[name].as_bool().ok_or(format!("no `{name}`"))
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, String> {
        if self.0[name].is_null() {
            return Ok(None);
        }
        let seconds = self.0[name].as_f64();
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration.map(Some).ok_or(format!("no `{name}`"))
    }

    fn time(&self, name: &str) -> Result<Option<SystemTime>, String> {
        if self.0[name].is_null() {
            return Ok(None);
        }
        let time = humantime::parse_rfc3339(self.text(name)?);
        time.map(Some).map_err(|error| format!("`{name}`: {error}"))
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let headers = self.0["headers"].as_object().ok_or("no `headers`")?;
        let header = |(name, value): (&String, &Value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
        };
        let headers: Option<_> = headers.iter().map(header).collect();
        headers.ok_or("`headers` are none".into())
    }

    fn state(&self) -> Result<State, String> {
        let error = || self.0["error"].clone();
        Ok(match self.text("status")? {
            "queued" => State::Queued,
            "running" => State::Running,
            "failed" => State::Failed(error()),
            "lost" => State::Lost(error()),
            "cancelled" => State::Cancelled,
            "done" => State::Done(self.outcome()),
            other => return Err(format!("`{other}` is no status")),
        })
    }

    /// Of one whose result is gone there is none.
    fn outcome(&self) -> Outcome {
        let result = &self.0["result"];
        let status = result["status"]
            .as_u64()
            .and_then(|status| status.try_into().ok());
        Outcome {
            status: status.unwrap_or(200),
            content_type: result["type"].as_str().map(str::to_owned),
            length: result["length"].as_u64().unwrap_or_default(),
        }
    }

    fn callback(&self) -> Result<Option<Callback>, String> {
        let callback = &self.0["callback"];
        if callback.is_null() {
            return Ok(None);
        }
        let fields = Fields(callback);
        let status = fields.text("status")?;
        let mut all = Delivery::ALL.into_iter();
        let status = all.find(|delivery| delivery.name() == status);
        Ok(Some(Callback {
            url: CallbackUrl::parse(fields.text("url")?)?,
            status: status.ok_or("no status of a callback")?,
            tries: fields.number("tries")?.try_into().unwrap_or(u32::MAX),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(state: State) -> Call {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        Call {
            id: CallId::new().expect("random"),
            chain: "a | b".into(),
            client: "10.0.0.7".parse().expect("an address"),
            headers: HeaderMap::from_iter([(
                hyper::header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain"),
            )]),
            input: 5,
            timeout: Some(Duration::from_millis(1500)),
            result_ttl: Duration::from_secs(10),
            retry: true,
            runs: 2,
            created: now,
            started: Some(now),
            ended: state.has_ended().then_some(now),
            state,
            expired: false,
            callback: Some(Callback {
                url: CallbackUrl::parse("http://a.example/x?y").expect("a URL"),
                status: Delivery::Waiting,
                tries: 1,
            }),
        }
    }

    fn outcome() -> State {
        State::Done(Outcome {
            status: 200,
            content_type: Some("text/plain".into()),
            length: 7,
        })
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let error = json!({ "error": "no", "stage": 2 });
        for state in [
            State::Queued,
            State::Running,
            outcome(),
            State::Failed(error.clone()),
            State::Lost(error),
            State::Cancelled,
        ] {
            let call = call(state);
            let content = call.to_json().to_string();
            let read = Call::parse(&call.id.to_string(), content.as_bytes());
            assert_eq!(read, Ok(call));
        }
    }

    #[test]
    fn what_is_cut_off_is_no_record() {
        let call = call(outcome());
        let content = call.to_json().to_string();
        for end in 0..content.len() {
            let read = Call::parse(&call.id.to_string(), &content.as_bytes()[..end]);
            read.expect_err("cut off");
        }
        Call::parse("x", content.as_bytes()).expect_err("no id");
    }

    #[test]
    fn what_is_told() {
        let mut call = call(outcome());
        let told = call.told();
        assert_eq!(told["status"], "done");
        assert_eq!(told["created"], "2023-11-14T22:13:20.123Z");
        assert_eq!(told["result"]["url"], format!("/calls/{}/result", call.id));
        assert_eq!(told["error"], Value::Null);
        assert_eq!(told["callback"]["status"], "waiting");
        assert!(told.get("headers").is_none(), "{told}");
        call.expired = true;
        assert_eq!(call.told()["result"], Value::Null);
    }
}

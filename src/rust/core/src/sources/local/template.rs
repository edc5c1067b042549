//! The front's half of the conversation with a template: a process that has loaded the app, and forks
//! workers when it is told to.
//!
//! A template is started as a worker is, with `FAUCET_TEMPLATE=1`, without `FAUCET_SOCKET`, and with
//! `FAUCET_WORKER_ID=0`. Its standard input is one end of a Unix stream socket, on which both sides
//! write lines:
//!
//! ```text
//! template -> front
//!   ready                            the app is loaded up to where it would serve
//!   unable <why>                     this app cannot be forked from, or not be native
//!   born <generation> <pid>          the answer to `fork`
//!   failed <generation> <why>        the other one
//!   exited <pid> code <n>            the answer to `reap`
//!   exited <pid> signal <n>          the other one
//!
//! front -> template
//!   fork <json>                      see ForkOrder
//!   reap <pid>
//! ```
//!
//! `ready` or `unable` is said once, first. With each `fork` come three descriptors (`SCM_RIGHTS`) for the
//! worker's standard input, output and error. One read may return lines from before it as well, but the
//! descriptors of one `fork` only: the reader keeps them in a queue, from which each `fork` takes three.
//!
//! Before it says `born`, the template has closed its own copies of the three, and has made the child the
//! leader of a process group, as the child does, too. A child closes the conversation, and nobody else has
//! it: neither the template's nor a worker's children, which is why it does not stay standard input.
//!
//! `reap` is said when the front has seen the child's end; the template never waits for one by itself, so that
//! no pid means another process before the front knows. End of file means that nobody needs the template any
//! more, or that the front is gone: it ends. Its children live as long as their own standard input, which
//! the front holds, and do not mind the template's end.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::confinement::Confined;

/// How long a template may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A worker to be born.
pub struct Fork {
    pub order: ForkOrder,
    /// Its standard input, output and error.
    pub streams: [OwnedFd; 3],
}

/// What a template is told of it:
/// `{"id": 1, "generation": 7, "port": 4711, "socket": "/tmp/...", "dir": null, "env": {"TMPDIR": "/tmp/..."}, "confined": null}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkOrder {
    pub id: u32,
    pub generation: u64,
    pub port: u16,
    pub socket: PathBuf,
    /// Where it runs; `None` for where the template does.
    pub dir: Option<PathBuf>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    pub confined: Confined,
}

impl ForkOrder {
    /// In one line.
    pub fn to_json(&self) -> Value {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let confined = match self.confined.is_none() {
            true => Value::Null,
            false => self.confined.to_json(),
        };
        json!({
            "id": self.id,
            "generation": self.generation,
            "port": self.port,
            "socket": text(&self.socket),
            "dir": self.dir.as_deref().map(text),
            "env": self.env,
            "confined": confined,
        })
    }

    /// `None` if it is no such JSON.
    pub fn parse(json: &str) -> Option<Self> {
        let order: Value = serde_json::from_str(json).ok()?;
        let number = |name: &str| order.get(name)?.as_u64();
        let env = order.get("env")?.as_object()?;
        let variable =
            |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        Some(Self {
            id: number("id")?.try_into().ok()?,
            generation: number("generation")?,
            port: number("port")?.try_into().ok()?,
            socket: order.get("socket")?.as_str()?.into(),
            dir: match order.get("dir")? {
                Value::Null => None,
                dir => Some(dir.as_str()?.into()),
            },
            env: env.iter().map(variable).collect::<Option<_>>()?,
            confined: match order.get("confined")? {
                Value::Null => Confined::default(),
                confined => Confined::from_json(confined)?,
            },
        })
    }
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum ForkFailed {
    #[error("{0}")]
    Refused(String),
    #[error("the template has ended")]
    Gone,
    #[error("the template did not answer within {} s", ANSWER.as_secs())]
    Silent,
}

enum Order {
    Fork(Box<Fork>, oneshot::Sender<Result<u32, ForkFailed>>),
    Reap(u32, oneshot::Sender<ExitStatus>),
}

/// A line to a template. When the last clone is dropped, nobody needs the template any more.
#[derive(Clone)]
pub struct Line(mpsc::UnboundedSender<Order>);

impl Line {
    /// Has a worker forked; its pid.
    ///
    /// # Errors
    /// The template cannot, or does not answer.
    pub async fn fork(&self, fork: Fork) -> Result<u32, ForkFailed> {
        let (answer, born) = oneshot::channel();
        self.0
            .send(Order::Fork(Box::new(fork), answer))
            .map_err(|_| ForkFailed::Gone)?;
        match tokio::time::timeout(ANSWER, born).await {
            Ok(answer) => answer.unwrap_or(Err(ForkFailed::Gone)),
            Err(_) => Err(ForkFailed::Silent),
        }
    }

    /// Lets a child that has ended go; how it ended, if the template still knows.
    pub async fn reap(&self, pid: u32) -> Option<ExitStatus> {
        let (answer, exited) = oneshot::channel();
        self.0.send(Order::Reap(pid, answer)).ok()?;
        tokio::time::timeout(ANSWER, exited).await.ok()?.ok()
    }
}

/// What a template says of itself.
pub type Word = Result<(), String>;

/// The front's end of a conversation that has not begun.
pub struct Conversation {
    stream: StdStream,
    orders: mpsc::UnboundedReceiver<Order>,
    word: oneshot::Sender<Word>,
}

impl Conversation {
    /// A conversation, a line into it, the template's word to come, and the template's standard input.
    ///
    /// # Errors
    /// The system refuses a pair of sockets.
    pub fn new() -> io::Result<(Self, Line, oneshot::Receiver<Word>, OwnedFd)> {
        let (stream, stdin) = StdStream::pair()?;
        stream.set_nonblocking(true)?;
        let (line, orders) = mpsc::unbounded_channel();
        let (word, said) = oneshot::channel();
        let conversation = Self {
            stream,
            orders,
            word,
        };
        Ok((conversation, Line(line), said, stdin.into()))
    }

    /// Talks until the template hangs up or is not needed any more. Whoever waits for an answer then is
    /// told that there will be none.
    pub async fn run(mut self) {
        let Ok(stream) = UnixStream::from_std(self.stream) else {
            return;
        };
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut word = Some(self.word);
        let mut waiting = Waiting::default();
        loop {
            tokio::select! {
                order = self.orders.recv() => {
                    let sent = match order {
                        None => return,
                        Some(Order::Fork(fork, answer)) => {
                            waiting.births.insert(fork.order.generation, answer);
                            send_fork(&mut writer, *fork).await
                        }
                        Some(Order::Reap(pid, answer)) => {
                            waiting.ends.insert(pid, answer);
                            writer.write_all(format!("reap {pid}\n").as_bytes()).await
                        }
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else {
                        return;
                    };
                    let understood = match Said::parse(&line) {
                        Some(Said::Word(said)) => word.take().map(|word| drop(word.send(said))),
                        Some(Said::Answer(answer)) => {
                            waiting.answer(answer);
                            Some(())
                        }
                        None => None,
                    };
                    if understood.is_none() {
                        tracing::error!("the template says what nobody understands: {line}");
                        return;
                    }
                }
            }
        }
    }
}

/// Those who wait for an answer. One that nobody waits for any more is dropped.
#[derive(Default)]
struct Waiting {
    births: HashMap<u64, oneshot::Sender<Result<u32, ForkFailed>>>,
    ends: HashMap<u32, oneshot::Sender<ExitStatus>>,
}

impl Waiting {
    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Forked(generation, outcome) => {
                if let Some(asker) = self.births.remove(&generation) {
                    let _ = asker.send(outcome.map_err(ForkFailed::Refused));
                }
            }
            Answer::Exited(pid, status) => {
                if let Some(asker) = self.ends.remove(&pid) {
                    let _ = asker.send(status);
                }
            }
        }
    }
}

/// A line of a template.
#[derive(Debug, PartialEq)]
enum Said {
    Word(Word),
    Answer(Answer),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Forked(u64, Result<u32, String>),
    Exited(u32, ExitStatus),
}

impl Said {
    fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(match verb {
            "ready" => Self::Word(Ok(())),
            "unable" => Self::Word(Err(rest.to_owned())),
            "born" => Self::Answer(Answer::Forked(first.parse().ok()?, Ok(more.parse().ok()?))),
            "failed" => Self::Answer(Answer::Forked(first.parse().ok()?, Err(more.to_owned()))),
            "exited" => {
                let status = match more.split_once(' ')? {
                    ("code", code) => (code.parse::<i32>().ok()? & 0xff) << 8,
                    ("signal", signal) => signal.parse::<i32>().ok()? & 0x7f,
                    _ => return None,
                };
                Self::Answer(Answer::Exited(
                    first.parse().ok()?,
                    ExitStatus::from_raw(status),
                ))
            }
            _ => return None,
        })
    }
}

/// The line and, with its first byte, the descriptors. A template that is gone is an error, no signal: the
/// server's threads block those.
async fn send_fork(writer: &mut OwnedWriteHalf, fork: Fork) -> io::Result<()> {
    let line = format!("fork {}\n", fork.order.to_json());
    let stream: &UnixStream = writer.as_ref();
    let sent = loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let [stdin, stdout, stderr] = &fork.streams;
            let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
            ancillary.push(SendAncillaryMessage::ScmRights(&streams));
            let bytes = [IoSlice::new(line.as_bytes())];
            Ok(sendmsg(stream, &bytes, &mut ancillary, SendFlags::empty())?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => break sent?,
        }
    };
    writer.write_all(&line.as_bytes()[sent..]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        let order = ForkOrder {
            id: 3,
            generation: u64::MAX,
            port: 4711,
            socket: "/tmp/a b/7".into(),
            dir: Some("/srv/\"quoted\"".into()),
            env: [("A".to_owned(), "b\nc".to_owned())].into(),
            confined: Confined {
                identity: None,
                memory: Some(1),
                cpu_time: None,
            },
        };
        let line = order.to_json().to_string();
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(ForkOrder::parse(&line), Some(order.clone()));
        let plain = ForkOrder {
            dir: None,
            confined: Confined::default(),
            ..order
        };
        assert_eq!(ForkOrder::parse(&plain.to_json().to_string()), Some(plain));
        for bad in ["", "{}", "[]", "7 8 9 /tmp/a"] {
            assert_eq!(ForkOrder::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_templates_say() {
        let word = |word: Word| Some(Said::Word(word));
        assert_eq!(Said::parse("ready"), word(Ok(())));
        assert_eq!(
            Said::parse("unable it has threads"),
            word(Err("it has threads".into()))
        );
        let born = |outcome| Some(Said::Answer(Answer::Forked(7, outcome)));
        assert_eq!(Said::parse("born 7 1234"), born(Ok(1234)));
        assert_eq!(
            Said::parse("failed 7 no memory"),
            born(Err("no memory".into()))
        );
        let exited = |line| match Said::parse(line) {
            Some(Said::Answer(Answer::Exited(9, status))) => (status.code(), status.signal()),
            other => panic!("{other:?}"),
        };
        assert_eq!(exited("exited 9 code 3"), (Some(3), None));
        assert_eq!(exited("exited 9 signal 11"), (None, Some(11)));
        for bad in ["", "born", "born 7", "born x 1", "exited 9 3", "ciao"] {
            assert_eq!(Said::parse(bad), None, "{bad}");
        }
    }
}

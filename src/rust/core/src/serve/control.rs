//! What the front says of a request in flight: one line, one answer, on a connection of its own.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::dispatcher::{Outcome, Why};
use super::handler::Handler;
use super::listening::Terms;

/// The longest line, in bytes.
const LONGEST: u64 = 256;

/// Lines until the front has nothing more to say.
pub(super) async fn serve(
    handler: &impl Handler,
    terms: &Terms,
    stream: UnixStream,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LONGEST));
    loop {
        let mut line = String::new();
        reader.get_mut().set_limit(LONGEST);
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let answer = match line {
            "docs" => told("docs", terms.docs.as_deref()),
            "signature" => told("signature", terms.signature.as_deref()),
            "routes" => told("routes", terms.routes.as_deref()),
            _ => execute(handler, line).await.to_owned(),
        };
        writer.write_all(answer.as_bytes()).await?;
        writer.write_all(b"\n").await?;
    }
}

fn told(what: &str, value: Option<&str>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{what} {value}"))
}

/// What a line asks for, of the request with that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Interrupt(u64, Why),
    Tell(u64),
}

impl Wish {
    /// `None`: it is no such line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        let number = words.next()?.parse().ok()?;
        let why = words.next();
        if words.next().is_some() {
            return None;
        }
        match (verb, why) {
            ("interrupt", Some("left")) => Some(Self::Interrupt(number, Why::Left)),
            ("interrupt", Some("deadline")) => Some(Self::Interrupt(number, Why::Deadline)),
            ("tell", None) => Some(Self::Tell(number)),
            _ => None,
        }
    }
}

async fn execute(handler: &impl Handler, line: &str) -> &'static str {
    match Wish::parse(line) {
        Some(Wish::Interrupt(number, why)) => match handler.interrupt(number, why).await {
            Outcome::Interrupted => "interrupted",
            Outcome::Over => "over",
        },
        Some(Wish::Tell(number)) if handler.tell(number) => "told",
        Some(Wish::Tell(_)) => "over",
        None => "what?",
    }
}

//! What the front says of a request in flight: one line, one answer, on a connection of its own.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::desk::{Desk, Outcome, Why};

/// The longest line, in bytes.
const LONGEST: u64 = 256;

/// Lines until the front has nothing more to say.
pub(super) async fn serve(desk: &Desk, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LONGEST));
    loop {
        let mut line = String::new();
        reader.get_mut().set_limit(LONGEST);
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = obey(desk, line.trim_end()).await;
        writer.write_all(answer.as_bytes()).await?;
        writer.write_all(b"\n").await?;
    }
}

async fn obey(desk: &Desk, line: &str) -> &'static str {
    let mut words = line.split(' ');
    let verb = words.next();
    let number = words.next().and_then(|number| number.parse().ok());
    let why = match words.next() {
        None => None,
        Some("left") => Some(Why::Left),
        Some("deadline") => Some(Why::Deadline),
        Some(_) => return "what?",
    };
    match (verb, number, why) {
        (Some("interrupt"), Some(number), Some(why)) => match desk.interrupt(number, why).await {
            Outcome::Interrupted => "interrupted",
            Outcome::Over => "over",
        },
        (Some("tell"), Some(number), None) if desk.tell(number) => "told",
        (Some("tell"), Some(_), None) => "over",
        _ => "what?",
    }
}

//! The log of a function as messages: whole lines, as far as a message can hold them.

use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use tonic::codegen::tokio_stream::Stream;
use tonic::Status;

use super::proto::LogsResponse;
use super::status;
use crate::front::Reply;

/// Bytes of a message at most. A line that is longer is cut.
const LARGEST: usize = 64 * 1024;

/// The lines of a log.
pub(super) struct Lines {
    /// What has arrived, and is not told.
    text: BytesMut,
    /// Until its end, if more comes.
    more: Option<Reply>,
}

impl Lines {
    /// These and no more.
    pub(super) fn of_text(text: &str) -> Self {
        Self {
            text: text.as_bytes().into(),
            more: None,
        }
    }

    /// Those that come.
    pub(super) fn of_body(body: Reply) -> Self {
        Self {
            text: BytesMut::new(),
            more: Some(body),
        }
    }

    /// What can be told now.
    fn take(&mut self) -> Option<Bytes> {
        let most = self.text.len().min(LARGEST);
        let line = self.text[..most].iter().rposition(|byte| *byte == b'\n');
        let end = match line {
            Some(line) => line + 1,
            None if most == LARGEST => cut(&self.text[..most]),
            None if self.more.is_none() => most,
            None => 0,
        };
        (end > 0).then(|| self.text.split_to(end).freeze())
    }
}

/// The last place where no character is cut in two. What is no text is cut anywhere.
fn cut(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| *byte & 0xC0 != 0x80;
    let last = bytes.iter().rposition(begins).unwrap_or(0);
    if bytes.len() - last > 4 || last == 0 {
        bytes.len()
    } else {
        last
    }
}

impl Stream for Lines {
    type Item = Result<LogsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(text) = this.take() {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Poll::Ready(Some(Ok(LogsResponse { text })));
            }
            let Some(more) = &mut this.more else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(more).poll_frame(cx)) {
                None => this.more = None,
                Some(Err(abort)) => {
                    this.more = None;
                    this.text.clear();
                    return Poll::Ready(Some(Err(status::of_abort(abort))));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.text.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mut lines: Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.take())
            .map(|text| String::from_utf8(text.to_vec()).expect("a text"))
            .collect()
    }

    #[test]
    fn lines_are_whole_and_characters_are() {
        assert_eq!(messages(Lines::of_text("")), Vec::<String>::new());
        assert_eq!(messages(Lines::of_text("a\nb")), ["a\n", "b"]);
        let long = "\u{e9}".repeat(LARGEST);
        let text = format!("x{long}\nlast\n");
        let told = messages(Lines::of_text(&text));
        assert_eq!(told.concat(), text);
        assert!(told.iter().all(|message| message.len() <= LARGEST));
        assert!(told.len() <= 4);
    }
}

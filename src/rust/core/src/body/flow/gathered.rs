//! Pieces of a body that go on together.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

/// A piece from this size on, in bytes, is most likely one of many: those that follow at once go on with it. Smaller ones go on alone.
pub(super) const BULK: usize = 16 * 1024;

/// How much goes on together, in bytes: each piece that goes on by itself wakes whoever gets it.
pub(super) const TOGETHER: usize = 256 * 1024;

/// Pieces that were taken from the source, and go on together.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) pieces: VecDeque<Bytes>,
    /// Of all, in bytes, while more may join them; what there is goes on first.
    pub(super) length: usize,
    /// The same when the source last had the time to bring more.
    pub(super) before: usize,
    /// Whoever else has something to do does it meanwhile.
    pub(super) turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What comes behind them.
    pub(super) error: Option<io::Error>,
}

impl Gathered {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.pieces.push_back(piece);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.error.is_none()
    }

    /// Whether more may join them: nothing waits for what does not come at once.
    pub(super) fn may_grow(&self) -> bool {
        (BULK..TOGETHER).contains(&self.length) && self.length > self.before
    }

    /// Waits until the source has had the time to bring more.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self
            .turn
            .get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
        std::task::ready!(turn.as_mut().poll(cx));
        self.turn = None;
        Poll::Ready(())
    }

    /// The next that goes on; then others are gathered.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        (self.length, self.before) = (0, 0);
        Some(piece)
    }
}

//! A body's pieces in memory. Small ones are joined, as each would cost more than its bytes: its handle, and the buffer
//! that it was read into.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::store::{Charge, Store};

/// A piece below this is copied to others, in bytes; one that is alone is reckoned like this, as it keeps the buffer that
/// it was read into.
const SMALL: usize = 16 * 1024;

/// The largest block that small pieces are copied to. Blocks grow with the body.
const LARGEST_BLOCK: u64 = 128 * 1024;

struct Piece {
    bytes: Bytes,
    charge: Charge,
}

struct Block {
    bytes: BytesMut,
    charge: Charge,
}

impl Block {
    fn finish(self) -> Piece {
        Piece {
            bytes: self.bytes.freeze(),
            charge: self.charge,
        }
    }
}

/// Pieces, oldest first. What they take is charged to their store.
#[derive(Default)]
pub(crate) struct Pieces {
    done: VecDeque<Piece>,
    /// What small pieces are added to: younger than all that is done.
    block: Option<Block>,
    length: u64,
}

impl Pieces {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a piece. It comes back if there would be more than `most` bytes, or the store is full.
    pub(crate) fn push(&mut self, piece: Bytes, most: u64, store: &Store) -> Result<(), Bytes> {
        if self.length + piece.len() as u64 > most {
            return Err(piece);
        }
        self.add(piece, most, store, Charge::grow)
    }

    /// Adds a piece, whatever there is.
    pub(crate) fn force(&mut self, piece: Bytes, store: &Store) {
        let forced = |charge: &mut Charge, bytes: u64| {
            charge.force(bytes);
            true
        };
        // Nothing comes back: it was forced.
        let _ = self.add(piece, u64::MAX, store, forced);
    }

    fn add(
        &mut self,
        piece: Bytes,
        most: u64,
        store: &Store,
        take: impl Fn(&mut Charge, u64) -> bool,
    ) -> Result<(), Bytes> {
        if piece.is_empty() {
            return Ok(());
        }
        let length = piece.len() as u64;
        let alone = self.is_empty();
        if piece.len() >= SMALL || alone {
            let mut charge = store.charge();
            if !take(&mut charge, length.max(SMALL as u64)) {
                return Err(piece);
            }
            self.done.extend(self.block.take().map(Block::finish));
            self.done.push_back(Piece {
                bytes: piece,
                charge,
            });
            self.length += length;
            return Ok(());
        }
        let room = self
            .block
            .as_ref()
            .map_or(0, |block| block.bytes.capacity() - block.bytes.len());
        let (here, there) = piece.split_at(room.min(piece.len()));
        if !there.is_empty() {
            // One that was alone so far gives its buffer back.
            let lone = matches!(&self.done.front(), Some(lone) if self.done.len() == 1
                && self.block.is_none()
                && lone.bytes.len() < SMALL);
            let moved = if lone { self.length } else { 0 };
            let grown = self.length.clamp(SMALL as u64, LARGEST_BLOCK);
            let needed = moved + there.len() as u64;
            let capacity = grown.min(most - self.length + moved).max(needed);
            let mut charge = store.charge();
            if !take(&mut charge, capacity) {
                return Err(piece);
            }
            let mut bytes = BytesMut::with_capacity(capacity as usize);
            if lone {
                if let Some(lone) = self.done.pop_front() {
                    bytes.extend_from_slice(&lone.bytes);
                }
            }
            if let Some(mut full) = self.block.take() {
                full.bytes.extend_from_slice(here);
                self.done.push_back(full.finish());
            }
            bytes.extend_from_slice(there);
            self.block = Some(Block { bytes, charge });
        } else if let Some(block) = &mut self.block {
            block.bytes.extend_from_slice(here);
        }
        self.length += length;
        Ok(())
    }

    /// Takes the oldest bytes. What is large of them stays charged for as long as it is kept.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = match self.done.pop_front() {
            Some(piece) => piece,
            None => self.block.take()?.finish(),
        };
        self.length -= piece.bytes.len() as u64;
        Some(if piece.bytes.len() < SMALL {
            piece.bytes
        } else {
            piece.charge.over(piece.bytes)
        })
    }

    /// No more is added: each piece can be had by its number.
    pub(crate) fn finish(&mut self) {
        self.done.extend(self.block.take().map(Block::finish));
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Bytes> {
        self.done.get(index).map(|piece| &piece.bytes)
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::Descriptors;

    fn store(total: u64) -> Store {
        Store::new(total, Descriptors::new(10), 1).expect("a thread")
    }

    #[test]
    fn single_bytes_cost_little_more_than_themselves() {
        let store = store(u64::MAX);
        let mut pieces = Pieces::default();
        let whole: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        for byte in &whole {
            let piece = Bytes::copy_from_slice(&[*byte]);
            assert!(pieces.push(piece, 1_000_000, &store).is_ok());
        }
        assert!(pieces
            .push(Bytes::from_static(b"x"), 1_000_000, &store)
            .is_err());
        assert!(
            store.used() <= 1_000_000 + LARGEST_BLOCK,
            "{}",
            store.used()
        );
        let mut read = Vec::new();
        let mut count = 0;
        while let Some(piece) = pieces.pop() {
            read.extend_from_slice(&piece);
            count += 1;
        }
        assert!(read == whole, "differs");
        assert!(count < 20, "{count} pieces");
        assert_eq!(store.used(), 0);
    }

    #[test]
    fn pieces_of_all_sizes_keep_their_order_and_their_charge_is_given_back() {
        let sizes = [1, 20_000, 5, 16_384, 16_383, 16_383, 1, 1, 100_000, 7, 3];
        for first in 0..sizes.len() {
            let store = store(u64::MAX);
            let (mut pieces, mut whole) = (Pieces::default(), Vec::new());
            for (number, size) in sizes.iter().cycle().skip(first).take(40).enumerate() {
                let piece = vec![number as u8; *size];
                whole.extend_from_slice(&piece);
                pieces.force(piece.into(), &store);
                assert_eq!(pieces.len(), whole.len() as u64);
                assert!(store.used() >= pieces.len());
            }
            pieces.finish();
            let read: Vec<u8> = (0..)
                .map_while(|index| pieces.get(index))
                .flatten()
                .copied()
                .collect();
            assert!(read == whole, "differs");
            pieces.clear();
            assert_eq!((store.used(), pieces.len()), (0, 0));
        }
    }

    #[test]
    fn a_lone_piece_is_not_copied_and_nothing_is_kept_beyond_the_store() {
        let store = store(40_000);
        let mut pieces = Pieces::default();
        let first = Bytes::from(vec![1; 10]);
        let at = first.as_ptr();
        assert!(pieces.push(first, 1 << 20, &store).is_ok());
        assert_eq!(pieces.get(0).map(|piece| piece.as_ptr()), Some(at));
        assert_eq!(store.used(), SMALL as u64);
        assert!(pieces.push(vec![2; 20_000].into(), 1 << 20, &store).is_ok());
        assert!(pieces
            .push(vec![3; 20_000].into(), 1 << 20, &store)
            .is_err());
        assert!(pieces.push(vec![3; 10].into(), 1 << 20, &store).is_err());
        assert_eq!(pieces.len(), 20_010);
        let large = pieces.pop().and_then(|_| pieces.pop()).expect("two");
        assert_eq!(store.used(), 20_000);
        drop(large);
        assert_eq!(store.used(), 0);
    }
}

//! How much of a message has arrived that is not complete.

/// A message begins with a byte that says whether it is compressed, and its length as four.
const HEAD: usize = 5;

/// Follows messages through the bytes of a body.
#[derive(Debug, Default)]
pub(super) struct MessageMeter {
    head: [u8; HEAD],
    /// Bytes of the head that have arrived.
    headed: usize,
    length: usize,
    arrived: usize,
}

impl MessageMeter {
    /// So many bytes of an incomplete message are there now, with its head.
    pub(super) fn held(&self) -> usize {
        self.headed + self.arrived
    }

    /// These bytes come next. Returns the length of a message among them that is larger than `most`, if there is one: then
    /// all that follows is of no use.
    pub(super) fn take(&mut self, mut bytes: &[u8], most: usize) -> Option<usize> {
        while !bytes.is_empty() {
            if self.headed < HEAD {
                let count = bytes.len().min(HEAD - self.headed);
                let (head, rest) = bytes.split_at(count);
                self.head[self.headed..self.headed + count].copy_from_slice(head);
                self.headed += count;
                bytes = rest;
                if self.headed < HEAD {
                    break;
                }
                let [_, length @ ..] = self.head;
                self.length = u32::from_be_bytes(length) as usize;
                if self.length > most {
                    return Some(self.length);
                }
            }
            let count = bytes.len().min(self.length - self.arrived);
            self.arrived += count;
            bytes = &bytes[count..];
            if self.arrived == self.length {
                *self = Self::default();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_held_is_what_is_incomplete() {
        let mut meter = MessageMeter::default();
        assert_eq!(meter.take(&[0, 0, 0], 9), None);
        assert_eq!(meter.held(), 3);
        assert_eq!(meter.take(&[0, 2, 7], 9), None);
        assert_eq!(meter.held(), 6);
        assert_eq!(meter.take(&[7, 0, 0, 0, 0, 0], 9), None);
        assert_eq!(meter.held(), 0);
        assert_eq!(meter.take(&[0, 0, 0, 0, 10, 1], 9), Some(10));
    }

    proptest! {
        /// However it is cut.
        #[test]
        fn cuts_are_of_no_matter(
            lengths in prop::collection::vec(0..40u8, 0..20),
            cuts in prop::collection::vec(1..17usize, 0..99),
        ) {
            let bytes: Vec<u8> = lengths
                .iter()
                .flat_map(|length| [0, 0, 0, 0, *length].into_iter().chain(std::iter::repeat(1).take((*length).into())))
                .collect();
            let mut meter = MessageMeter::default();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                prop_assert_eq!(meter.take(now, 40), None);
                prop_assert!(meter.held() < 45);
                rest = later;
            }
            prop_assert_eq!(meter.take(rest, 40), None);
            prop_assert_eq!(meter.held(), 0);
        }
    }
}

//! Bytes without end that can be checked: what a stream is fed with, and whether they come back.

use std::io::{Error, ErrorKind, Result, Write};

/// A prime number, so that no buffer's size is a multiple of it.
const PERIOD: usize = 251;
/// About 256 KiB.
pub const BLOCK: usize = 1044 * PERIOD;

/// What is written again and again.
pub fn block() -> Vec<u8> {
    (0..BLOCK).map(|i| (i % PERIOD) as u8).collect()
}

/// Counts the bytes that come back, and looks at the first and the last of each piece.
#[derive(Debug, Default)]
pub struct Check {
    pub bytes: u64,
}

impl Check {
    pub fn take(&mut self, piece: &[u8]) -> Result<()> {
        let Some(last) = piece.len().checked_sub(1) else {
            return Ok(());
        };
        for i in [0, last] {
            let wanted = (self.bytes + i as u64) % PERIOD as u64;
            if u64::from(piece[i]) != wanted {
                let at = self.bytes + i as u64;
                let told = format!("another byte at {at} than was sent");
                return Err(Error::new(ErrorKind::InvalidData, told));
            }
        }
        self.bytes += piece.len() as u64;
        Ok(())
    }
}

/// Writes so many blocks, each as one chunk of HTTP/1.1 if `chunked`, and the end then.
pub fn write(to: &mut impl Write, blocks: u64, chunked: bool) -> Result<()> {
    let block = if chunked {
        [format!("{BLOCK:x}\r\n").as_bytes(), &block(), b"\r\n"].concat()
    } else {
        block()
    };
    for _ in 0..blocks {
        to.write_all(&block)?;
    }
    to.write_all(if chunked { b"0\r\n\r\n" } else { b"" })
}

/// Takes the chunks of HTTP/1.1 apart, however their bytes come.
#[derive(Debug)]
pub enum Chunks {
    /// So far.
    Size(String),
    /// Bytes that are to come, with the line's end.
    Data(u64),
    /// After the last chunk.
    Ended,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size(String::new())
    }
}

impl Chunks {
    const LINE_END: u64 = 2;

    pub fn take(&mut self, mut bytes: &[u8], check: &mut Check) -> Result<()> {
        while let Some(&first) = bytes.first() {
            match self {
                Self::Ended => return Ok(()),
                Self::Size(digits) => {
                    bytes = &bytes[1..];
                    match first {
                        b'\r' => {}
                        b'\n' => *self = Self::after_size(digits)?,
                        digit => digits.push(char::from(digit)),
                    }
                }
                Self::Data(left) => {
                    let taken = (bytes.len() as u64).min(*left);
                    let data = taken.min(left.saturating_sub(Self::LINE_END));
                    check.take(&bytes[..data as usize])?;
                    bytes = &bytes[taken as usize..];
                    *left -= taken;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
            }
        }
        Ok(())
    }

    fn after_size(digits: &str) -> Result<Self> {
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "not a chunk's size"))?;
        Ok(match size {
            0 => Self::Ended,
            size => Self::Data(size + Self::LINE_END),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_chunks_apart_wherever_they_are_cut() {
        let mut written = Vec::new();
        write(&mut written, 2, true).unwrap();
        for size in [1, 7, 1000, BLOCK + 11, 3 * BLOCK] {
            let (mut chunks, mut check) = (Chunks::default(), Check::default());
            for piece in written.chunks(size) {
                chunks.take(piece, &mut check).unwrap();
            }
            assert!(matches!(chunks, Chunks::Ended));
            assert_eq!(check.bytes, 2 * BLOCK as u64);
        }
    }

    #[test]
    fn sees_what_is_lost() {
        let block = block();
        let mut check = Check::default();
        check.take(&block[..10]).unwrap();
        assert!(check.take(&block[11..20]).is_err());
        let mut chunks = Chunks::default();
        assert!(chunks.take(b"zz\r\n", &mut check).is_err());
    }
}

//! Follows a chunked body (RFC 9112, 7.1) just enough to know where it ends.

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The first digit of a chunk's size.
    Size,
    /// Another digit, or what may follow a size.
    MoreSize,
    /// White space behind a size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or of the empty line at the end.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
}

/// A chunked body that is arriving.
///
/// It takes exactly what hyper's decoder takes: both must find the same end, or what one takes for a body is a request
/// to the other.
#[derive(Debug)]
pub struct Chunks {
    next: Next,
    /// Of the chunk: its size as far as it is known, then what is left of it.
    left: u64,
}

/// Bytes that no chunked body has there.
#[derive(Debug, PartialEq, Eq)]
pub struct NotChunks;

impl Default for Chunks {
    fn default() -> Self {
        Self {
            next: Next::Size,
            left: 0,
        }
    }
}

impl Chunks {
    /// Takes what belongs to the body. Its end, in `bytes`, if it ends there.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Option<usize>, NotChunks> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.next == Next::Data {
                let here = (bytes.len() - at) as u64;
                let data = here.min(self.left);
                self.left -= data;
                at += data as usize;
                if self.left == 0 {
                    self.next = Next::DataCr;
                }
                continue;
            }
            at += 1;
            if self.next == Next::EndLf && byte == b'\n' {
                return Ok(Some(at));
            }
            self.next = self.step(byte).ok_or(NotChunks)?;
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Option<Next> {
        Some(match (self.next, byte) {
            (Next::Size | Next::MoreSize, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left.checked_mul(16)?.checked_add(digit.into())?;
                Next::MoreSize
            }
            (Next::MoreSize | Next::Space, b' ' | b'\t') => Next::Space,
            (Next::MoreSize | Next::Space, b';') => Next::Extension,
            (Next::MoreSize | Next::Space | Next::Extension, b'\r') => Next::SizeLf,
            (Next::Extension, byte) if byte != b'\n' => Next::Extension,
            (Next::SizeLf, b'\n') if self.left == 0 => Next::Line,
            (Next::SizeLf, b'\n') => Next::Data,
            (Next::DataCr, b'\r') => Next::DataLf,
            (Next::DataLf, b'\n') => Next::Size,
            (Next::Line, b'\r') => Next::EndLf,
            (Next::Trailer, b'\r') => Next::TrailerLf,
            (Next::Line | Next::Trailer, _) => Next::Trailer,
            (Next::TrailerLf, b'\n') => Next::Line,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte and in one piece, with something behind it.
    fn end(body: &str) -> Result<Option<usize>, NotChunks> {
        let whole = Chunks::default().follow(body.as_bytes());
        let mut chunks = Chunks::default();
        for (at, byte) in body.bytes().enumerate() {
            match chunks.follow(&[byte]) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    assert_eq!(whole, Ok(Some(at + 1)));
                    return whole;
                }
                Err(error) => {
                    assert_eq!(whole, Err(NotChunks));
                    return Err(error);
                }
            }
        }
        assert_eq!(whole, Ok(None));
        whole
    }

    #[test]
    fn bodies_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "00000\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A\r\n0\r\n\r\n0\r\n\rx\r\n0 \t;x\r\n\r\n",
            "1;name=\"val\"\r\nx\r\n0;\r\nX: y\r\nZ: \n\r\n\r\n",
            "0\r\n:\r\n\r\n",
        ] {
            assert_eq!(end(body), Ok(Some(body.len())), "{body:?}");
            assert_eq!(end(&format!("{body}GET /")), Ok(Some(body.len())));
            for cut in 0..body.len() {
                assert_eq!(end(&body[..cut]), Ok(None), "{body:?}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_seen() {
        for body in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\n",
            "1 1\r\n",
            "1;a\nb\r\n",
            "1\rx",
            "1\r\nxy",
            "1\r\nx\rz",
            "0\r\n\rx",
            "0\r\nX: y\rz",
            "10000000000000000\r\n",
        ] {
            assert_eq!(end(body), Err(NotChunks), "{body:?}");
        }
    }
}

//! A unary call of faucet's gRPC service, as bytes: `Call` takes an `InvokeRequest` and gives an `InvokeResponse`.

use std::io::{Error, ErrorKind, Result};

pub const CALL: &str = "/faucet.v1.Functions/Call";
pub const CONTENT_TYPE: &str = "application/grpc";

/// Before each message: whether it is compressed, and its length in four bytes.
const PREFIX: usize = 5;
/// Of fields that hold bytes or text.
const WIRE_TYPE: u8 = 2;
const CHAIN: u8 = 1;
const MEDIA_TYPE: u8 = 2;
const DATA_IN: u8 = 5;
const DATA_OUT: u8 = 3;

/// The only message of a request.
pub fn request(chain: &str, media_type: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let fields = [
        (CHAIN, chain.as_bytes()),
        (MEDIA_TYPE, media_type.as_bytes()),
        (DATA_IN, data),
    ];
    for (number, value) in fields {
        message.push(number << 3 | WIRE_TYPE);
        put_length(&mut message, value.len());
        message.extend_from_slice(value);
    }
    let length = u32::try_from(message.len()).expect("bodies here are small");
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// The data in the only message of a response.
pub fn data(body: &[u8]) -> Result<&[u8]> {
    let (prefix, mut message) = split(body, PREFIX)?;
    if prefix[0] != 0 || prefix[1..] != (message.len() as u32).to_be_bytes() {
        return Err(malformed());
    }
    let mut data = &[][..];
    while let Some((&tag, rest)) = message.split_first() {
        if tag & 7 != WIRE_TYPE {
            return Err(malformed());
        }
        let (length, rest) = length(rest)?;
        let (value, rest) = split(rest, length)?;
        if tag >> 3 == DATA_OUT {
            data = value;
        }
        message = rest;
    }
    Ok(data)
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8])> {
    if at > bytes.len() {
        return Err(malformed());
    }
    Ok(bytes.split_at(at))
}

fn put_length(to: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        to.push(length as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

/// And what comes after it.
fn length(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut length = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((length, &bytes[i + 1..]));
        }
    }
    Err(malformed())
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "not one gRPC message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_request() {
        let written = request("f", "t", &[7; 200]);
        let head = [0, 0, 0, 0, 209, 0x0A, 1, b'f', 0x12, 1, b't', 0x2A, 200, 1];
        assert_eq!(written[..head.len()], head);
        assert_eq!(written[head.len()..], [7; 200]);
    }

    #[test]
    fn finds_the_data_of_a_response() {
        let body = [0, 0, 0, 0, 8, 0x0A, 1, b't', 0x1A, 3, b'4', b'2', b'\n'];
        assert_eq!(data(&body).unwrap(), b"42\n");
        assert!(data(&body[..body.len() - 1]).is_err());
        assert!(data(&[]).is_err());
    }
}

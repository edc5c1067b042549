//! Makes `X-Request-Id`s: 128 bits, unique over restarts and machines, not meant to be secret.

use hyper::header::HeaderValue;

use crate::ids;

/// A new id of 32 hexadecimal digits.
pub fn new_request_id() -> HeaderValue {
    let mut text = [0u8; 32];
    ids::write_hex(&ids::next().to_be_bytes(), &mut text);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_one_length() {
        let ids: std::collections::HashSet<_> = (0..1000)
            .map(|_| new_request_id().as_bytes().to_vec())
            .collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}

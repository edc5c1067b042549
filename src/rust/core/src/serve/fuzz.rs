//! Fuzz targets: what a front says to a native worker.

use super::control::Wish;
use super::dispatcher::Why;
use super::service::{parse_rest, take_number};
use crate::fuzz::headers_of;
use crate::worker::native::{BODY_FILE, REQUEST_NUMBER};

/// A line on the control socket.
pub fn control(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else {
        return;
    };
    let Some(wish) = Wish::parse(line) else {
        return;
    };
    let said = match wish {
        Wish::Interrupt(number, Why::Left) => format!("interrupt {number} left"),
        Wish::Interrupt(number, Why::Deadline) => format!("interrupt {number} deadline"),
        Wish::Tell(number) => format!("tell {number}"),
    };
    assert_eq!(Wish::parse(&said), Some(wish));
    assert_eq!(said.split(' ').count(), line.split(' ').count());
}

/// The headers beside a request's own.
pub fn metadata(data: &[u8]) {
    let mut headers = headers_of(data);
    let _ = take_number(&mut headers);
    if !headers.contains_key(REQUEST_NUMBER) {
        assert_eq!(take_number(&mut headers), None, "it is taken off");
    }
    for value in headers.get_all(BODY_FILE) {
        if let Some((length, path)) = parse_rest(value.as_bytes()) {
            let said = format!("{length} {path}");
            assert_eq!(parse_rest(said.as_bytes()), Some((length, path)));
        }
    }
}

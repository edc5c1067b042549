//! Where the system tells of no changes in a way that is used here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::look::What;
use super::Scope;

/// What would be read.
#[allow(dead_code)]
pub enum Found {
    Nothing,
    Something,
    Loss,
}

/// There are none.
pub enum Notices {}

impl Notices {
    /// # Errors
    /// Always.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn begin(&mut self) {
        match *self {}
    }

    pub fn enter(&mut self, _: &Path, _: What) -> io::Result<()> {
        match *self {}
    }

    pub fn finish(&mut self) {
        match *self {}
    }

    pub fn read(&mut self, _: &Scope) -> io::Result<Found> {
        match *self {}
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

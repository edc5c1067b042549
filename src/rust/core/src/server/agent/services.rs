//! Which services of gRPC an agent's functions have, before one more is deployed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::function::Function;
use super::Agent;
use crate::front::Told;
use crate::functions::{check_services, check_services_among, Definition, Name, ServiceTaken};
use crate::server::kept::{service_taken, storage};

/// Why a deployment has not begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBegun {
    #[error(transparent)]
    Taken(#[from] ServiceTaken),
    #[error(transparent)]
    Unkept(#[from] io::Error),
}

impl NotBegun {
    /// What is answered then.
    pub(super) fn told(&self) -> Told {
        match self {
            Self::Taken(taken) => service_taken(taken),
            Self::Unkept(error) => storage(error),
        }
    }
}

/// What serves, or is to serve.
pub(super) fn serving(functions: &BTreeMap<Name, Arc<Function>>) -> Vec<Definition> {
    let records = functions.values().map(|function| function.record());
    let versions = records.flat_map(|record| {
        let current = record.current.filter(|_| !record.stopped);
        current.into_iter().chain(record.next)
    });
    versions.map(|version| version.definition).collect()
}

impl Agent {
    /// Before any of several is deployed.
    ///
    /// # Errors
    /// One has a service that is another function's.
    pub(super) fn check_services(&self, definitions: &[Definition]) -> Result<(), ServiceTaken> {
        check_services_among(definitions)?;
        let serving = serving(&self.functions());
        let mut all = definitions.iter();
        all.try_for_each(|definition| check_services(definition, &serving))
    }
}

//! Services of gRPC that functions have: each is one function's alone.

use super::{Definition, Name};

/// Why a function cannot have a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service `{service}` is function `{function}`'s: stop that first, or deploy it without"
)]
pub struct ServiceTaken {
    pub service: String,
    /// Who has it.
    pub function: Name,
}

impl ServiceTaken {
    /// What `Faucet-Error` says of it.
    pub const CAUSE: &'static str = "service_taken";
}

/// # Errors
/// One of `others`, which serve or are to serve, has a service of `wanted`. Other versions of the same function may.
pub fn check_services<'a>(
    wanted: &Definition,
    others: impl IntoIterator<Item = &'a Definition>,
) -> Result<(), ServiceTaken> {
    if wanted.services.is_empty() {
        return Ok(());
    }
    for other in others {
        let shared = wanted
            .services
            .iter()
            .find(|service| other.services.contains(service));
        if let Some(service) = shared.filter(|_| other.name != wanted.name) {
            return Err(ServiceTaken {
                service: service.clone(),
                function: other.name.clone(),
            });
        }
    }
    Ok(())
}

/// The same among those that are deployed together.
///
/// # Errors
/// Two of them have the same service.
pub fn check_services_among(all: &[Definition]) -> Result<(), ServiceTaken> {
    all.iter()
        .enumerate()
        .try_for_each(|(at, definition)| check_services(definition, &all[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, services: &str) -> Definition {
        let json =
            format!(r#"{{"name": "{name}", "url": "grpc://a:1", "services": [{services}]}}"#);
        let mut all = Definition::parse_all(json.as_bytes()).expect("a definition");
        all.remove(0)
    }

    #[test]
    fn a_service_is_one_functions() {
        let first = definition("first", r#""a.A", "a.B""#);
        let second = definition("second", r#""a.C", "a.B""#);
        let none = definition("none", "");
        assert_eq!(check_services(&first, [&first, &none]), Ok(()));
        assert_eq!(check_services(&none, [&first]), Ok(()));
        let taken = check_services(&second, [&none, &first]).expect_err("it is taken");
        assert_eq!((&*taken.service, taken.function.as_str()), ("a.B", "first"));
        assert_eq!(check_services_among(&[first.clone(), none.clone()]), Ok(()));
        assert!(check_services_among(&[first, none, second]).is_err());
    }
}

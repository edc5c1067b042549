//! Fuzz targets: URLs of replicas, and what DNS servers answer.

use std::sync::Arc;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::Name;
use hyper::header::HeaderValue;

use super::lookup::{preferred, time_left, LONGEST_TTL};
use super::target::{Host, Target};

/// A URL as an operator might give it.
pub fn url(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(target) = Target::of_service(url) {
        let again = Target::of_service(&target.to_string());
        assert_eq!(again.as_ref(), Ok(&target), "it is shown as it was given");
    }
    match Target::parse(url) {
        Ok(target) => {
            let again = Target::parse(&target.to_string());
            assert_eq!(again.as_ref(), Ok(&target), "it is shown as it was given");
            let authority = HeaderValue::from_str(target.authority());
            assert!(authority.is_ok(), "it is no `Host`");
            if let Host::Name(name) | Host::Service(name) = target.host() {
                assert!(Name::from_ascii(name).is_ok(), "DNS knows no such name");
            }
        }
        Err(why) => assert!(why.ends_with('.'), "{why}"),
    }
}

/// A DNS server's message: which services it names, and how long that holds.
pub fn dns(data: &[u8]) {
    let Ok(mut message) = Message::from_vec(data) else {
        return;
    };
    let records: Arc<[_]> = message.take_answers().into();
    let found = Lookup::new_with_max_ttl(Query::default(), Arc::clone(&records));
    assert!(time_left(found.valid_until()) <= LONGEST_TTL);

    let services: Vec<&SRV> = records
        .iter()
        .filter_map(|record| match record.data() {
            RData::SRV(service) => Some(service),
            _ => None,
        })
        .collect();
    let hosts = preferred(&services);
    let best = services.iter().map(|service| service.priority()).min();
    assert!(hosts.len() <= services.len());
    for (host, port) in &hosts {
        let named = |service: &&SRV| {
            Some(service.priority()) == best && service.port() == *port && service.target() == host
        };
        assert!(services.iter().any(named), "{host} was not named");
    }
}

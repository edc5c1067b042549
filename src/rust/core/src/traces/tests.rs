//! What becomes of spans that nobody takes.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method};
use prometheus_client::metrics::counter::Counter;

use super::{Ended, Exporter, Kind, TraceSettings, Traces};
use crate::environment::Environment;

fn end_one(traces: &Arc<Traces>) {
    let span = traces.begin(&HeaderMap::new(), &Method::GET, Kind::Server);
    span.expect("one").end(&Ended {
        id: &HeaderValue::from_static("id"),
        pool: &Arc::from("/"),
        status: 200,
        cause: "",
        queue: Duration::ZERO,
        total: Duration::ZERO,
        worker: None,
        grpc_status: None,
    });
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    const ENDED: u64 = 5000;
    let settings = TraceSettings::parse("http://127.0.0.1:1").expect("a URL");
    let dropped = Counter::default();
    let (traces, exporter) =
        Exporter::new(settings, &Environment::read(), dropped.clone()).expect("no TLS");
    // It has no turn meanwhile.
    for _ in 0..ENDED {
        end_one(&traces);
    }
    assert_eq!(dropped.get(), ENDED - super::exporter::QUEUE as u64);
    // Once nobody wants more, it ends, though nobody takes anything.
    traces.close();
    exporter.run().await;
    assert_eq!(dropped.get(), ENDED);
    end_one(&traces);
    assert_eq!(dropped.get(), ENDED + 1);
}

#[test]
fn a_trace_that_nobody_records_has_no_spans() {
    let settings = TraceSettings::parse("http://127.0.0.1:1").expect("a URL");
    let (traces, _exporter) =
        Exporter::new(settings, &Environment::read(), Counter::default()).expect("no TLS");
    let mut headers = HeaderMap::new();
    super::begin_unsampled(&mut headers);
    assert!(traces.begin(&headers, &Method::GET, Kind::Server).is_none());
}

//! A response's body from the worker to the spool: at the worker's pace, whoever still wants it.

use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::HeaderMap;
use tokio::time::Instant;

use super::flight::Flight;
use crate::body::{Abort, SpoolWriter};
use crate::worker::{Connection, Report};

/// How long what a worker sends after its deadline is waited for, before its connection is dropped.
/// The source will have replaced the worker long before.
const LATE_ANSWER: Duration = Duration::from_secs(3600);

/// Reads a response to its end, then gives its worker free.
pub async fn pump(
    flight: Flight,
    mut connection: Connection,
    body: Incoming,
    writer: SpoolWriter,
    deadline: Option<Instant>,
) {
    match copy(&flight, &mut connection, body, &writer, deadline).await {
        Ok(trailers) => {
            flight.landed(connection, false).await;
            writer.finish(trailers);
        }
        Err(why) => {
            writer.abort(why);
            flight.broke_off();
        }
    }
}

async fn copy(
    flight: &Flight,
    connection: &mut Connection,
    mut body: Incoming,
    writer: &SpoolWriter,
    deadline: Option<Instant>,
) -> Result<Option<HeaderMap>, Abort> {
    let mut trailers = None;
    let mut timer = pin!(tokio::time::sleep_until(
        deadline.unwrap_or_else(Instant::now)
    ));
    let mut late = false;
    let mut recall = flight.recall();
    loop {
        let frame = tokio::select! {
            biased;
            frame = connection.drive(body.frame()) => frame,
            () = timer.as_mut(), if deadline.is_some() => {
                if late {
                    return Err(Abort::Timeout);
                }
                late = true;
                writer.abort(Abort::Timeout);
                match flight.recall() {
                    Some(recall) => recall.deadline_passed(),
                    None => flight.report(Report::Stuck),
                }
                timer.as_mut().reset(Instant::now() + LATE_ANSWER);
                continue;
            }
            () = writer.left(), if recall.is_some() => {
                if let Some(recall) = recall.take() {
                    recall.client_left();
                }
                continue;
            }
        };
        let Some(frame) = frame else {
            return Ok(trailers);
        };
        match frame.map_err(|_| Abort::WorkerDied)?.into_data() {
            Ok(chunk) => {
                if let Err(error) = writer.push(chunk).await {
                    tracing::error!("a response cannot be kept: {error}");
                    writer.abort(Abort::Storage);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
}

//! The service `grpc.health.v1.Health`: what `/__faucet__/readyz` tells.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use hyper::StatusCode;
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{health_server, HealthCheckRequest, HealthCheckResponse};

use super::SERVICES;
use crate::front::Front;
use crate::functions::Name;
use crate::ops;

/// The service for one call.
pub(super) struct Health {
    front: Arc<Front>,
    closing: watch::Receiver<bool>,
}

impl Health {
    pub(super) fn new(front: Arc<Front>, closing: watch::Receiver<bool>) -> Self {
        Self { front, closing }
    }

    /// Of the server, if it is asked by no name or by a service's, or of a function; `None` if there is none of that name.
    fn state(&self, service: &str) -> Option<ServingStatus> {
        let path = if service.is_empty() || SERVICES.contains(&service) {
            "/__faucet__/readyz".to_owned()
        } else {
            let name = Name::parse(service).ok()?;
            format!("/__faucet__/readyz/functions/{}", name.as_str())
        };
        let (status, _) = ops::answer(&path, || self.front.status())?;
        Some(match status {
            StatusCode::OK => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

type Watching = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Watching;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.state(&service) {
            Some(status) => Ok(Response::new(answer(status))),
            None => Err(Status::not_found(format!("there is no `{service}`"))),
        }
    }

    /// Tells how it is now, and whenever it is otherwise, until the server ends.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watching>, Status> {
        let watch = Watch {
            health: Health::new(self.front.clone(), self.closing.clone()),
            service: request.into_inner().service,
            changes: self.front.pools.changes(),
            told: None,
            over: false,
        };
        Ok(Response::new(Box::pin(Messages {
            next: Some(Box::pin(watch.next())),
        })))
    }
}

/// One who watches.
struct Watch {
    health: Health,
    service: String,
    changes: watch::Receiver<()>,
    /// What was told last.
    told: Option<ServingStatus>,
    /// The server ends, and that is told.
    over: bool,
}

impl Watch {
    /// What is to be told next; `None` if there is no more.
    async fn next(mut self) -> Option<(ServingStatus, Self)> {
        while !self.over {
            // Before the look, so that nothing is missed between look and wait.
            self.changes.borrow_and_update();
            self.over = *self.health.closing.borrow();
            let state = match self.over {
                true => Some(ServingStatus::NotServing),
                false => self.health.state(&self.service),
            };
            let now = state.unwrap_or(ServingStatus::ServiceUnknown);
            if self.told.replace(now) != Some(now) {
                return Some((now, self));
            }
            let closing = self.health.closing.wait_for(|closing| *closing);
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                // Whoever would tell is gone with the server.
                closed = closing => drop(closed.ok()?),
            }
        }
        None
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(ServingStatus, Watch)>> + Send>>;

/// What one who watches is told.
struct Messages {
    /// Until there is no more.
    next: Option<Next>,
}

impl Stream for Messages {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let next = ready!(next.as_mut().poll(cx));
        let (told, watch) = next.unzip();
        self.next = watch.map(|watch| Box::pin(watch.next()) as _);
        Poll::Ready(told.map(|status| Ok(answer(status))))
    }
}

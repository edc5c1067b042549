//! The service `faucet.v1.Functions`.

use std::pin::Pin;

use serde_json::{json, Value};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::ask::Asking;
use super::invoke::{call, invoke, Output};
use super::logs::Lines;
use super::proto::{self, functions_server};
use super::{answers, json as read};

/// The service for one call.
pub(super) struct Functions {
    asking: Asking,
}

impl Functions {
    pub(super) fn new(asking: Asking) -> Self {
        Self { asking }
    }

    /// The JSON that management answers.
    async fn ask(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, Status> {
        answers::json(self.asking.manage(path, query, body).await?).await
    }
}

#[tonic::async_trait]
impl functions_server::Functions for Functions {
    type InvokeStream = Output;
    type LogsStream = Pin<Box<dyn Stream<Item = Result<proto::LogsResponse, Status>> + Send>>;

    async fn invoke(
        &self,
        request: Request<Streaming<proto::InvokeRequest>>,
    ) -> Result<Response<Output>, Status> {
        let output = invoke(&self.asking, request.into_inner()).await?;
        Ok(Response::new(output))
    }

    async fn call(
        &self,
        request: Request<proto::InvokeRequest>,
    ) -> Result<Response<proto::InvokeResponse>, Status> {
        let output = call(&self.asking, request.into_inner()).await?;
        Ok(Response::new(output))
    }

    async fn deploy(
        &self,
        request: Request<proto::DeployRequest>,
    ) -> Result<Response<proto::DeployResponse>, Status> {
        let request = request.into_inner();
        let definitions: Vec<Value> = request
            .definitions
            .into_iter()
            .map(read::definition_json)
            .collect();
        let wait = request.wait.to_string();
        let answer = self
            .ask("/deploy", &[("wait", &wait)], Some(definitions.into()))
            .await?;
        let functions = read::functions(&answer);
        Ok(Response::new(proto::DeployResponse { functions }))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let agent = request.into_inner().at_agent;
        let answer = self
            .ask("/list", &[], Some(json!({ "atAgent": agent })))
            .await?;
        let functions = read::functions(&answer);
        Ok(Response::new(proto::ListResponse { functions }))
    }

    async fn details(
        &self,
        request: Request<proto::DetailsRequest>,
    ) -> Result<Response<proto::DetailsResponse>, Status> {
        let name = request.into_inner().name;
        let query = [("name", &*name)];
        let query = if name.is_empty() { &[][..] } else { &query };
        let answer = self.ask("/details", query, None).await?;
        let details = read::all(&answer, read::details);
        Ok(Response::new(proto::DetailsResponse { details }))
    }

    async fn logs(
        &self,
        request: Request<proto::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let lines = request.lines.map(|lines| lines.to_string());
        let mut query = vec![("entrypoint", &*request.name)];
        query.extend(lines.as_deref().map(|lines| ("n", lines)));
        let lines = if request.follow {
            query.push(("follow", "1"));
            Lines::of_body(self.asking.manage("/log", &query, None).await?)
        } else {
            let answer = self.ask("/log", &query, None).await?;
            Lines::of_text(answer["logs"].as_str().unwrap_or_default())
        };
        Ok(Response::new(Box::pin(lines)))
    }

    async fn stop(
        &self,
        request: Request<proto::StopRequest>,
    ) -> Result<Response<proto::Function>, Status> {
        let proto::StopRequest { name, remove } = request.into_inner();
        let body = json!({ "name": name, "remove": remove });
        let answer = self.ask("/stop", &[], Some(body)).await?;
        Ok(Response::new(read::function(&answer)))
    }

    async fn rollback(
        &self,
        request: Request<proto::RollbackRequest>,
    ) -> Result<Response<proto::Function>, Status> {
        let proto::RollbackRequest { name, wait } = request.into_inner();
        let wait = wait.to_string();
        let body = json!({ "name": name });
        let answer = self
            .ask("/rollback", &[("wait", &wait)], Some(body))
            .await?;
        Ok(Response::new(read::function(&answer)))
    }
}

//! The services `grpc.reflection.v1.ServerReflection` and `grpc.reflection.v1alpha.ServerReflection`, by which clients without
//! `functions.proto` learn what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::{v1, v1alpha};

use super::{proto, status, SERVICES};
use crate::front::Cause;

/// Files and where symbols are in them.
pub(super) struct Descriptions {
    files: BTreeMap<String, Bytes>,
    /// By their full names.
    symbols: BTreeMap<String, Bytes>,
}

impl Descriptions {
    pub(super) fn new() -> Self {
        let mut descriptions = Self {
            files: BTreeMap::new(),
            symbols: BTreeMap::new(),
        };
        for set in [
            proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            v1::FILE_DESCRIPTOR_SET,
            v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            // They are part of this program.
            let files = FileDescriptorSet::decode(set).unwrap_or_default().file;
            for file in files {
                descriptions.add(&file);
            }
        }
        descriptions
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let bytes = Bytes::from(file.encode_to_vec());
        let mut names = BTreeSet::new();
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|message| add_message(&mut names, package, message));
        file.enum_type
            .iter()
            .for_each(|kind| add_enum(&mut names, package, kind));
        for service in &file.service {
            let service_name = joined(package, service.name());
            let methods = service.method.iter();
            names.extend(methods.map(|method| joined(&service_name, method.name())));
            names.insert(service_name);
        }
        self.symbols
            .extend(names.into_iter().map(|name| (name, bytes.clone())));
        self.files.insert(file.name().to_owned(), bytes);
    }
}

fn joined(scope: &str, name: &str) -> String {
    match scope {
        "" => name.to_owned(),
        _ => format!("{scope}.{name}"),
    }
}

fn add_message(names: &mut BTreeSet<String>, scope: &str, message: &DescriptorProto) {
    let own = joined(scope, message.name());
    let inner = message.nested_type.iter();
    inner.for_each(|nested| add_message(names, &own, nested));
    let inner = message.enum_type.iter();
    inner.for_each(|kind| add_enum(names, &own, kind));
    let fields = message.field.iter().map(|field| field.name());
    let fields = fields.chain(message.oneof_decl.iter().map(|oneof| oneof.name()));
    names.extend(fields.map(|name| joined(&own, name)));
    names.insert(own);
}

/// Values are beside their enum, not in it.
fn add_enum(names: &mut BTreeSet<String>, scope: &str, kind: &EnumDescriptorProto) {
    names.insert(joined(scope, kind.name()));
    let values = kind.value.iter();
    names.extend(values.map(|value| joined(scope, value.name())));
}

/// One of the services for one call.
pub(super) struct Reflection {
    descriptions: Arc<Descriptions>,
    closing: watch::Receiver<bool>,
}

impl Reflection {
    pub(super) fn new(descriptions: Arc<Descriptions>, closing: watch::Receiver<bool>) -> Self {
        Self {
            descriptions,
            closing,
        }
    }
}

/// Answers to requests, one after the other, until their client or the server has no more.
struct Answers<Q, A> {
    requests: Option<Streaming<Q>>,
    answer: Box<dyn Fn(Q) -> A + Send>,
    closed: Pin<Box<dyn std::future::Future<Output = ()> + Send>>,
}

impl<Q, A> Stream for Answers<Q, A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(requests) = &mut this.requests else {
            return Poll::Ready(None);
        };
        let ended = match Pin::new(requests).poll_next(cx) {
            Poll::Ready(Some(Ok(request))) => {
                return Poll::Ready(Some(Ok((this.answer)(request))));
            }
            Poll::Ready(Some(Err(status))) => Some(Err(status)),
            Poll::Ready(None) => None,
            Poll::Pending => {
                std::task::ready!(this.closed.as_mut().poll(cx));
                Some(Err(status::of_cause(Cause::Draining)))
            }
        };
        this.requests = None;
        Poll::Ready(ended)
    }
}

/// The two versions differ in their package alone.
macro_rules! reflection {
    ($version:ident) => {
        #[tonic::async_trait]
        impl $version::server_reflection_server::ServerReflection for Reflection {
            type ServerReflectionInfoStream = Pin<
                Box<dyn Stream<Item = Result<$version::ServerReflectionResponse, Status>> + Send>,
            >;

            async fn server_reflection_info(
                &self,
                request: Request<Streaming<$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use $version::server_reflection_request::MessageRequest as Asked;
                use $version::server_reflection_response::MessageResponse as Told;
                let descriptions = self.descriptions.clone();
                let missing = |what: &str| {
                    Told::ErrorResponse($version::ErrorResponse {
                        error_code: Code::NotFound as i32,
                        error_message: format!("there is no {what}"),
                    })
                };
                let file = move |found: Option<&Bytes>, what: &str| match found {
                    Some(file) => Told::FileDescriptorResponse($version::FileDescriptorResponse {
                        file_descriptor_proto: vec![file.to_vec()],
                    }),
                    None => missing(what),
                };
                let answer = move |request: $version::ServerReflectionRequest| {
                    let told = match &request.message_request {
                        Some(Asked::FileByFilename(name)) => {
                            file(descriptions.files.get(name), "such file")
                        }
                        Some(Asked::FileContainingSymbol(name)) => {
                            file(descriptions.symbols.get(name), "such symbol")
                        }
                        Some(Asked::ListServices(_)) => {
                            let named =
                                |name: &str| $version::ServiceResponse { name: name.into() };
                            let service = SERVICES.map(named).into();
                            Told::ListServicesResponse($version::ListServiceResponse { service })
                        }
                        // Nothing here is extended.
                        Some(Asked::FileContainingExtension(_)) => file(None, "such extension"),
                        Some(Asked::AllExtensionNumbersOfType(name)) => {
                            Told::AllExtensionNumbersResponse($version::ExtensionNumberResponse {
                                base_type_name: name.clone(),
                                extension_number: Vec::new(),
                            })
                        }
                        None => Told::ErrorResponse($version::ErrorResponse {
                            error_code: Code::InvalidArgument as i32,
                            error_message: "nothing is asked for".into(),
                        }),
                    };
                    $version::ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(told),
                    }
                };
                let mut closing = self.closing.clone();
                let answers = Answers {
                    requests: Some(request.into_inner()),
                    answer: Box::new(answer),
                    closed: Box::pin(async move {
                        // Whoever would tell is gone with the server.
                        let _ = closing.wait_for(|closing| *closing).await;
                    }),
                };
                Ok(Response::new(Box::pin(answers)))
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_and_its_messages_are_described() {
        let descriptions = Descriptions::new();
        for service in SERVICES {
            assert!(descriptions.symbols.contains_key(service), "{service}");
        }
        for symbol in [
            "faucet.v1.Functions.Invoke",
            "faucet.v1.Definition.url",
            "faucet.v1.Definition.code",
            "grpc.health.v1.HealthCheckResponse.SERVING",
        ] {
            assert!(descriptions.symbols.contains_key(symbol), "{symbol}");
        }
        assert!(descriptions.files.contains_key("functions.proto"));
    }
}

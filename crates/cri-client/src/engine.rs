//! The connection to an engine: its CRI calls, by `runtime.v1` or, where the engine is older, by
//! `runtime.v1alpha2`, whose messages are the same on the wire.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::failure::CriFailure;
use crate::messages::{
    ContainerStatus, ContainerStatusResponse, CreateContainerRequest, ExecRequest, ExecResponse,
    ImageRequest, ImageSpec, ImageStatusResponse, ListImagesRequest, ListImagesResponse,
    ListSandboxRequest, ListSandboxResponse, Nothing, ObjectId, RunSandboxRequest, SandboxFilter,
    StatusRequest, StatusResponse,
};

/// The label that identifies our sandboxes.
pub(crate) const LABEL: (&str, &str) = ("gpusetup.cri-client", "leftover");
/// Time limit for one call: an engine that hangs must not hang us.
const ANSWER: Duration = Duration::from_secs(60);
/// Time limit for the connection.
const CONNECT: Duration = Duration::from_secs(10);

/// An engine.
#[derive(Clone)]
pub(crate) struct CriEngine {
    channel: Channel,
    version: &'static str,
}

impl CriEngine {
    /// Connects to the engine at that socket and asks for its status.
    pub(crate) async fn connect(socket: &Path) -> Result<(Self, StatusResponse), CriFailure> {
        let path = socket.to_owned();
        // The address is not used; the connector uses the socket.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT)
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move {
                    tokio::net::UnixStream::connect(path)
                        .await
                        .map(TokioIo::new)
                }
            }))
            .await
            .map_err(|e| CriFailure::no_answer(socket, &e))?;
        let mut last = None;
        for version in ["v1", "v1alpha2"] {
            let engine = Self {
                channel: channel.clone(),
                version,
            };
            let request = StatusRequest { verbose: true };
            match engine.call("RuntimeService/Status", request).await {
                Ok(status) => return Ok((engine, status)),
                Err(CriFailure::Refused {
                    code: Code::Unimplemented,
                    ..
                }) => last = Some("it has no CRI, or it is switched off".to_owned()),
                Err(e) => return Err(CriFailure::NotVerified(e.to_string())),
            }
        }
        let why = last.unwrap_or_default();
        Err(CriFailure::NotVerified(format!(
            "{}: {why}",
            socket.display()
        )))
    }

    async fn call<A, B>(&self, method: &str, request: A) -> Result<B, CriFailure>
    where
        A: Message + Send + Sync + 'static,
        B: Message + Default + Send + Sync + 'static,
    {
        let refused = |code, message: String| CriFailure::Refused {
            call: method.rsplit('/').next().unwrap_or(method).to_owned(),
            code,
            message,
        };
        let path = format!("/runtime.{}.{method}", self.version);
        let path =
            PathAndQuery::try_from(path).map_err(|e| refused(Code::Internal, e.to_string()))?;
        let mut grpc = Grpc::new(self.channel.clone());
        let answer = async {
            grpc.ready()
                .await
                .map_err(|e| refused(Code::Unavailable, e.to_string()))?;
            let answer = grpc
                .unary(Request::new(request), path, ProstCodec::default())
                .await;
            answer.map_err(|e| refused(e.code(), e.message().to_owned()))
        };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(refused(
                Code::DeadlineExceeded,
                format!("no answer after {} s", ANSWER.as_secs()),
            )),
        }
    }

    /// Starts a sandbox.
    pub(crate) async fn run_sandbox(
        &self,
        request: RunSandboxRequest,
    ) -> Result<String, CriFailure> {
        let id: ObjectId = self.call("RuntimeService/RunPodSandbox", request).await?;
        Ok(id.id)
    }

    /// Stops a sandbox with its containers and removes it.
    pub(crate) async fn remove_sandbox(&self, sandbox: &str) -> Result<(), CriFailure> {
        let id = || ObjectId {
            id: sandbox.to_owned(),
        };
        let _: Nothing = self.call("RuntimeService/StopPodSandbox", id()).await?;
        let _: Nothing = self.call("RuntimeService/RemovePodSandbox", id()).await?;
        Ok(())
    }

    /// The sandboxes that an earlier run of ours has left behind.
    pub(crate) async fn leftovers(&self) -> Result<Vec<String>, CriFailure> {
        let (key, value) = LABEL;
        let filter = SandboxFilter {
            labels: [(key.to_owned(), value.to_owned())].into(),
        };
        let request = ListSandboxRequest {
            filter: Some(filter),
        };
        let list: ListSandboxResponse = self.call("RuntimeService/ListPodSandbox", request).await?;
        Ok(list.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Creates a container and starts it.
    pub(crate) async fn start(
        &self,
        request: CreateContainerRequest,
    ) -> Result<String, CriFailure> {
        let id: ObjectId = self.call("RuntimeService/CreateContainer", request).await?;
        let _: Nothing = self
            .call("RuntimeService/StartContainer", id.clone())
            .await?;
        Ok(id.id)
    }

    /// The state of a container.
    pub(crate) async fn container(&self, id: &str) -> Result<ContainerStatus, CriFailure> {
        let request = ObjectId { id: id.to_owned() };
        let answer: ContainerStatusResponse =
            self.call("RuntimeService/ContainerStatus", request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Runs a command in a container.
    pub(crate) async fn exec(
        &self,
        container: &str,
        command: Vec<String>,
    ) -> Result<ExecResponse, CriFailure> {
        let request = ExecRequest {
            container: container.to_owned(),
            command,
            timeout: 30,
        };
        self.call("RuntimeService/ExecSync", request).await
    }

    /// The names of all images.
    pub(crate) async fn image_names(&self) -> Result<Vec<String>, CriFailure> {
        let request = ListImagesRequest {};
        let list: ListImagesResponse = self.call("ImageService/ListImages", request).await?;
        Ok(list.images.into_iter().flat_map(|i| i.repo_tags).collect())
    }

    /// Whether the engine has an image.
    pub(crate) async fn has_image(&self, name: &str) -> Result<bool, CriFailure> {
        let answer: ImageStatusResponse =
            self.call("ImageService/ImageStatus", image(name)).await?;
        Ok(answer.image.is_some())
    }

    /// Makes the engine pull an image.
    pub(crate) async fn pull(&self, name: &str) -> Result<(), CriFailure> {
        let _: Nothing = self.call("ImageService/PullImage", image(name)).await?;
        Ok(())
    }

    /// Makes the engine remove an image with all its names; that it has none of this name is no error (CRI, `RemoveImage`).
    pub(crate) async fn remove_image(&self, name: &str) -> Result<(), CriFailure> {
        let _: Nothing = self.call("ImageService/RemoveImage", image(name)).await?;
        Ok(())
    }
}

fn image(name: &str) -> ImageRequest {
    ImageRequest {
        image: Some(spec(name)),
    }
}

/// An image, identified by its name. A kubelet also sends the name that the user wrote, and CRI-O requires it.
pub(crate) fn spec(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.to_owned(),
        user_specified_image: name.to_owned(),
    }
}

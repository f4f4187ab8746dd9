//! The client against a stand-in for an engine, which keeps CRI-O's rules by its source: CRI-O is in
//! no package of Debian. containerd's real CRI is in testenv/scenarios.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "the client uses the rest")]
#[path = "../src/messages.rs"]
mod messages;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use messages::{
    ContainerStatus, ContainerStatusResponse, CreateContainerRequest, EXITED, ExecRequest,
    ExecResponse, ImageRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse,
    ListSandboxRequest, ListSandboxResponse, ListedImage, Nothing, ObjectId, RunSandboxRequest,
    StatusRequest, StatusResponse,
};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// What the stand-in does and has been asked for.
#[derive(Default)]
struct State {
    /// The calls that change something, in order.
    calls: Vec<String>,
    images: Vec<String>,
    /// How many more containers are removed before they say anything, as by a kubelet.
    removed_by_kubelet: u32,
    container: Option<CreateContainerRequest>,
    sandbox: Option<RunSandboxRequest>,
    leftovers: Vec<String>,
}

#[derive(Clone)]
struct Engine {
    state: Arc<Mutex<State>>,
    version: &'static str,
}

/// A call: its request becomes its answer.
struct Call<A, B>(Box<dyn FnMut(A) -> Result<B, Status> + Send>);

impl<A: Send + 'static, B: Send + 'static> UnaryService<A> for Call<A, B> {
    type Response = B;
    type Future = std::future::Ready<Result<Response<B>, Status>>;

    fn call(&mut self, request: Request<A>) -> Self::Future {
        std::future::ready((self.0)(request.into_inner()).map(Response::new))
    }
}

async fn unary<A, B>(
    request: http::Request<Body>,
    answer: impl FnMut(A) -> Result<B, Status> + Send + 'static,
) -> http::Response<Body>
where
    A: Message + Default + Send + 'static,
    B: Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .unary(Call(Box::new(answer)), request)
        .await
}

impl Engine {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let Some(method) = path.strip_prefix(&format!("/runtime.{}.", self.version)) else {
            let unknown = |_: Nothing| Err::<Nothing, _>(Status::unimplemented("unknown service"));
            return unary(request, unknown).await;
        };
        let name = method.rsplit('/').next().unwrap().to_owned();
        let state = self.state;
        match name.as_str() {
            "Status" => unary(request, |_: StatusRequest| Ok(status())).await,
            "ListPodSandbox" => {
                unary(request, move |r: ListSandboxRequest| {
                    assert_eq!(r.filter.unwrap().labels.len(), 1);
                    let items = state.lock().unwrap().leftovers.clone().into_iter();
                    let items = items.map(|id| ObjectId { id }).collect();
                    Ok(ListSandboxResponse { items })
                })
                .await
            }
            "ListImages" => {
                unary(request, move |_: ListImagesRequest| {
                    let names = state.lock().unwrap().images.clone().into_iter();
                    let images = names.map(|name| ListedImage {
                        repo_tags: vec![name],
                    });
                    let images = images.collect();
                    Ok(ListImagesResponse { images })
                })
                .await
            }
            "ImageStatus" => {
                unary(request, move |r: ImageRequest| {
                    let has = state
                        .lock()
                        .unwrap()
                        .images
                        .contains(&r.image.unwrap().image);
                    let image = has.then(|| ObjectId {
                        id: "sha256:1".into(),
                    });
                    Ok(ImageStatusResponse { image })
                })
                .await
            }
            "ContainerStatus" => unary(request, |_: ObjectId| Ok(exited())).await,
            "ExecSync" => unary(request, |r: ExecRequest| Ok(exec(&r))).await,
            "RunPodSandbox" => {
                unary(request, move |r: RunSandboxRequest| {
                    state.lock().unwrap().run(r)
                })
                .await
            }
            "CreateContainer" => {
                unary(request, move |r: CreateContainerRequest| {
                    state.lock().unwrap().create(r)
                })
                .await
            }
            "StartContainer" => {
                unary(request, move |_: ObjectId| state.lock().unwrap().start()).await
            }
            "PullImage" => {
                unary(request, move |r: ImageRequest| {
                    state.lock().unwrap().pull(&r.image.unwrap().image)
                })
                .await
            }
            "StopPodSandbox" | "RemovePodSandbox" | "RemoveImage" => {
                unary(request, move |_: Nothing| {
                    state.lock().unwrap().calls.push(name.clone());
                    Ok(Nothing {})
                })
                .await
            }
            other => panic!("{other} is not expected"),
        }
    }
}

fn status() -> StatusResponse {
    let config = format!("{{\"sandboxImage\": \"{PAUSE}\"}}");
    StatusResponse {
        info: HashMap::from([("config".to_owned(), config)]),
    }
}

fn exec(request: &ExecRequest) -> ExecResponse {
    ExecResponse {
        stdout: format!("again {}\n", request.command.join(" ")).into_bytes(),
        ..ExecResponse::default()
    }
}

impl State {
    fn run(&mut self, request: RunSandboxRequest) -> Result<ObjectId, Status> {
        if !["", "nvidia"].contains(&request.runtime_handler.as_str()) {
            return Err(Status::unknown("failed to find runtime handler"));
        }
        self.calls
            .push(format!("RunPodSandbox {}", request.runtime_handler));
        self.sandbox = Some(request);
        Ok(ObjectId {
            id: "sandbox".into(),
        })
    }

    fn create(&mut self, request: CreateContainerRequest) -> Result<ObjectId, Status> {
        let image = request.config.clone().unwrap().image.unwrap();
        // CRI-O server/container_create.go, from 1.28 on.
        if image.user_specified_image.is_empty() {
            return Err(Status::unknown(
                "CreateContainerRequest.ContainerConfig.Image.UserSpecifiedImage is empty",
            ));
        }
        if !self.images.contains(&image.image) {
            return Err(Status::unknown("image not known"));
        }
        self.calls.push("CreateContainer".into());
        self.container = Some(request);
        Ok(ObjectId {
            id: "container".into(),
        })
    }

    fn start(&mut self) -> Result<Nothing, Status> {
        if self.removed_by_kubelet > 0 {
            self.removed_by_kubelet -= 1;
            return Err(Status::not_found("no such container"));
        }
        let container = self.container.clone().unwrap();
        let logs = container.sandbox_config.unwrap().log_directory;
        let log = Path::new(&logs).join(container.config.unwrap().log_path);
        std::fs::write(log, "t stderr F noise\nt stdout F one\n").unwrap();
        Ok(Nothing {})
    }

    /// Pulls in earnest.
    fn pull(&mut self, name: &str) -> Result<Nothing, Status> {
        let (address, _) = name.split_once('/').unwrap();
        let mut registry = TcpStream::connect(address)?;
        write!(
            registry,
            "GET /v2/gpusetup/probe/manifests/1 HTTP/1.1\r\n\r\n"
        )?;
        registry.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        registry.read_to_string(&mut answer)?;
        assert!(answer.ends_with("manifest"), "{answer}");
        self.calls.push("PullImage".into());
        self.images.push(name.to_owned());
        Ok(Nothing {})
    }
}

/// One service of it. The router of tonic needs a type for each name.
#[derive(Clone)]
struct Service<const NAME: usize>(Engine);

const NAMES: [&str; 4] = [
    "runtime.v1.RuntimeService",
    "runtime.v1.ImageService",
    "runtime.v1alpha2.RuntimeService",
    "runtime.v1alpha2.ImageService",
];

impl<const NAME: usize> NamedService for Service<NAME> {
    const NAME: &'static str = NAMES[NAME];
}

impl<const NAME: usize> tower::Service<http::Request<Body>> for Service<NAME> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let engine = self.0.clone();
        Box::pin(async move { Ok(engine.answer(request).await) })
    }
}

/// A stand-in that listens.
struct StandIn {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    fn start(version: &'static str, images: &[&str]) -> Self {
        let state = Arc::new(Mutex::new(State {
            images: images.iter().map(|i| (*i).to_owned()).collect(),
            ..State::default()
        }));
        let stand_in = Self {
            dir: tempfile::tempdir().unwrap(),
            state: Arc::clone(&state),
        };
        let engine = Engine { state, version };
        let socket = stand_in.socket();
        let (to, listens) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::UnixListener::bind(socket).unwrap();
                to.send(()).unwrap();
                let connections = tokio_stream::wrappers::UnixListenerStream::new(listener);
                tonic::transport::Server::builder()
                    .add_service(Service::<0>(engine.clone()))
                    .add_service(Service::<1>(engine.clone()))
                    .add_service(Service::<2>(engine.clone()))
                    .add_service(Service::<3>(engine))
                    .serve_with_incoming(connections)
                    .await
                    .unwrap();
            });
        });
        listens.recv().unwrap();
        stand_in
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("cri.sock")
    }

    fn client(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cri-client"));
        command.arg("--socket").arg(self.socket()).args(flags);
        command
    }

    fn run(&self, flags: &[&str]) -> Output {
        self.client(flags).stdin(Stdio::null()).output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_container_runs_and_its_pod_is_removed() {
    for version in ["v1", "v1alpha2"] {
        let engine = StandIn::start(version, &["probe"]);
        let out = engine.run(&[
            "--image",
            "probe",
            "--runtime-handler",
            "nvidia",
            "--env",
            "A=b=c",
            "--cdi-device",
            "nvidia.com/gpu=all",
            "--annotation",
            "cdi.k8s.io/x=nvidia.com/gpu=0",
            "--",
            "/probe",
            "stay",
        ]);
        assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
        assert_eq!(
            (text(&out.stdout), text(&out.stderr)),
            ("one\n".into(), "noise\n".into())
        );
        let calls = [
            "RunPodSandbox nvidia",
            "CreateContainer",
            "StopPodSandbox",
            "RemovePodSandbox",
        ];
        assert_eq!(engine.calls(), calls);
        let state = engine.state.lock().unwrap();
        let config = state.container.clone().unwrap().config.unwrap();
        assert_eq!(config.command, ["/probe", "stay"]);
        assert_eq!((&*config.envs[0].key, &*config.envs[0].value), ("A", "b=c"));
        assert_eq!(config.cdi_devices[0].name, "nvidia.com/gpu=all");
        assert_eq!(config.annotations["cdi.k8s.io/x"], "nvidia.com/gpu=0");
    }
}

#[test]
fn one_that_stays_looks_again() {
    let engine = StandIn::start("v1", &["probe"]);
    let mut child = engine
        .client(&["--image", "probe", "--stay", "--", "/probe", "stay"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(engine.calls().len(), 2, "the pod is still there");
    writeln!(child.stdin.as_ref().unwrap(), "again").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "again /probe");
    assert!(child.wait().unwrap().success());
    assert_eq!(engine.calls().len(), 4);
}

/// The document that gpusetup reads.
fn not_verified(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
    let told: probe_report::NotVerified = serde_json::from_slice(&out.stdout).unwrap();
    told.not_verified
}

#[test]
fn an_engine_that_does_not_answer_is_not_verified() {
    let engine = StandIn::start("v2", &[]);
    let flags = ["--image", "probe", "--", "/probe"];
    let why = not_verified(&engine.run(&flags));
    assert!(why.contains("it has no CRI"), "{why}");
    std::fs::remove_file(engine.socket()).unwrap();
    let why = not_verified(&engine.run(&flags));
    assert!(
        why.contains("no engine answers at") && why.contains("No such file"),
        "{why}"
    );
}

#[test]
fn nothing_is_pulled_for_a_sandbox() {
    let engine = StandIn::start("v1", &["probe"]);
    let why = not_verified(&engine.run(&["--no-pull", "--image", "probe", "--", "/probe"]));
    assert!(why.contains(PAUSE), "{why}");
    assert_eq!(engine.calls(), [""; 0]);
    engine.state.lock().unwrap().images.push(PAUSE.into());
    let out = engine.run(&["--no-pull", "--image", "probe", "--", "/probe"]);
    assert_eq!(out.status.code(), Some(3));
}

#[test]
fn an_archive_is_pulled_from_the_client_and_removed() {
    let engine = StandIn::start("v1", &[PAUSE]);
    let archive = engine.dir.path().join("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    for (path, content) in [
        ("blobs/sha256/aa", "manifest"),
        ("index.json", r#"{"manifests":[{"digest":"sha256:aa"}]}"#),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap();
    let out = engine.run(&[
        "--no-pull",
        "--archive",
        archive.to_str().unwrap(),
        "--",
        "/probe",
    ]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    let calls = engine.calls();
    assert_eq!(
        (calls[0].as_str(), calls[5].as_str()),
        ("PullImage", "RemoveImage")
    );
}

#[test]
fn a_pod_that_the_kubelet_removes_is_started_again() {
    let engine = StandIn::start("v1", &["probe"]);
    engine.state.lock().unwrap().removed_by_kubelet = 2;
    let out = engine.run(&["--image", "probe", "--", "/probe"]);
    assert_eq!(out.status.code(), Some(3));
    assert_eq!(
        engine
            .calls()
            .iter()
            .filter(|c| *c == "RemovePodSandbox")
            .count(),
        3
    );
    engine.state.lock().unwrap().removed_by_kubelet = 100;
    let out = engine.run(&["--image", "probe", "--", "/probe"]);
    assert_eq!(out.status.code(), Some(125));
}

#[test]
fn a_runtime_that_the_engine_does_not_know_is_a_failure() {
    let engine = StandIn::start("v1", &["probe"]);
    let out = engine.run(&[
        "--image",
        "probe",
        "--runtime-handler",
        "other",
        "--",
        "/probe",
    ]);
    assert_eq!(out.status.code(), Some(125));
    let said = text(&out.stderr);
    assert_eq!(
        said,
        "cri-client: RunPodSandbox: failed to find runtime handler\n"
    );
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let served = "127.0.0.1:41234/gpusetup/probe:1";
    let engine = StandIn::start("v1", &[PAUSE, served, "127.0.0.1:5000/mine/probe:1"]);
    engine.state.lock().unwrap().leftovers = vec!["a".into(), "b".into()];
    assert!(engine.run(&["--remove-leftovers"]).status.success());
    let mut calls = ["StopPodSandbox", "RemovePodSandbox"].repeat(2);
    calls.push("RemoveImage");
    assert_eq!(engine.calls(), calls);
}

#[test]
fn an_image_is_removed_alone() {
    let engine = StandIn::start("v1", &[]);
    let out = engine.run(&["--remove-image", "gpusetup.local/probe:1"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(engine.calls(), ["RemoveImage"]);
}

/// A container that has ended with 3.
fn exited() -> ContainerStatusResponse {
    let status = ContainerStatus {
        state: EXITED,
        exit_code: 3,
        ..ContainerStatus::default()
    };
    ContainerStatusResponse {
        status: Some(status),
    }
}

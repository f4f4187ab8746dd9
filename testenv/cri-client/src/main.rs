//! Runs one container in a sandbox of its own through a CRI socket, as a kubelet would; prints its output and exits
//! with its code.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    CdiDevice, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
    CreateContainerRequest, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use tonic::transport::{Channel, Endpoint};

type Failure = Box<dyn std::error::Error>;

/// Runs one container through a CRI socket
#[derive(Parser)]
struct Cli {
    /// The engine's CRI socket
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    socket: PathBuf,
    /// The image, which the engine's k8s.io namespace already has
    #[arg(long)]
    image: String,
    /// Runtime handler; empty for the engine's default
    #[arg(long, default_value = "")]
    runtime_handler: String,
    /// An environment variable, NAME=value
    #[arg(long = "env")]
    envs: Vec<String>,
    /// CDI device
    #[arg(long = "cdi-device")]
    cdi_devices: Vec<String>,
    /// The pod's cgroup; a slice such as `pods.slice` where the runtime uses systemd
    #[arg(long, default_value = "")]
    cgroup_parent: String,
    /// Run as a pod that manages its node: with all rights and the node's processes
    #[arg(long)]
    privileged: bool,
    /// Mount a directory of the node, NODE:CONTAINER
    #[arg(long = "mount")]
    mounts: Vec<String>,
    /// Seconds until the container is given up
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// The container's command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(Failure::from)
        .and_then(|r| r.block_on(run(&cli)));
    match done {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(e) => {
            eprintln!("cri-client: {e}");
            ExitCode::from(125)
        }
    }
}

async fn connect(socket: &Path) -> Result<RuntimeServiceClient<Channel>, Failure> {
    let socket = socket.to_owned();
    // The address is not used; the connector uses the socket.
    let channel = Endpoint::try_from("http://localhost")?
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                tokio::net::UnixStream::connect(socket)
                    .await
                    .map(TokioIo::new)
            }
        }))
        .await?;
    Ok(RuntimeServiceClient::new(channel))
}

async fn run(cli: &Cli) -> Result<i32, Failure> {
    let mut client = connect(&cli.socket).await?;
    let logs = std::env::temp_dir().join(format!("cri-client-{}", std::process::id()));
    std::fs::create_dir_all(&logs)?;
    let sandbox_config = sandbox(&logs, &cli.cgroup_parent, cli.privileged);
    let sandbox = client
        .run_pod_sandbox(RunPodSandboxRequest {
            config: Some(sandbox_config.clone()),
            runtime_handler: cli.runtime_handler.clone(),
        })
        .await?
        .into_inner()
        .pod_sandbox_id;
    let code = Box::pin(container(cli, &mut client, &sandbox, sandbox_config)).await;
    let pod_sandbox_id = sandbox.clone();
    client
        .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id })
        .await?;
    client
        .remove_pod_sandbox(RemovePodSandboxRequest {
            pod_sandbox_id: sandbox,
        })
        .await?;
    print_log(&logs.join("container.log"));
    std::fs::remove_dir_all(&logs)?;
    code
}

fn namespaces(privileged: bool) -> NamespaceOption {
    NamespaceOption {
        // The host's network, so that no CNI plugin is needed.
        network: NamespaceMode::Node.into(),
        pid: if privileged {
            NamespaceMode::Node.into()
        } else {
            NamespaceMode::Pod.into()
        },
        ..NamespaceOption::default()
    }
}

fn sandbox(logs: &Path, cgroup_parent: &str, privileged: bool) -> PodSandboxConfig {
    let name = format!("cri-client-{}", std::process::id());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            uid: name.clone(),
            name,
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: logs.display().to_string(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(privileged)),
                privileged,
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

async fn container(
    cli: &Cli,
    client: &mut RuntimeServiceClient<Channel>,
    sandbox: &str,
    sandbox_config: PodSandboxConfig,
) -> Result<i32, Failure> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        KeyValue {
            key: key.into(),
            value: value.into(),
        }
    };
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "container".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: cli.image.clone(),
            ..ImageSpec::default()
        }),
        command: cli.command.clone(),
        envs: cli.envs.iter().map(pair).collect(),
        cdi_devices: cli
            .cdi_devices
            .iter()
            .map(|name| CdiDevice { name: name.clone() })
            .collect(),
        mounts: cli
            .mounts
            .iter()
            .filter_map(|m| m.split_once(':'))
            .map(|(node, container)| Mount {
                host_path: node.into(),
                container_path: container.into(),
                ..Mount::default()
            })
            .collect(),
        linux: cli.privileged.then(|| LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                privileged: true,
                namespace_options: Some(namespaces(true)),
                ..LinuxContainerSecurityContext::default()
            }),
            ..LinuxContainerConfig::default()
        }),
        log_path: "container.log".into(),
        ..ContainerConfig::default()
    };
    let container_id = client
        .create_container(CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        })
        .await?
        .into_inner()
        .container_id;
    client
        .start_container(StartContainerRequest {
            container_id: container_id.clone(),
        })
        .await?;
    for _ in 0..cli.timeout * 10 {
        let response = client
            .container_status(ContainerStatusRequest {
                container_id: container_id.clone(),
                verbose: false,
            })
            .await;
        // An engine that restarts is asked again, as a kubelet does.
        if let Ok(response) = response {
            let status = response.into_inner().status;
            let status = status.ok_or("the engine tells no status")?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status.exit_code);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("still running after {} s", cli.timeout).into())
}

/// Lines are `time stream F|P text` (kubernetes `pkg/kubelet/kuberuntime/logs`).
fn print_log(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ').skip(1);
        let (stream, text) = (fields.next(), fields.nth(1).unwrap_or_default());
        if stream == Some("stderr") {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}

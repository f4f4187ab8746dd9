//! The names of units and variables of k3s and rke2, two Kubernetes distributions that are set up
//! alike.

/// The socket, which is the same in both.
pub(super) const SOCKET: &str = "/run/k3s/containerd/containerd.sock";

/// One of the two distributions.
pub struct KubernetesDistribution {
    pub(super) name: &'static str,
    /// The units of a server and of an agent.
    pub(super) units: [&'static str; 2],
    /// The variable that sets the data directory.
    pub(super) data_variable: &'static str,
}

pub(super) const KINDS: [KubernetesDistribution; 2] = [
    KubernetesDistribution {
        name: "k3s",
        units: ["k3s", "k3s-agent"],
        data_variable: "K3S_DATA_DIR",
    },
    KubernetesDistribution {
        name: "rke2",
        units: ["rke2-server", "rke2-agent"],
        data_variable: "RKE2_DATA_DIR",
    },
];

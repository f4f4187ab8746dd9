//! The two distributions of Kubernetes that are set up alike: how their units and variables are called.

/// One of the two.
pub struct Kind {
    pub(super) name: &'static str,
    /// Units: a server's, an agent's.
    pub(super) units: [&'static str; 2],
    /// The variable that moves the data.
    pub(super) data_variable: &'static str,
}

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        name: "k3s",
        units: ["k3s", "k3s-agent"],
        data_variable: "K3S_DATA_DIR",
    },
    Kind {
        name: "rke2",
        units: ["rke2-server", "rke2-agent"],
        data_variable: "RKE2_DATA_DIR",
    },
];

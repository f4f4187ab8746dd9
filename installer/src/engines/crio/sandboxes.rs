//! Finds the pods of a runtime in the OCI configs that CRI-O keeps of its sandboxes. That needs
//! neither a client nor a running daemon.

use std::path::Path;

use serde_json::Value;

use crate::host::Host;
use crate::host::answer::{json_file, names_in};

/// The default storage directory; the bundles are at `DRIVER-containers/ID/userdata/config.json`
/// below it (containers/storage, `runroot`).
const STORE: &str = "/run/containers/storage";

/// Pods whose sandbox names this runtime: `namespace/pod (runtime nvidia)`. Pods of CRI-O's default runtime name
/// none. They continue with whatever the default is later, and since our runtime has the settings of the previous
/// default, the later default finds their state. A sandbox whose config exists but cannot be read is an error,
/// because it may use our runtime.
///
/// Given an empty name, it finds the pods that name none.
pub fn of_runtime(host: &Host, store: Option<&Path>, runtime: &str) -> Result<Vec<String>, String> {
    let store = store.unwrap_or(Path::new(STORE));
    let mut pods = Vec::new();
    for driver in names_in(host.root(), store)? {
        if !driver.to_string_lossy().ends_with("-containers") {
            continue;
        }
        let dir = store.join(driver);
        for id in names_in(host.root(), &dir)? {
            // Podman keeps its containers here too, and a sandbox may be ending just now.
            let config = json_file(host.root(), &dir.join(id).join("userdata/config.json"))?;
            pods.extend(config.and_then(|config| pod(&config, runtime)));
        }
    }
    Ok(pods)
}

/// The pod of a config, if it is a sandbox of this runtime (CRI-O internal/annotations).
fn pod(config: &Value, runtime: &str) -> Option<String> {
    let annotation =
        |key: &str| config["annotations"][format!("io.kubernetes.cri-o.{key}")].as_str();
    if annotation("RuntimeHandler")? != runtime {
        return None;
    }
    let name = annotation("KubeName").or_else(|| annotation("Name"))?;
    let pod = annotation("Namespace").map_or(name.to_owned(), |n| format!("{n}/{name}"));
    Some(match runtime {
        "" => pod,
        _ => format!("{pod} (runtime {runtime})"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pods_of_our_runtime_are_named() {
        let tree = tempfile::tempdir().unwrap();
        let sandbox = |id: &str, text: &str| {
            let dir = tree.path().join(format!(
                "run/containers/storage/overlay-containers/{id}/userdata"
            ));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("config.json"), text).unwrap();
        };
        let config = |handler: &str, name: &str| {
            format!(
                "{{\"annotations\": {{\"io.kubernetes.cri-o.RuntimeHandler\": \"{handler}\",
                \"io.kubernetes.cri-o.KubeName\": \"{name}\", \"io.kubernetes.cri-o.Namespace\": \"ml\"}}}}"
            )
        };
        sandbox("a", &config("nvidia", "train"));
        sandbox("b", &config("", "web"));
        sandbox("c", "{\"annotations\": {}}");
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        let pods = |store| of_runtime(&host, store, "nvidia");
        assert_eq!(pods(None).unwrap(), ["ml/train (runtime nvidia)"]);
        assert_eq!(of_runtime(&host, None, "").unwrap(), ["ml/web"]);
        assert!(pods(Some(Path::new("/elsewhere"))).unwrap().is_empty());
        // A sandbox that cannot be read may use our runtime.
        sandbox("d", "garbage");
        let why = pods(None).unwrap_err();
        assert!(why.contains("d/userdata/config.json"), "{why}");
    }
}

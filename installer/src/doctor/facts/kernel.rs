//! Facts of the kernel and its hardware: PCI devices, processes, kernel modules.

use std::path::Path;

use super::{HostFacts, Pci};

/// NVIDIA's vendor id on PCI.
const NVIDIA: &str = "0x10de";
/// Names of the driver's kernel module.
const MODULES: [&str; 2] = ["nvidia", "nvidia-current"];

impl HostFacts<'_> {
    /// GPUs and switches of NVIDIA on PCI (classes 0x03 and 0x0680).
    pub fn pci(&self) -> &[Pci] {
        self.pci.get(&self.failed, || {
            let mut devices = Vec::new();
            for dir in self.entries("/sys/bus/pci/devices") {
                let is = |name: &str, start: &str| {
                    let text = self.text(dir.join(name));
                    text.is_some_and(|t| t.trim().starts_with(start))
                };
                let is_switch = is("class", "0x0680");
                if !is("vendor", NVIDIA) || !(is_switch || is("class", "0x03")) {
                    continue;
                }
                let link = self.host.root().read_link(dir.join("driver")).ok();
                let name = |p: &Path| Some(p.file_name()?.to_string_lossy().into_owned());
                devices.push(Pci {
                    address: name(&dir).unwrap_or_default(),
                    driver: link.and_then(|l| name(&l)),
                    is_switch,
                });
            }
            devices
        })
    }

    /// The GPUs among the PCI devices.
    pub fn pci_gpus(&self) -> impl Iterator<Item = &Pci> {
        self.pci().iter().filter(|p| !p.is_switch)
    }

    /// Whether a process with that name runs. The kernel keeps only 15 bytes of a name (proc(5),
    /// comm).
    pub fn runs(&self, name: &str) -> bool {
        let names = self.processes.get(&self.failed, || {
            let pids = self.entries("/proc").into_iter().filter(|p| {
                let name = p.file_name().unwrap_or_default().to_string_lossy();
                name.bytes().all(|b| b.is_ascii_digit())
            });
            pids.filter_map(|p| Some(self.text(p.join("comm"))?.trim().to_owned()))
                .collect()
        });
        let short = name.get(..15).unwrap_or(name);
        names.iter().any(|n| n == short)
    }

    /// Whether the processes of this host can be seen. A directory tree has none; of a running host it is recorded if
    /// they cannot (proc(5), `hidepid`).
    pub fn sees_processes(&self) -> bool {
        let sees = self.exists("/proc/1/comm");
        if !sees && self.host.is_live() {
            self.failed
                .note("/proc does not show the processes of others".into());
        }
        sees
    }

    /// Whether the running kernel has a module of the driver, loaded or not.
    pub fn has_module(&self) -> Option<bool> {
        let list = self.modules()?;
        Some(
            MODULES
                .iter()
                .any(|module| list.iter().any(|m| m == module)),
        )
    }

    /// The name under which this kernel has a module of the driver: Debian has `nvidia-current-uvm` for `nvidia-uvm`.
    pub fn module_name(&self, module: &str) -> Option<String> {
        let debians = module.replacen("nvidia", "nvidia-current", 1);
        let list = self.modules()?;
        list.into_iter().find(|m| m == module || *m == debians)
    }

    /// The names of the running kernel's modules that begin as the driver's do.
    fn modules(&self) -> Option<Vec<String>> {
        let release = gpu_host::kernel::release(self.host.root())?;
        let dirs = ["/lib/modules", "/usr/lib/modules"];
        let lists = dirs.iter();
        let list = lists
            .map(|d| Path::new(d).join(&release).join("modules.dep"))
            .find_map(|path| self.text(path));
        if list.is_none() {
            self.failed
                .note(format!("no modules.dep of kernel {release} is here"));
        }
        let list = list?;
        let name = |line: &str| {
            let path = line.split(':').next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split(".ko").next().unwrap_or_default().to_owned()
        };
        Some(
            list.lines()
                .map(name)
                .filter(|n| n.starts_with("nvidia"))
                .collect(),
        )
    }
}

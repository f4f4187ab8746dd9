//! WSL 2: the GPUs of a Windows host, all of them behind `/dev/dxg`.
//!
//! Windows shares the folders of its driver store below `/usr/lib/wsl/drivers` and its own
//! part below `/usr/lib/wsl/lib` (Microsoft, "GPU acceleration in WSL"). Windows keeps the
//! folders of older drivers, and only libdxcore knows which folder the adapter uses. We load no
//! library. **Assumption**: of the folders with a `libcuda.so.1.1` it is the one whose INF file
//! has the highest `DriverVer`; among equals, the one modified last.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::nodes::Dev;
use crate::formats::elf;
use crate::inventory::{
    Capabilities, Driver, DriverFile, FileKind, Gpu, Inventory, Link, Need, PciAddress,
};
use crate::root::Root;
use crate::root::glob;

/// The driver store as Windows shares it.
pub(crate) const STORES: &str = "/usr/lib/wsl/drivers";
const DXCORE: &str = "/usr/lib/wsl/lib/libdxcore.so";
const DXG: &str = "/dev/dxg";
/// The file by which the folder of an NVIDIA driver is recognized (libnvidia-container 1.17 `nvc_info.c`).
const CUDA: &str = "libcuda.so.1.1";
/// The files that containers get from the folder. nvidia-container-toolkit 1.20
/// `pkg/nvcdi/driver-wsl.go` has these patterns; they match every name that
/// libnvidia-container 1.17 `nvc_info.c` lists.
const TAKEN: [&str; 4] = ["*.so*", "*.bin", "*.dll", "nvidia-smi"];
/// Upper bound for an INF file, in bytes; real ones are far smaller.
const INF_LIMIT: u64 = 16 << 20;

/// Whether this host's GPUs come from Windows.
pub(crate) fn is_here(root: &Root) -> bool {
    root.exists(DXG) && root.exists(DXCORE)
}

/// Fills in device, driver files and version; nothing if the store has no NVIDIA driver.
pub(crate) fn fill(inventory: &mut Inventory, dev: &Dev<'_>) {
    let Some(store) = store(dev.root) else { return };
    let mut files = store_files(dev.root, &store.path);
    files.extend(library(dev.root, Path::new(DXCORE), &BTreeSet::new()));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    inventory.driver = Some(Driver {
        version: store.version.map(DriverVersion::text).unwrap_or_default(),
        cuda: None,
        files,
    });
    let node = dev.at(Path::new(DXG));
    inventory.gpus.extend(node.map(|node| Gpu {
        index: 0,
        minor: 0,
        uuid: None,
        name: None,
        brand: None,
        compute_capability: None,
        pci: PciAddress::default(),
        node,
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    }));
}

struct Store {
    path: PathBuf,
    version: Option<DriverVersion>,
}

fn store(root: &Root) -> Option<Store> {
    let names = root.read_dir(STORES).unwrap_or_default();
    names
        .iter()
        .map(|name| Path::new(STORES).join(name))
        .filter_map(|path| {
            let changed = root.metadata(path.join(CUDA)).ok()?.mtime();
            let version = version(root, &path);
            Some((version, changed, path))
        })
        .max()
        .map(|(version, _, path)| Store { path, version })
}

fn store_files(root: &Root, store: &Path) -> Vec<DriverFile> {
    let names: BTreeSet<String> = root
        .read_dir(store)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|n| n.into_string().ok())
        .filter(|n| TAKEN.iter().any(|t| glob::fits(t, n)))
        .collect();
    let file = |name: &String| {
        let path = store.join(name);
        if name == "nvidia-smi" {
            let link = Link {
                path: "/usr/bin/nvidia-smi".into(),
                target: path.clone(),
            };
            return plain(root, &path, FileKind::Binary, vec![link]);
        }
        library(root, &path, &names).or_else(|| plain(root, &path, FileKind::Config, Vec::new()))
    };
    names.iter().filter_map(file).collect()
}

fn library(root: &Root, path: &Path, siblings: &BTreeSet<String>) -> Option<DriverFile> {
    let object = elf::read(root.open_file(path).ok()?)?;
    let name = path.file_name()?.to_str()?;
    // libnvidia-ml_loader.so has the SONAME of the library that it loads, which is another file.
    let soname = object
        .soname
        .filter(|soname| soname != name && !siblings.contains(soname) && !name.contains("_loader"))
        .unwrap_or_else(|| name.to_owned());
    let mut links = Vec::new();
    if name == CUDA {
        links.push(Link {
            path: path.with_file_name("libcuda.so"),
            target: soname.clone().into(),
        });
    }
    let mut file = plain(root, path, FileKind::Library, links)?;
    file.soname = Some(soname);
    Some(file)
}

fn plain(root: &Root, path: &Path, kind: FileKind, links: Vec<Link>) -> Option<DriverFile> {
    Some(DriverFile {
        kind,
        path: path.to_owned(),
        host_path: root.canonicalize(path).ok()?,
        // No source says which capability needs which of Windows' files.
        capabilities: Capabilities::ALL,
        soname: None,
        links,
        need: Need::Required,
    })
}

/// A driver version such as 551.76: branch and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DriverVersion(u32, u32);

impl DriverVersion {
    fn text(self) -> String {
        format!("{}.{:02}", self.0, self.1)
    }
}

/// The version in the folder's INF file. The folder's name begins with that file's: `nv_dispi.inf_amd64_0123456789abcdef`.
fn version(root: &Root, store: &Path) -> Option<DriverVersion> {
    let name = store.file_name()?.to_str()?;
    let inf = name.get(..name.find(".inf")? + 4)?;
    let bytes = root.read_limited(store.join(inf), INF_LIMIT).ok()?;
    let text = match bytes.strip_prefix(&[0xff, 0xfe]) {
        Some(rest) => {
            let units = rest
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]));
            char::decode_utf16(units)
                .map(|c| c.unwrap_or('?'))
                .collect()
        }
        None => String::from_utf8_lossy(&bytes).into_owned(),
    };
    driver_ver(&text)
}

/// The driver's version is in the last five digits: `DriverVer = 03/14/2024, 31.0.15.5176` is
/// 551.76 (NVIDIA's practice). Format of the line: Microsoft, "INF `DriverVer` directive".
fn driver_ver(inf: &str) -> Option<DriverVersion> {
    let value = inf.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("DriverVer")
            .then_some(value)
    })?;
    let numbers = value.split(',').nth(1)?.split(';').next()?.trim();
    let mut parts = numbers.split('.').map(|n| n.parse::<u32>().ok());
    let third = parts.nth(2)??;
    let fourth = parts.next()??;
    let five = (third % 10) * 10_000 + fourth % 10_000;
    (five >= 10_000).then_some(DriverVersion(five / 100, five % 100))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_inf_panics(text in "(DriverVer ?= ?[0-9/]{0,4},? ?[0-9.,;]{0,30}\r?\n?){0,3}") {
            let _ = driver_ver(&text);
        }
    }

    #[test]
    fn the_driver_version_is_in_the_last_five_digits_of_driver_ver() {
        let inf = "[DriverVersion]\r\nSignature = \"$Windows NT$\"\r\nDriverVer = 03/14/2024, 31.0.15.5176\r\n";
        assert_eq!(driver_ver(inf).unwrap().text(), "551.76");
        assert_eq!(
            driver_ver("driverver=01/01/2025,32.0.15.8006 ; x")
                .unwrap()
                .text(),
            "580.06"
        );
        for bad in [
            "",
            "DriverVer",
            "DriverVer=",
            "DriverVer = a, 1.2",
            "DriverVer=x,1.2.0.99999999999",
        ] {
            assert_eq!(driver_ver(bad), None, "{bad}");
        }
    }
}

//! Reads and sets what a file has besides its text: owner, mode and extended attributes, which
//! include ACLs and security labels.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use serde::{Deserialize, Serialize};
use xattr::FileExt;

/// The attribute that holds an ACL. A new file may inherit one from its directory although the old
/// file had none.
const ACL: &str = "system.posix_acl_access";

/// The attributes of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    extended: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// The attributes of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut extended = Vec::new();
        for name in names(file)? {
            if !is_the_systems(&name)
                && let Some(value) = file.get_xattr(&name)?
            {
                extended.push((name, value));
            }
        }
        Ok(Self {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            extended,
        })
    }

    /// Gives a new file the same attributes.
    pub fn give(&self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.uid), Some(self.gid))?;
        for (name, value) in &self.extended {
            file.set_xattr(name, value).map_err(|e| {
                let what = format!("set attribute {}: {e}", name.display());
                io::Error::new(e.kind(), what)
            })?;
        }
        let acl = OsString::from(ACL);
        if self.extended.iter().all(|(n, _)| *n != acl) && names(file)?.contains(&acl) {
            file.remove_xattr(&acl)?;
        }
        // Set the mode last, since an ACL changes the group's bits.
        file.set_permissions(Permissions::from_mode(self.mode))
    }
}

fn names(file: &File) -> io::Result<Vec<OsString>> {
    match file.list_xattr() {
        Ok(names) => Ok(names.collect()),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Attributes that depend on the file's content or its place in an overlay, so that they are valid
/// for the old file only (kernel Documentation/security/IMA-templates.rst,
/// filesystems/overlayfs.rst).
fn is_the_systems(name: &OsStr) -> bool {
    [
        "security.ima",
        "security.evm",
        "trusted.overlay.",
        "user.overlay.",
    ]
    .iter()
    .any(|n| name.as_bytes().starts_with(n.as_bytes()))
}

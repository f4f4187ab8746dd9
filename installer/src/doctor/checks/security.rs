//! Checks of SELinux and `AppArmor`.

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::selinux;

pub const CHECKS: Checks = &[("selinux-denies", selinux), ("apparmor-parser", apparmor)];

pub const REMEDIES: Remedies = &[("selinux-denies", allow), ("apparmor-parser", install)];

fn selinux(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    look.engines().first()?;
    selinux::denies(look.host)
}

fn apparmor(look: &HostFacts) -> Option<String> {
    look.engine("docker")?;
    let enabled = look.text("/sys/module/apparmor/parameters/enabled")?;
    let is_on = enabled.trim() == "Y" && look.exists("/sys/kernel/security/apparmor");
    (is_on && !look.host.has_program("apparmor_parser"))
        .then(|| "the kernel has AppArmor on, and no apparmor_parser is on the PATH".into())
}

fn allow(look: &HostFacts, usual: Remedy) -> Remedy {
    let boolean = selinux::denying(look.host);
    usual.by_any(boolean.map(selinux::turn_on))
}

fn install(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_command_if(look.host.has_program("apt"))
}

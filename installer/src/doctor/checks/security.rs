//! Checks of SELinux and `AppArmor`.

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::engines::selinux;

pub const CHECKS: Checks = &[("selinux-denies", selinux), ("apparmor-parser", apparmor)];

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

//! The words for what is not known: whether only root may ask, or why nobody could be asked.

use crate::host::Host;

/// Says that something is not known: without root if this user may not ask, otherwise for that reason.
pub fn why_not_known(host: &Host, why: &str) -> String {
    if needs_root(host, why) {
        "not known without root".to_owned()
    } else {
        format!("not known: {why}")
    }
}

/// The reason for a message that says by itself what is not known.
pub fn reason(host: &Host, why: String) -> String {
    if needs_root(host, &why) {
        "only root may ask".to_owned()
    } else {
        why
    }
}

fn needs_root(host: &Host, why: &str) -> bool {
    // The system's words and those of docker differ only in the capital.
    let is_denied = why.contains("ermission denied") || why.contains("Operation not permitted");
    is_denied && host.user().is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::user::User;

    #[test]
    fn what_only_root_may_ask_is_said_to_be_so() {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let denied = "/var/run/docker.sock: Permission denied (os error 13)";
        let root = why_not_known(&host, denied);
        let user = host.seen_by(User::new(1000, "", |_| None));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(root, format!("not known: {denied}"));
        }
        assert_eq!(why_not_known(&user, denied), "not known without root");
        let docker = "permission denied while trying to connect to the Docker daemon socket";
        assert_eq!(why_not_known(&user, docker), "not known without root");
        assert_eq!(
            why_not_known(&user, "docker: not done after 10 s"),
            "not known: docker: not done after 10 s"
        );
    }
}

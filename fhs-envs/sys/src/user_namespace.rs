//! Why this host refuses user namespaces: the switches that exist, each with what turns it.
use std::fs;
use std::path::Path;

/// One switch that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is, for a person.
    pub explanation: String,
    /// The command or change that removes it.
    pub fix: String,
}

fn setting(root: &Path, path: &str) -> Option<i64> {
    fs::read_to_string(root.join(path)).ok()?.trim().parse().ok()
}

/// Every switch of this host that forbids user namespaces to ordinary users. Empty if none is known to.
#[must_use]
pub fn obstacles() -> Vec<Obstacle> {
    obstacles_in(Path::new("/"))
}

/// The same for a host whose `/proc` is below `root`.
#[must_use]
pub fn obstacles_in(root: &Path) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut add = |explanation: &str, fix: &str| {
        found.push(Obstacle { explanation: explanation.to_owned(), fix: fix.to_owned() });
    };
    if fs::metadata(root.join("proc/self/ns/user")).is_err() {
        add(
            "this kernel is built without user namespaces",
            "use a kernel with CONFIG_USER_NS, or run as root",
        );
    }
    if setting(root, "proc/sys/user/max_user_namespaces") == Some(0) {
        add(
            "`user.max_user_namespaces` is 0, so this host allows no user namespace at all",
            "`sudo sysctl user.max_user_namespaces=15000`, and the same line in /etc/sysctl.d/90-hatchway.conf to keep it",
        );
    }
    if setting(root, "proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        add(
            "`kernel.unprivileged_userns_clone` is 0, so only root may create user namespaces",
            "`sudo sysctl kernel.unprivileged_userns_clone=1`, and the same line in /etc/sysctl.d/90-hatchway.conf to keep it",
        );
    }
    if setting(root, "proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        add(
            "AppArmor takes the privileges out of user namespaces (`kernel.apparmor_restrict_unprivileged_userns` is 1)",
            "install Hatchway's AppArmor profile (`fhs-envs/apparmor/hatchway`, which allows `userns,`) and load it with `apparmor_parser -r /etc/apparmor.d/hatchway`, or `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        );
    }
    if filtered(root) {
        add(
            "this process runs under a system call filter, probably in a container that forbids namespaces",
            "start the container with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or run on the host",
        );
    }
    found
}

/// Whether a seccomp filter is on this process already.
fn filtered(root: &Path) -> bool {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

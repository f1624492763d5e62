//! `configure = "scripts"`: the archive's maintainer scripts run, offline, in a build sandbox over a copy of the tree.
//!
//! The tree's own dpkg does it, from a status file in which every package of the archive is unpacked and none configured:
//! it knows the order, the arguments and the environment that scripts expect. Vendors' scripts are not run. All of it
//! is done twice, each time from the start; what differs is an error, since a tree is the same everywhere or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::merge::{Layer, Merge};
use super::sandboxed::{Captured, Room, Root, Step, stage};
use super::unpack::CONTROL;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// What scripts take for granted: essential packages, and what the builder otherwise leaves out.
pub(crate) const PACKAGES: [&str; 9] = [
    "base-passwd",
    "debconf",
    "debianutils",
    "diffutils",
    "dpkg",
    "gzip",
    "init-system-helpers",
    "perl-base",
    "tar",
];

/// Runs the `preinst` of each package as for a first installation, then lets dpkg configure them all. Services are not
/// started: `policy-rc.d` says no.
const DRIVER: &str = r#"
mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/lib/dpkg/parts
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
for kind in preinst postinst prerm postrm config; do
    for script in /var/lib/dpkg/info/*.$kind; do
        if [ -e "$script" ]; then chmod 755 "$script"; fi
    done
done
export DPKG_MAINTSCRIPT_PACKAGE DPKG_MAINTSCRIPT_ARCH DPKG_MAINTSCRIPT_NAME DPKG_ADMINDIR DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT
DPKG_MAINTSCRIPT_NAME=preinst DPKG_ADMINDIR=/var/lib/dpkg DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT=
export DPKG_ROOT
while read -r package architecture info; do
    if [ -e "/var/lib/dpkg/info/$info.preinst" ]; then
        DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_ARCH=$architecture
        "/var/lib/dpkg/info/$info.preinst" install || { echo "preinst of $package failed" >&2; exit 1; }
    fi
done < /var/lib/dpkg/hatchway-order
unset DPKG_MAINTSCRIPT_PACKAGE DPKG_MAINTSCRIPT_ARCH DPKG_MAINTSCRIPT_NAME DPKG_ADMINDIR DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT DPKG_ROOT
dpkg --force-depends --force-confold --configure -a
rm -f /usr/sbin/policy-rc.d /var/lib/dpkg/hatchway-order
"#;
/// Hundreds of scripts, some of which start interpreters.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Runs the scripts and adds what they made; gives what is worth telling.
///
/// # Errors
/// No sandbox can be made, a script fails, or the second run gives something else.
pub(crate) fn run(
    room: &Room<'_>,
    workspace: &Workspace<'_>,
    layers: &[Layer<'_>],
    merge: &mut Merge,
) -> Result<Vec<String>, Error> {
    let database = database(workspace, layers)?;
    let first = once(room, workspace, merge, &database, "configure-1")?;
    let second = once(room, workspace, merge, &database, "configure-2")?;
    if first.digest() != second.digest() {
        return Err(Error::NotReproducible { paths: first.differences(&second) });
    }
    for path in &first.removed {
        merge.tree.nodes.remove(path);
    }
    for (path, node) in &first.written {
        merge.tree.insert(path, node.clone());
    }
    Ok(first.dropped.iter().map(|what| format!("the maintainer scripts: dropped {what}")).collect())
}

fn once(
    room: &Room<'_>,
    workspace: &Workspace<'_>,
    merge: &Merge,
    database: &BTreeMap<String, Vec<u8>>,
    name: &str,
) -> Result<Captured, Error> {
    let staged = stage(workspace, name, &merge.tree, database)?;
    let mut step = Step::new("the maintainer scripts", "/usr/bin/sh", &["-ec", DRIVER]);
    step.timeout = TIMEOUT;
    for (name, value) in [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DEBCONF_NOWARNINGS", "yes"),
    ] {
        step.env.insert(name.into(), value.into());
    }
    room.run(Root::Writable(staged.folder()), &step)?.success(&step.name)?;
    let mut captured = staged.capture(workspace)?;
    captured.forget(&is_not_content);
    staged.remove()?;
    Ok(captured)
}

/// What only a system that is maintained by dpkg needs, what the builder makes itself, and what holds the time.
fn is_not_content(path: &str) -> bool {
    const FOLDERS: [&str; 6] =
        ["var/lib/dpkg", "var/cache", "var/log", "var/lib/systemd", "var/backups", "etc/systemd"];
    const FILES: [&str; 4] = ["etc/ld.so.cache", "usr/sbin/policy-rc.d", "etc/.pwd.lock", "var/lib/dpkg"];
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    // Copies that account tools keep of what they change.
    let copy = ["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"];
    FOLDERS.iter().any(|folder| below(folder))
        || FILES.contains(&path)
        || copy.contains(&path)
        || path.split('/').any(|part| part == "__pycache__")
}

/// dpkg's database: everything unpacked, nothing configured.
fn database(workspace: &Workspace<'_>, layers: &[Layer<'_>]) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (mut status, mut order) = (String::new(), String::new());
    for layer in layers.iter().filter(|layer| !layer.vendor) {
        let mut members: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (path, node) in &layer.manifest.nodes {
            if let Some(name) = path.strip_prefix(CONTROL).and_then(|rest| rest.strip_prefix('/'))
                && let Node::File { sha256, executable, .. } = node
                && !name.contains('/')
            {
                members.insert(name, workspace.read(*sha256, *executable)?);
            }
        }
        let control = members.remove("control").unwrap_or_default();
        let control = String::from_utf8_lossy(&control).into_owned();
        let field = |name: &str| {
            let mut lines = control.lines();
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let (package, architecture) = (field("Package"), field("Architecture"));
        // dpkg names the files of packages that may be there for several architectures so.
        let info =
            if field("Multi-Arch") == "same" { format!("{package}:{architecture}") } else { package.clone() };
        status += &format!("{}\nStatus: install ok unpacked\n\n", without_blank_lines(&control));
        order += &format!("{package} {architecture} {info}\n");
        let paths = layer.manifest.nodes.keys().filter(|path| !path.starts_with(CONTROL));
        let list: String = paths.map(|path| format!("/{path}\n")).collect();
        files.insert(format!("var/lib/dpkg/info/{info}.list"), format!("/.\n{list}").into_bytes());
        // Triggers are the builder's: it runs each tool once, after all the scripts.
        let wanted = |name: &&str| !matches!(*name, "dropped" | "triggers" | "conffiles");
        for (name, content) in members.into_iter().filter(|(name, _)| wanted(name)) {
            files.insert(format!("var/lib/dpkg/info/{info}.{name}"), content);
        }
    }
    files.insert("var/lib/dpkg/status".into(), status.into_bytes());
    files.insert("var/lib/dpkg/hatchway-order".into(), order.into_bytes());
    files.insert("var/lib/dpkg/info/format".into(), b"1\n".to_vec());
    for empty in ["available", "diversions", "statoverride", "triggers/File", "triggers/Unincorp"] {
        files.insert(format!("var/lib/dpkg/{empty}"), Vec::new());
    }
    Ok(files)
}

fn without_blank_lines(control: &str) -> String {
    control.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_dpkg_needs_is_not_content() {
        for path in
            ["var/lib/dpkg/status", "var/cache/debconf/x", "usr/lib/python3/__pycache__/a.pyc", "etc/passwd-"]
        {
            assert!(is_not_content(path), "{path}");
        }
        for path in ["etc/passwd", "var/lib/acme", "var/cachex", "etc/alternatives/awk", "var/lib/dpkgx"] {
            assert!(!is_not_content(path), "{path}");
        }
    }
}

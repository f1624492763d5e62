//! Files that maintainer scripts would have made, made by the builder, the same everywhere.

use super::Ground;
use super::merge::Merge;
use super::scripts::{self, Alternative};
use super::{accounts, certificates, ldcache, volatile};
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Users, groups and host names from files and DNS alone: other modules are not in the tree, and each missing one
/// costs a failed load at every lookup.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                        protocols: files\nservices: files\nethers: files\nrpc: files\n";

/// As netbase's script writes it.
const NETWORKS: &str = "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n";

/// Adds everything that is made at build time. `alternatives` are those of all scripts.
pub(crate) fn generate(
    merge: &mut Merge,
    workspace: &Workspace<'_>,
    alternatives: Vec<Alternative>,
    ground: Ground,
) -> Result<(), Error> {
    if ground == Ground::Debian {
        write(merge, workspace, "etc/timezone", b"Etc/UTC\n")?;
        write(merge, workspace, "etc/networks", NETWORKS.as_bytes())?;
        link(merge, "etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
    }
    // An image knows which modules it has; a tree of artifacts alone is looked up by static programs, too.
    if ground != Ground::Image || merge.node("etc/nsswitch.conf").is_none() {
        write(merge, workspace, "etc/nsswitch.conf", NSSWITCH.as_bytes())?;
    }
    if merge.node("usr/bin/sh").is_none() && merge.node("usr/bin/dash").is_some() {
        link(merge, "usr/bin/sh", "dash")?;
    }
    // What an image has not, its maker may have taken out.
    if ground != Ground::Image {
        base_files(merge).map_err(own)?;
        common(merge, workspace)?;
    }
    let exists = |path: &str| merge.node(path).is_some();
    for chosen in scripts::chosen(alternatives, &exists) {
        link(merge, &format!("etc/alternatives/{}", chosen.name), &chosen.path)?;
        link(merge, &chosen.link, &format!("/etc/alternatives/{}", chosen.name))?;
    }
    // Which certificates an image trusts was its maker's choice.
    if ground != Ground::Image || merge.node("etc/ssl/certs/ca-certificates.crt").is_none() {
        certificates::add(merge, workspace)?;
    }
    openssl(merge).map_err(own)?;
    accounts::add(merge, workspace)?;
    volatile::add(merge, workspace)?;
    lib64(merge, workspace)?;
    loader_cache(merge, workspace)
}

/// Writes `ld.so.cache` for the libraries that are there now.
pub(crate) fn loader_cache(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    match ldcache::make(merge, workspace)? {
        Some(cache) => write(merge, workspace, "etc/ld.so.cache", &cache),
        None => Ok(()),
    }
}

/// What the scripts of adduser, base-files, debianutils and readline-common copy and make at a first installation.
fn base_files(merge: &mut Merge) -> Result<(), String> {
    const COPIES: [(&str, &str); 7] = [
        ("usr/share/adduser/adduser.conf", "etc/adduser.conf"),
        ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
        ("usr/share/base-files/dot.profile", "root/.profile"),
        ("usr/share/base-files/motd", "etc/motd"),
        ("usr/share/base-files/profile", "etc/profile"),
        ("usr/share/debianutils/shells", "etc/shells"),
        ("usr/share/readline/inputrc", "etc/inputrc"),
    ];
    for (from, to) in COPIES {
        if let Some(file @ Node::File { .. }) = merge.node(from).cloned() {
            merge.put_if_missing(to, file)?;
        }
    }
    for folder in ["etc/opt", "media", "var/log", "var/mail", "var/opt", "var/spool"] {
        merge.put_if_missing(folder, Node::Directory)?;
    }
    for (path, target) in [("var/run", "/run"), ("var/lock", "/run/lock"), ("var/spool/mail", "../mail")] {
        merge.link_instead_of_folder(path, target)?;
    }
    if merge.node("etc/dpkg/origins/debian").is_some() {
        merge.link_instead_of_folder("etc/dpkg/origins/default", "debian")?;
    }
    Ok(())
}

/// Packages of Fedora's and SUSE's kin bring libraries to `/usr/lib64`, where their own loader looks and Debian's does not.
/// The name sorts behind all others: their loader looks there last, too.
fn lib64(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let library = |name: &String| name.starts_with("lib") && name.contains(".so");
    if merge.names("usr/lib64").iter().any(library) {
        write(merge, workspace, "etc/ld.so.conf.d/zz-lib64.conf", b"/usr/lib64\n")?;
    }
    Ok(())
}

/// Where libssl looks for certificates (`OPENSSLDIR` of Debian's). The links come with the package `openssl`, which an
/// environment need not have.
fn openssl(merge: &mut Merge) -> Result<(), String> {
    for (name, target) in [("certs", "/etc/ssl/certs"), ("cert.pem", "/etc/ssl/certs/ca-certificates.crt")] {
        if merge.node(target.trim_start_matches('/')).is_some() {
            merge.put_if_missing(&format!("usr/lib/ssl/{name}"), Node::Link { target: target.into() })?;
        }
    }
    Ok(())
}

/// What the scripts of packages that many tools need make at a first installation.
fn common(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let there = |merge: &Merge, path: &str| merge.node(path).is_some();
    if there(merge, "usr/share/fontconfig/conf.avail/10-hinting-slight.conf") {
        let missing = !there(merge, "etc/fonts/conf.d/10-hinting-slight.conf");
        if missing {
            let target = "/usr/share/fontconfig/conf.avail/10-hinting-slight.conf";
            link(merge, "etc/fonts/conf.d/10-hinting-slight.conf", target)?;
        }
    }
    if there(merge, "usr/share/python3/debian_defaults") && !there(merge, "etc/python3/debian_config") {
        write(merge, workspace, "etc/python3/debian_config", b"[DEFAULT]\nbyte-compile = standard\n")?;
    }
    if there(merge, "etc/libpaper.d") && !there(merge, "etc/papersize") {
        write(merge, workspace, "etc/papersize", b"a4\n")?;
    }
    if there(merge, "usr/lib/jvm") && !there(merge, "etc/.java/.systemPrefs") {
        for name in [".system.lock", ".systemRootModFile"] {
            write(merge, workspace, &format!("etc/.java/.systemPrefs/{name}"), b"")?;
        }
    }
    if there(merge, "usr/bin/dbus-uuidgen") {
        // The machine's own id is bound at launch.
        merge
            .put_if_missing("var/lib/dbus/machine-id", Node::Link { target: "/etc/machine-id".into() })
            .map_err(own)?;
    }
    Ok(())
}

pub(crate) fn write(
    merge: &mut Merge,
    workspace: &Workspace<'_>,
    path: &str,
    content: &[u8],
) -> Result<(), Error> {
    let number = path.replace('/', "-");
    let (sha256, size) = workspace.add(&mut &content[..], false, &number)?;
    merge.put(path, Node::File { sha256, size, executable: false }).map_err(own)
}

fn link(merge: &mut Merge, path: &str, target: &str) -> Result<(), Error> {
    merge.put(path, Node::Link { target: target.to_owned() }).map_err(own)
}

pub(crate) fn own(reason: String) -> Error {
    Error::BadLayout { package: "the builder".into(), reason }
}

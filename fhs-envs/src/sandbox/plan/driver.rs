//! The host's graphics driver: names and manifests while the tree's folders can still be written, the files at the end.
use super::{Error, invalid};
use crate::sandbox::spec::Spec;
use hatchway_wire::{InsidePath, Op, SourceKind};
use std::collections::BTreeSet;

/// Everything of it stays where loaders look, so that a manifest that leads elsewhere cannot replace a program.
const FOLDERS: [&str; 3] = ["/etc", "/usr/lib", "/usr/share"];

pub(super) fn check(spec: &Spec) -> Result<(), Error> {
    let folders = FOLDERS.iter().map(InsidePath::new).collect::<Result<Vec<_>, _>>()?;
    let driver = &spec.driver;
    let places = (driver.files.iter().map(|file| &file.at))
        .chain(driver.links.iter().map(|(at, _)| at))
        .chain(driver.manifests.iter().map(|(at, _)| at));
    for at in places {
        if !folders.iter().any(|folder| at.is_within(folder) && at != folder) {
            return Err(invalid("path of the graphics driver", at.as_str(), "no loader looks there"));
        }
    }
    Ok(())
}

/// The folders in which something of it is made.
pub(super) fn folders(spec: &Spec) -> BTreeSet<InsidePath> {
    let driver = &spec.driver;
    let places = (driver.files.iter().map(|file| &file.at))
        .chain(driver.links.iter().map(|(at, _)| at))
        .chain(driver.manifests.iter().map(|(at, _)| at));
    places.filter_map(InsidePath::parent).collect()
}

/// Before the tree's folders become read-only.
pub(super) fn names(spec: &Spec, ops: &mut Vec<Op>) {
    for (at, content) in &spec.driver.manifests {
        ops.push(Op::File { at: at.clone(), mode: 0o644, content: content.clone() });
    }
    for file in &spec.driver.files {
        ops.push(Op::MountPoint { at: file.at.clone(), kind: SourceKind::File });
    }
    for (at, to) in &spec.driver.links {
        ops.push(Op::Symlink { at: at.clone(), to: to.clone() });
    }
}

/// At the end.
pub(super) fn bind(spec: &Spec, ops: &mut Vec<Op>) {
    for file in &spec.driver.files {
        let (source, at) = (file.host.clone(), file.at.clone());
        ops.push(Op::Bind { source, at, kind: SourceKind::File, read_only: true, optional: true });
    }
}

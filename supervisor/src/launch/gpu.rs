//! `gpu = true`: device nodes, and of the host's driver what NVIDIA built. What there is to draw with otherwise is the
//! environment's Mesa.

use std::fs;
use std::path::Path;

use hatchway_envs::build::second_cache::{self, Name};
use hatchway_envs::digest::Sha256;
use hatchway_envs::sandbox::{self, BoundFile, Device, HostPath, Spec};

use super::{devices, inside, tree_file};
use crate::context::Context;
use crate::error::Error;
use crate::gpu::{Graphics, Library, Root};

/// Where the driver's libraries are inside: a folder that no package has.
const FOLDER: &str = "/usr/lib/hatchway/driver";
/// Mesa's GBM looks for back ends only here.
const GBM: &str = "/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so";
/// Caches that are kept, one for each tree and driver; older ones are removed.
const CACHES_KEPT: usize = 64;
/// A tree's cache of a full desktop has half a megabyte.
const CACHE_BYTES_MAX: u64 = 32 << 20;
/// Missing libraries that a note names.
const NEEDED_SHOWN: usize = 6;

pub(super) fn add(context: &Context, tree: Sha256, spec: &mut Spec) -> Result<(), Error> {
    let root = Root::at(&context.config.driver_root)?;
    let graphics = Graphics::of(&root, spec.i386);
    let nodes = crate::gpu::nodes();
    let mut notes = graphics.notes.clone();
    match &graphics.module {
        Some(module) if graphics.libraries.is_empty() => return Err(mismatch(module, &graphics)),
        Some(_) => {
            if !nodes.iter().any(|node| node.path == Path::new("/dev/nvidiactl")) {
                notes.push(
                    "NVIDIA's kernel module is loaded, and its device nodes are not there: `nvidia-modprobe -c 0 -u` \
                     on the host makes them"
                        .to_owned(),
                );
            }
            notes.extend(driver(context, tree, &graphics, spec)?);
        }
        None if nodes.is_empty() => notes.push(without(&graphics)),
        None => {}
    }
    for node in &nodes {
        let host = HostPath::try_from(node.path.as_path()).map_err(sandbox::Error::from)?;
        let at = inside(host.as_str())?;
        // Nodes that only stand for a right are read and never written.
        if node.mode & 0o004 == 0 {
            devices::admit(context, "`gpu = true`", &node.path, (node.mode, node.gid), spec);
        }
        spec.devices.push(Device { host, at });
    }
    for note in notes {
        context.printer.say(format!("note: {note}"));
        spec.notes.push(note);
    }
    Ok(())
}

fn mismatch(module: &str, graphics: &Graphics) -> Error {
    Error::Host {
        message: format!(
            "NVIDIA's kernel module is version {module}, and the libraries of that version are not installed \
             (installed: {})",
            graphics.installed()
        ),
        hints: vec![
            "after an update of the driver, restart the machine: the old module is still loaded".into(),
            format!("or install the driver's libraries of version {module}"),
            "or take `gpu = true` out of the recipe; then the tool draws in software".into(),
        ],
    }
}

/// Not an error: it runs, only slower.
fn without(graphics: &Graphics) -> String {
    let why = if graphics.installed.is_empty() {
        "neither NVIDIA's kernel module nor `/dev/dri`".to_owned()
    } else {
        format!(
            "NVIDIA's libraries {} are installed and its kernel module is not loaded",
            graphics.installed()
        )
    };
    format!("no GPU on this host ({why}): the tool draws with the software renderers of its environment")
}

/// Shows the driver; the result is what a person should know.
fn driver(
    context: &Context,
    tree: Sha256,
    graphics: &Graphics,
    spec: &mut Spec,
) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for library in &graphics.libraries {
        let folder = format!("{FOLDER}/{}", library.machine);
        let at = inside(&format!("{folder}/{}", library.soname))?;
        let host = HostPath::try_from(library.host.as_path()).map_err(sandbox::Error::from)?;
        spec.driver.files.push(BoundFile { host, at });
        for other in &library.others {
            spec.driver.links.push((inside(&format!("{folder}/{other}"))?, library.soname.clone()));
        }
        names.extend(library.names().map(|name| Name {
            name: name.to_owned(),
            path: format!("{folder}/{name}"),
            machine: library.machine.clone(),
        }));
    }
    if let Some(soname) = &graphics.gbm {
        spec.driver.links.push((inside(GBM)?, format!("{FOLDER}/x86-64/{soname}")));
    }
    for manifest in &graphics.manifests {
        spec.driver.manifests.push((inside(&manifest.at)?, manifest.content.clone()));
    }
    for (host, at) in &graphics.data {
        let host = HostPath::try_from(host.as_path()).map_err(sandbox::Error::from)?;
        spec.driver.files.push(BoundFile { host, at: inside(at)? });
    }
    names.sort();
    let own = tree_file(context, tree, second_cache::PATH, CACHE_BYTES_MAX)?;
    let host = cache(context, tree, &own, &names)?;
    spec.driver.files.push(BoundFile { host, at: inside(second_cache::PATH)? });
    Ok(lacking(&own, &graphics.libraries).into_iter().collect())
}

/// The tree's `ld.so.cache` with the driver's libraries, made when this pair is seen for the first time.
fn cache(context: &Context, tree: Sha256, own: &[u8], names: &[Name]) -> Result<HostPath, Error> {
    let folder = context.dirs.cache.join("driver-caches");
    let key = Sha256::of(format!("{}\n{names:?}", tree.hex()).as_bytes()).hex();
    let path = folder.join(format!("{key}.ld.so.cache"));
    if !path.is_file() {
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        remove_old(&folder);
        let fresh = folder.join(format!(".{key}-{}", std::process::id()));
        fs::write(&fresh, second_cache::with(own, names)).map_err(Error::io("write", &fresh))?;
        // The tool's user reads it, whatever the mask of whoever runs this.
        fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .map_err(Error::io("change the mode of", &fresh))?;
        fs::rename(&fresh, &path).map_err(Error::io("rename", &fresh))?;
    }
    Ok(sandbox::host_path(&path)?)
}

/// Caches can be made anew: one that a running tool sees stays with it, as an open file does.
fn remove_old(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut there: Vec<_> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    there.sort();
    let surplus = (there.len() + 1).saturating_sub(CACHES_KEPT);
    for (_, path) in there.iter().take(surplus) {
        // Another command may have done it.
        drop(fs::remove_file(path));
    }
}

/// Libraries of other makers that the driver is linked with and the tree has not.
fn lacking(own: &[u8], libraries: &[Library]) -> Option<String> {
    let tree = second_cache::names(own);
    let has = |name: &str| {
        tree.contains(name) || libraries.iter().any(|library| library.names().any(|other| other == name))
    };
    let mut missing: Vec<&str> = libraries
        .iter()
        .flat_map(|library| library.needed.iter().map(String::as_str))
        .filter(|name| !has(name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return None;
    }
    let more = missing.len().saturating_sub(NEEDED_SHOWN);
    let shown = missing[..missing.len() - more].join("`, `");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!(
        "parts of the graphics driver need `{shown}`{more}, which the environment has not: add their packages to \
         `packages` if the tool wants those parts"
    ))
}

//! What Wine takes of a tree's builder: what the scripts of its packages would have done, and the prefix.
//!
//! `wineboot` makes the prefix, offline, over the archive's files alone, and almost all of it is copies of Wine's own files
//! (700 MB of them): here they become links to those, which Wine follows. What stays is two megabytes, most of it the
//! registry, from which the moment and the machine are taken out. So a prefix is the same everywhere, is kept under a name
//! made of what `wineboot` saw, and is copied in no time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::generate::{own, write};
use super::merge::Merge;
use super::sandboxed::{Captured, Room, Root, Step};
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::Lock;
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};
use crate::wine::{LOADERS, MARK, PACKAGE, PREFIX, PREFIX_VERSION, RUNNER, environment, registry};

/// What Wine said once, on a busy machine, of a prefix that is made well otherwise. Others report it with "boot event wait timed out"
/// (bottlesdevs/Bottles#4302); that this was the cause here is a guess.
const GAVE_UP: &str = "could not load kernel32.dll";
/// Where `wineboot` finds the folder that the prefix goes to.
const OUT: &str = "/run/prefix";
/// It starts a dozen programs and registers hundreds of libraries: 5 to 15 s where it was measured.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of a registry file; that of a large installation has some megabytes.
const REGISTRY_BYTES_MAX: u64 = 256 << 20;
/// The registry's files.
const HIVES: [&str; 3] = ["system.reg", "user.reg", "userdef.reg"];
/// Folders of Wine's own files, below `usr`.
const OWN: [&str; 2] = ["/wine/", "usr/share/wine/"];
/// The packages of MinGW's zlib that Wine's libraries are linked with, and Wine's name of their machine.
const ZLIB: [(&str, &str); 2] = [("i686-w64-mingw32", "i386"), ("x86_64-w64-mingw32", "x86_64")];
/// What tells Wine that a library is its own: the mark, where in a PE file it stands, and where the file goes on.
const BUILTIN: (&[u8], usize, usize) = (b"Wine builtin DLL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 64, 96);

/// Does what the scripts of Wine's packages do: zlib becomes a library of Wine's, programs get their plain names.
pub(super) fn packages(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let triplets = merge.names("usr/lib").into_iter().filter(|name| name.ends_with("-linux-gnu"));
    for triplet in triplets.collect::<Vec<_>>() {
        for (mingw, machine) in ZLIB {
            let folder = format!("usr/lib/{triplet}/wine/{machine}-windows");
            if merge.names(&folder).is_empty() {
                continue;
            }
            let from = format!("usr/{mingw}/lib");
            let libraries = merge.names(&from).into_iter();
            for name in libraries.filter(|name| name.starts_with("zlib") && name.ends_with(".dll")) {
                let Some(Node::File { sha256, executable, .. }) = merge.node(&format!("{from}/{name}"))
                else {
                    continue;
                };
                let library = as_builtin(&workspace.read(*sha256, *executable)?);
                write(merge, workspace, &format!("{folder}/{name}"), &library)?;
            }
        }
    }
    for name in merge.names("usr/bin") {
        if let Some(plain) = name.strip_suffix("-stable")
            && merge.node("usr/bin/wine-stable").is_some()
        {
            merge
                .put_if_missing(&format!("usr/bin/{plain}"), Node::Link { target: name.clone() })
                .map_err(own)?;
        }
    }
    Ok(())
}

fn as_builtin(library: &[u8]) -> Vec<u8> {
    let (mark, from, to) = BUILTIN;
    let (head, tail) = (library.get(..from).unwrap_or(library), library.get(to..).unwrap_or_default());
    [head, mark, tail].concat()
}

/// Adds the prefix, where the lock's runner is Wine. `room` makes the place to run in.
pub(super) fn prefix<'a>(
    room: &dyn Fn() -> Result<Room<'a>, Error>,
    workspace: &Workspace<'_>,
    lock: &Lock,
    merge: &mut Merge,
) -> Result<(), Error> {
    if lock.runner != RUNNER {
        return Ok(());
    }
    let own_one = |loader: &&str| merge.node(loader).is_some() && !merge.is_vendors(loader);
    let Some(loader) = LOADERS.into_iter().find(own_one) else {
        let reason = "the packages of Wine that are locked bring no loader of it".into();
        return Err(Error::BadLayout { package: "the runner `wine`".into(), reason });
    };
    let (step, view) = (step(loader), view(merge));
    let key = key(&step, &view);
    let made = match workspace.result(key) {
        Some(made) => made,
        None => make(&room()?, workspace, key, (step, &view))?,
    };
    let place = PREFIX.trim_start_matches('/');
    // Whatever a vendor put there would be part of a machine that nobody made.
    merge.remove(place);
    merge.put_if_missing(place, Node::Directory).map_err(own)?;
    for (path, node) in made.nodes {
        merge.tree.insert(&format!("{place}/{path}"), node);
    }
    Ok(())
}

/// What `wineboot` sees: the archive's files. The loader's cache depends on the vendor's libraries; without it the loader
/// looks into the archive's folders.
fn view(merge: &Merge) -> Manifest {
    let nodes = merge.tree.nodes.iter().filter(|(path, node)| {
        *path != "etc/ld.so.cache" && (matches!(node, Node::Directory) || !merge.is_of_vendor(path))
    });
    let mut view = Manifest { nodes: nodes.map(|(path, node)| (path.clone(), node.clone())).collect() };
    // Folders that vendors alone fill would change the name of the result.
    let filled: Vec<String> = view.nodes.keys().filter(|path| path.starts_with("opt/")).cloned().collect();
    filled.iter().for_each(|path| view.remove(path));
    view.insert("var/tmp", Node::Directory);
    view
}

fn step(loader: &str) -> Step {
    let mut step = Step::new("Wine's prefix", loader, &["wineboot", "--init"]);
    step.timeout = TIMEOUT;
    step.i386 = loader == LOADERS[0];
    for (name, value) in environment() {
        step.env.insert(name.into(), value.into());
    }
    step.env.insert("WINEPREFIX".into(), OUT.into());
    // Before there is a registry to say so.
    step.env.insert("WINEDLLOVERRIDES".into(), "mscoree,mshtml,winemenubuilder.exe,winedbg.exe=".into());
    step
}

fn key(step: &Step, view: &Manifest) -> Sha256 {
    let Step { program, env, .. } = step;
    Sha256::of(format!("wine prefix {PREFIX_VERSION}\n{program}\n{env:?}\n{}", view.digest()).as_bytes())
}

fn make(
    room: &Room<'_>,
    workspace: &Workspace<'_>,
    key: Sha256,
    (mut step, view): (Step, &Manifest),
) -> Result<Manifest, Error> {
    let root = workspace.scratch("wine-tree")?.join("root");
    workspace.link_tree(&root, view)?;
    let mut out = workspace.scratch("wine-prefix")?;
    step.binds.push((out.clone(), OUT.into(), false));
    let first = room.run(Root::ReadOnly(&root), &step)?.success(&step.name);
    match first {
        Err(Error::BuildStep { reason, .. }) if reason.contains(GAVE_UP) => {
            // Once more from an empty folder: what is broken is broken then, too, and is told.
            super::sandboxed::remove(&out)?;
            out = workspace.scratch("wine-prefix-again")?;
            step.binds.pop();
            step.binds.push((out.clone(), OUT.into(), false));
            room.run(Root::ReadOnly(&root), &step)?.success(&step.name)?;
        }
        other => drop(other?),
    }
    let missing = HIVES.iter().find(|hive| !out.join(hive).is_file());
    if let Some(hive) = missing {
        return Err(failed(format!("it made no `{hive}`")));
    }
    let mut prefix = Manifest::default();
    let known = own_files(view);
    collect(workspace, &out, "", &known, &mut prefix)?;
    settle(workspace, &mut prefix)?;
    super::sandboxed::remove(&out)?;
    workspace.add_result(key, &prefix)?;
    Ok(prefix)
}

fn failed(reason: String) -> Error {
    Error::BuildStep { step: "Wine's prefix".into(), reason }
}

/// Wine's own files by content.
fn own_files(view: &Manifest) -> BTreeMap<Sha256, String> {
    let of_wine = |path: &str| path.starts_with("usr/") && OWN.iter().any(|folder| path.contains(folder));
    let files = view.nodes.iter().filter(|(path, _)| of_wine(path));
    let files = files.filter_map(|(path, node)| match node {
        // What is empty says nothing of where it is from.
        Node::File { sha256, size: 1.., .. } => Some((*sha256, format!("/{path}"))),
        _ => None,
    });
    // Of several names the first: the order is that of the paths.
    let mut known = BTreeMap::new();
    files.for_each(|(sha256, path)| {
        known.entry(sha256).or_insert(path);
    });
    known
}

/// Reads what `wineboot` made. It has ended, and nothing of it is followed as a link.
fn collect(
    workspace: &Workspace<'_>,
    folder: &Path,
    path: &str,
    known: &BTreeMap<Sha256, String>,
    prefix: &mut Manifest,
) -> Result<(), Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let name = entry.map_err(Error::io("read", folder))?.file_name().into_string();
        names.push(name.map_err(|name| failed(format!("`{}` is no name in UTF-8", name.display())))?);
    }
    names.sort();
    for name in names {
        let (place, below) =
            (folder.join(&name), if path.is_empty() { name.clone() } else { format!("{path}/{name}") });
        let metadata = fs::symlink_metadata(&place).map_err(Error::io("read", &place))?;
        if metadata.is_dir() {
            prefix.insert(&below, Node::Directory);
            collect(workspace, &place, &below, known, prefix)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&place).map_err(Error::io("read", &place))?;
            link(&below, &target.to_string_lossy(), prefix);
        } else if metadata.is_file() && (path.is_empty() || !is_scratch(&below)) {
            let node = file(workspace, &place, metadata.permissions().mode(), known)?;
            prefix.insert(&below, node);
        }
    }
    // What only the machine that made it has, or a running server.
    if path.is_empty() {
        prefix.nodes.retain(|path, _| path.contains('/') || !is_servers(path));
    }
    Ok(())
}

/// Drives stay. Ports are those of the machine, and are set at launch. What points to the person's folders becomes a folder.
fn link(path: &str, target: &str, prefix: &mut Manifest) {
    if path.starts_with("dosdevices/") {
        if path.ends_with(':') {
            prefix.insert(path, Node::Link { target: target.to_owned() });
        }
    } else if path.starts_with("drive_c/users/") {
        prefix.insert(path, Node::Directory);
    }
}

fn is_scratch(path: &str) -> bool {
    path.contains("/Temp/") || path.contains("/temp/")
}

fn is_servers(name: &str) -> bool {
    !HIVES.contains(&name) && !matches!(name, "dosdevices" | "drive_c")
}

fn file(
    workspace: &Workspace<'_>,
    place: &Path,
    mode: u32,
    known: &BTreeMap<Sha256, String>,
) -> Result<Node, Error> {
    let (sha256, _) = Sha256::of_file(place).map_err(Error::io("read", place))?;
    if let Some(same) = known.get(&sha256) {
        return Ok(Node::Link { target: same.clone() });
    }
    let mut content = fs::File::open(place).map_err(Error::io("open", place))?;
    let executable = mode & 0o111 != 0;
    let (sha256, size) = workspace.add(&mut content, executable, &format!("wine-{}", sha256.short()))?;
    Ok(Node::File { sha256, size, executable })
}

/// The registry as it is everywhere, with Hatchway's settings; and Wine is told never to update the prefix by itself.
fn settle(workspace: &Workspace<'_>, prefix: &mut Manifest) -> Result<(), Error> {
    let mut hives: BTreeMap<&str, String> = BTreeMap::new();
    for hive in HIVES {
        hives.insert(hive, registry::normalised(&text(workspace, prefix.nodes.get(hive))?));
    }
    let take = |hives: &BTreeMap<&str, String>, hive| hives.get(hive).cloned().unwrap_or_default();
    let (system, user) = registry::settled(&take(&hives, HIVES[0]), &take(&hives, HIVES[1]));
    hives.extend([(HIVES[0], system), (HIVES[1], user)]);
    let timestamp = (".update-timestamp", "disable\n".to_owned());
    for (name, content) in hives.into_iter().chain([timestamp]) {
        let (sha256, size) = workspace.add(&mut content.as_bytes(), false, &format!("wine-{name}"))?;
        prefix.insert(name, Node::File { sha256, size, executable: false });
    }
    Ok(())
}

fn text(workspace: &Workspace<'_>, node: Option<&Node>) -> Result<String, Error> {
    let Some(Node::File { sha256, size, executable }) = node else { return Ok(String::new()) };
    if *size > REGISTRY_BYTES_MAX {
        return Err(failed(format!("a file of the registry has more than {REGISTRY_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned())
}

/// Takes the moment and the machine out of the registry that an installer left. What it wrote through a link of the prefix
/// into one of Wine's own files is put where the link is.
pub(super) fn normalise(
    workspace: &Workspace<'_>,
    before: &Manifest,
    captured: &mut Captured,
) -> Result<(), Error> {
    let place = PREFIX.trim_start_matches('/');
    let links = before.nodes.range(format!("{place}/")..).take_while(|(path, _)| path.starts_with(place));
    for (path, node) in links {
        let Node::Link { target } = node else { continue };
        let written = captured.written.get(target.trim_start_matches('/')).cloned();
        if let Some(file @ Node::File { .. }) = written {
            captured.written.entry(path.clone()).or_insert(file);
        }
    }
    captured.written.retain(|path, node| {
        let changed = before.nodes.get(path).is_some_and(|was| was != node);
        !(changed && OWN.iter().any(|folder| path.contains(folder)) && path.starts_with("usr/"))
    });
    for hive in HIVES {
        let path = format!("{place}/{hive}");
        let Some(node @ Node::File { .. }) = captured.written.get(&path) else { continue };
        let content = registry::normalised(&text(workspace, Some(node))?);
        let (sha256, size) = workspace.add(&mut content.as_bytes(), false, &format!("wine-{hive}"))?;
        captured.written.insert(path, Node::File { sha256, size, executable: false });
    }
    captured.forget(&|path| {
        path.strip_prefix(place).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| {
            let (top, below) = rest.split_once('/').unwrap_or((rest, ""));
            // Copies of what was installed, under names made by chance, for mending and taking away: neither is done here.
            if let Some(name) = below.strip_prefix("windows/Installer/") {
                return name.ends_with(".msi") || name.ends_with(".mst");
            }
            let ports = top == "dosdevices" && !below.is_empty() && !below.ends_with(':');
            ports || is_scratch(rest) || (below.is_empty() && top != MARK && is_servers(top))
        })
    });
    Ok(())
}

/// Names what a prefix was made from, in it: a tool's copy is compared with its tree by this. Wine's packages and what
/// installers wrote count; other packages leave traces in the registry (fonts), and no program misses them.
pub(super) fn seal(merge: &mut Merge, workspace: &Workspace<'_>, lock: &Lock) -> Result<(), Error> {
    if lock.runner != RUNNER {
        return Ok(());
    }
    let path = format!("{}/{MARK}", PREFIX.trim_start_matches('/'));
    write(merge, workspace, &path, mark(lock).as_bytes())
}

fn mark(lock: &Lock) -> String {
    let wine = lock.packages.iter().find(|package| package.name == PACKAGE);
    let version = wine.map_or("", |package| package.version.as_str());
    let packages = lock.packages.iter().filter(|package| package.name.contains("wine"));
    let packages: Vec<String> = packages.map(|package| package.sha256.hex()).collect();
    let captures = lock.artifacts.iter().filter_map(|artifact| artifact.captured);
    let captures: Vec<String> = captures.map(|captured| captured.sha256.hex()).collect();
    let digest = Sha256::of(format!("{packages:?} {captures:?}").as_bytes());
    format!("Wine {version}\n{digest}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_marked_as_wines_own() {
        let library: Vec<u8> = (0..=255).collect();
        let marked = as_builtin(&library);
        assert_eq!(marked.len(), library.len());
        assert_eq!((&marked[..64], &marked[96..]), (&library[..64], &library[96..]));
        assert!(marked[64..].starts_with(b"Wine builtin DLL\0"));
    }

    #[test]
    fn of_links_the_drives_stay_and_a_persons_folders_become_folders() {
        let mut prefix = Manifest::default();
        for (path, target) in [
            ("dosdevices/c:", "../drive_c"),
            ("dosdevices/com1", "/dev/ttyS0"),
            ("drive_c/users/tool/Documents", "/root"),
            ("drive_c/odd", "/etc/passwd"),
        ] {
            link(path, target, &mut prefix);
        }
        let paths: Vec<&str> = prefix.nodes.keys().map(String::as_str).collect();
        assert!(
            paths.contains(&"dosdevices/c:") && paths.contains(&"drive_c/users/tool/Documents"),
            "{paths:?}"
        );
        assert!(!paths.contains(&"dosdevices/com1") && !paths.contains(&"drive_c/odd"), "{paths:?}");
        assert_eq!(prefix.nodes["drive_c/users/tool/Documents"], Node::Directory);
    }

    #[test]
    fn a_prefix_is_another_with_another_wine_and_not_with_other_fonts() {
        let lock = |wine: &str, fonts: &str| {
            mark(&crate::lock::tests::lock(&[
                ("fonts-x", fonts, &[]),
                ("libwine", wine, &[]),
                ("wine64", wine, &[]),
            ]))
        };
        assert_eq!(lock("8.0", "1"), lock("8.0", "2"));
        assert_ne!(lock("8.0", "1"), lock("8.1", "1"));
        assert!(lock("8.0", "1").starts_with("Wine 8.0\n"));
    }
}

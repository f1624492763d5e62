//! Vendors' installers: run once, offline, in a build sandbox over a copy of the tree, and what they wrote is kept.
//!
//! The artifact lies in [`FOLDER`], which is writable, on disk, and thrown away: an archive by its members, anything else as
//! a program under its own name. What it wrote elsewhere becomes a tar archive among the store's artifacts
//! ([`super::captured`]), which the lock names by digest. `store/captures/<key>` remembers what an installer wrote over which
//! tree, so that it is not run again for the same one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hatchway_inspect::archive::{self, Format};

use super::capture::Captured;
use super::captured;
use super::sandboxed::{Room, Root, Step, stage};
use super::unpack::{self, CONTROL, Layout};
use super::wine;
use crate::digest::Sha256;
use crate::error::Error;
use crate::lock::write_atomically;
use crate::store::manifest::Manifest;
use crate::store::{Mode, Store, Workspace};

/// Where an installer finds itself, and its working folder.
pub const FOLDER: &str = "/run/install";
/// What installers unpack themselves with.
pub(super) const PACKAGES: [&str; 4] = ["bzip2", "gzip", "tar", "xz-utils"];
/// Large ones unpack gigabytes.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// How often `y` can be read. Not without an end: a program that reads all of its input must get there.
const ANSWERS: usize = 1000;
/// A change of this number runs every installer anew: it stands for the sandbox and for what is forgotten.
const RUNNER: u32 = 1;

/// What is run.
#[derive(Debug, Clone)]
pub struct Installer<'a> {
    /// The artifact's name.
    pub file: &'a str,
    /// The artifact.
    pub sha256: Sha256,
    /// Leading folders that are cut off, where it is an archive.
    pub strip: u32,
    /// The command line.
    pub run: &'a [String],
    /// Whether questions are answered with `y`.
    pub accept: bool,
    /// Whether it is for Windows: it finds Wine's prefix.
    pub wine: bool,
}

/// What an installer wrote.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The archive among the store's artifacts.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
    /// Its members, whiteouts among them; `None` where it was remembered and not run.
    pub manifest: Option<Manifest>,
    /// What a tree cannot hold.
    pub dropped: Vec<String>,
}

impl Installed {
    /// The paths in which a second result differs from this one.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let empty = Manifest::default();
        let manifest = |installed: &Self| installed.manifest.clone().unwrap_or_else(|| empty.clone());
        captured::differences(&manifest(self), &manifest(other))
    }
}

/// The paths in which a result differs from the record of another ([`record`]).
///
/// # Errors
/// A line that cannot be read.
pub fn differences_from_record(text: &str, installed: &Installed) -> Result<Vec<String>, String> {
    let recorded = Manifest::parse(text)?;
    Ok(installed.manifest.as_ref().map_or_else(Vec::new, |now| captured::differences(&recorded, now)))
}

/// What an installer wrote as text, to be kept beside a lock: nothing is built from it, but it names what differs elsewhere.
#[must_use]
pub fn record(installed: &Installed) -> Option<String> {
    installed.manifest.as_ref().map(Manifest::to_text)
}

impl Installer<'_> {
    /// Names a run: the installer, its command, and the tree it is run over.
    fn key(&self, tree: Sha256) -> Sha256 {
        let Self { sha256, strip, run, accept, file, wine } = self;
        let wine = if *wine { " wine" } else { "" };
        Sha256::of(format!("{RUNNER} {tree} {sha256} {file:?} {strip} {run:?} {accept}{wine}").as_bytes())
    }

    /// What it wrote over this tree before, if the store still has it.
    #[must_use]
    pub fn remembered(&self, store: &Store, tree: Sha256) -> Option<Installed> {
        let text = fs::read_to_string(memory(store, self.key(tree))).ok()?;
        let sha256: Sha256 = text.trim().parse().ok()?;
        let size = fs::metadata(store.artifact(sha256)).ok()?.len();
        Some(Installed { sha256, size, manifest: None, dropped: Vec::new() })
    }

    /// Remembers what it wrote over this tree.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember(&self, store: &Store, tree: Sha256, installed: &Installed) -> Result<(), Error> {
        let path = memory(store, self.key(tree));
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        write_atomically(&path, format!("{}\n", installed.sha256).as_bytes())?;
        captured::sync_folder(&path)
    }

    /// Runs it over a copy of a tree of the store and keeps what it wrote.
    ///
    /// # Errors
    /// No sandbox can be made; [`Error::Installer`] when it fails, takes too long, or writes nothing.
    pub fn run(&self, store: &Store, shim: Option<&Path>, tree: Sha256) -> Result<Installed, Error> {
        let _builders = store.lock("store", Mode::Shared)?;
        let _tree = store.hold_tree(tree)?;
        let workspace = store.workspace()?;
        let room = super::room(&workspace, shim)?;
        let captured = self.capture(&room, &workspace, store, tree)?;
        if captured.written.is_empty() && captured.removed.is_empty() {
            return Err(self.failed("it wrote nothing that is kept".into()));
        }
        let manifest = captured::manifest(&captured)?;
        let (sha256, size) = captured::store(store, &workspace, &manifest)?;
        let dropped = captured.dropped;
        Ok(Installed { sha256, size, manifest: Some(manifest), dropped })
    }

    fn capture(
        &self,
        room: &Room<'_>,
        workspace: &Workspace<'_>,
        store: &Store,
        tree: Sha256,
    ) -> Result<Captured, Error> {
        let files = self.prepare(workspace, store)?;
        let before = store.manifest(tree)?;
        let staged = stage(workspace, "install", &before, &std::collections::BTreeMap::new())?;
        let (program, args) =
            self.run.split_first().ok_or_else(|| self.failed("it has no command".into()))?;
        let mut step = Step::new(&format!("the installer `{}`", self.file), program, &[]);
        step.args = args.to_vec();
        step.cwd = FOLDER.into();
        step.timeout = TIMEOUT;
        step.binds.push((files, FOLDER.into(), false));
        if self.accept {
            step.stdin = "y\n".repeat(ANSWERS).into_bytes();
        }
        // Messages of the archive's tools are not asked for: nobody answers.
        step.env.insert("DEBIAN_FRONTEND".into(), "noninteractive".into());
        if self.wine {
            let ours = crate::wine::environment().into_iter();
            step.i386 = before.nodes.contains_key(crate::wine::LOADERS[0].trim_start_matches('/'));
            step.env.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        room.run(Root::Writable(staged.folder()), &step)?.success(&step.name).map_err(
            |error| match error {
                Error::BuildStep { reason, .. } => self.failed(reason),
                other => other,
            },
        )?;
        let mut captured = staged.capture(workspace)?;
        if self.wine {
            wine::normalise(workspace, &before, &mut captured)?;
        }
        captured.forget(&is_not_kept);
        let written = captured.written.clone();
        // Folders above something that was forgotten, such as logs, are no content either.
        let holds = |folder: &str| {
            let prefix = format!("{folder}/");
            written.range(prefix.clone()..).next().is_some_and(|(path, _)| path.starts_with(&prefix))
        };
        captured.forget(&|path| is_place_of_leftovers(path) && !holds(path));
        staged.remove()?;
        Ok(captured)
    }

    /// Lays the artifact out where the installer is started.
    fn prepare(&self, workspace: &Workspace<'_>, store: &Store) -> Result<std::path::PathBuf, Error> {
        use std::os::unix::fs::PermissionsExt;
        let artifact = store.artifact(self.sha256);
        let folder = workspace.scratch("installer")?.join("files");
        if holds_members(archive::detect(&artifact)?) {
            let layout = Layout { strip: self.strip, ..Layout::of_package(self.file) };
            let mut members = unpack::unpack(workspace, &artifact, self.sha256, &layout)?;
            members.nodes.retain(|path, _| path.split('/').next() != Some(CONTROL));
            let bad = |reason| Error::BadLayout { package: self.file.to_owned(), reason };
            members.check().map_err(bad)?;
            workspace.copy_tree(&folder, &members)?;
            return Ok(folder);
        }
        workspace.copy_tree(&folder, &Manifest::default())?;
        let program = folder.join(self.file.rsplit('/').next().unwrap_or(self.file));
        fs::copy(&artifact, &program).map_err(Error::io("copy", &program))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode).map_err(Error::io("change the mode of", &program))?;
        Ok(folder)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Installer { file: self.file.to_owned(), reason }
    }
}

fn memory(store: &Store, key: Sha256) -> std::path::PathBuf {
    store.root().join("captures").join(key.hex())
}

/// Whether an artifact is an archive whose members an installer is among; others are programs themselves.
fn holds_members(format: Format) -> bool {
    matches!(
        format,
        Format::Tar(_) | Format::Zip | Format::Cpio(_) | Format::Cabinet | Format::Iso | Format::Squashfs
    )
}

/// What installers leave that is no content: logs, caches, byte code, the loader's cache, copies and locks of the account
/// files, and package managers' databases of what is installed.
fn is_not_kept(path: &str) -> bool {
    const FOLDERS: [&str; 7] = [
        "var/log",
        "var/cache",
        "root/.cache",
        "var/lib/dpkg",
        "var/lib/rpm",
        "var/backups",
        "var/lib/systemd",
    ];
    const FILES: [&str; 9] = [
        "etc/ld.so.cache",
        "etc/.pwd.lock",
        "etc/passwd-",
        "etc/group-",
        "etc/shadow-",
        "etc/gshadow-",
        "etc/subuid-",
        "etc/subgid-",
        "root/.bash_history",
    ];
    FOLDERS.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
        || FILES.contains(&path)
        || path.ends_with(".log")
        || path.split('/').any(|part| part == "__pycache__")
}

/// Folders that are made for what [`is_not_kept`] names.
fn is_place_of_leftovers(path: &str) -> bool {
    matches!(path, "root/.cache" | "var/lib/dpkg" | "var/lib/rpm" | "var/backups" | "var/lib/systemd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_caches_are_not_kept() {
        for path in [
            "var/log/acme/x",
            "opt/acme/install.log",
            "etc/ld.so.cache",
            "usr/x/__pycache__/a.pyc",
            "etc/passwd-",
        ] {
            assert!(is_not_kept(path), "{path}");
        }
        for path in
            ["opt/acme/log", "etc/passwd", "root/.acme", "var/lib/acme", "opt/acme/logs/x", "var/logx"]
        {
            assert!(!is_not_kept(path), "{path}");
        }
    }
}

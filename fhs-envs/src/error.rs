//! The one error type of the crate. `Display` never repeats its source; the command line prints the chain.

use std::path::PathBuf;

use crate::digest::Sha256;

/// What can go wrong between a recipe and a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried ("read", "create" …).
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither the configuration, the environment nor the host's apt sources name a Debian mirror.
    #[error("no Debian mirror is known")]
    NoMirror,
    /// Neither the configuration, the environment nor the host's pip names an index of Python packages.
    #[error("no index of Python packages is known")]
    NoPythonIndex,
    /// No key ring to check an archive's signature with.
    #[error("no key ring with the Debian archive's keys was found")]
    NoKeyring,
    /// A key ring could not be read.
    #[error("key ring `{}` cannot be used: {reason}", path.display())]
    BadKeyring {
        /// The key ring.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An `InRelease` file without a valid signature of a trusted, valid key.
    #[error("the index `{index}` is not signed by a trusted key: {reason}")]
    Unsigned {
        /// Suite and file.
        index: String,
        /// What each signature lacked.
        reason: String,
    },
    /// An `InRelease` past its `Valid-Until`.
    #[error("the index `{index}` expired: it was valid until {until}")]
    Expired {
        /// Suite and file.
        index: String,
        /// Its `Valid-Until`.
        until: String,
    },
    /// An index that is signed but says something else than was asked for, or makes no sense.
    #[error("the index `{index}` is not usable: {reason}")]
    BadIndex {
        /// Suite and file.
        index: String,
        /// Why.
        reason: String,
    },
    /// A mirror whose signed list names an index file that it does not have.
    #[error(
        "the mirror is out of step: its signed list names {what} with sha256 {expected}, and it has {has}: it is being \
         updated, or incomplete"
    )]
    OutOfStep {
        /// File and source.
        what: String,
        /// From the signed list.
        expected: Sha256,
        /// What it has instead.
        has: &'static str,
    },
    /// A download failed.
    #[error("cannot download {what}")]
    Download {
        /// File and source, without the host.
        what: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server answered, but not with the file.
    #[error("cannot download {what}: the server answered {status}")]
    DownloadStatus {
        /// File and source.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// Content whose digest is not the expected one.
    #[error("{what} does not match its hash: expected sha256 {expected}, found {found}")]
    WrongHash {
        /// File and source.
        what: String,
        /// From index, lock or recipe.
        expected: Sha256,
        /// Of the content.
        found: Sha256,
    },
    /// A vendor's file is not the one that the recipe names.
    #[error("`{}` is not the file that was named: expected sha256 {expected}, found {found}", path.display())]
    WrongArtifact {
        /// The file.
        path: PathBuf,
        /// From the recipe.
        expected: Sha256,
        /// Of the file.
        found: Sha256,
    },
    /// An index would be needed, but the network may not be used.
    #[error("{what} is not in the cache and `--offline` was given")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// No suite can carry the artifact.
    #[error("no suite fits:\n{}", refusals.join("\n"))]
    NoSuite {
        /// One line per reason, with the suite.
        refusals: Vec<String>,
        /// Names that could be meant, for the hint.
        near: Vec<String>,
    },
    /// A package that the recipe asks for by name is in no index.
    #[error("there is no package `{name}` in {source_id}")]
    NoPackage {
        /// Package.
        name: String,
        /// Source, as `debian:trixie/non-free`.
        source_id: String,
    },
    /// A package to upgrade that no lock has.
    #[error("`{package}` is not in the lock")]
    NotLocked {
        /// Its name.
        package: String,
    },
    /// No mirror has a locked file any more, and neither has the store.
    #[error("no mirror has {what} any more, and it is not in the store")]
    Gone {
        /// File and source.
        what: String,
    },
    /// A relation field that cannot be parsed.
    #[error("the {field} of `{package}` cannot be read")]
    BadField {
        /// Field name.
        field: &'static str,
        /// Package.
        package: String,
        /// Which part.
        source: crate::debian::relation::BadRelation,
    },
    /// A lock file that is missing, broken or from another version.
    #[error("`{}` is not a usable lock: {reason}", path.display())]
    BadLock {
        /// The lock.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Two packages bring different files to the same path.
    #[error("`{first}` and `{second}` both bring `{path}`, with different content")]
    Collision {
        /// Path in the tree.
        path: String,
        /// Package.
        first: String,
        /// Package.
        second: String,
    },
    /// A package's content cannot be placed in the tree.
    #[error("`{package}` cannot be placed in the tree: {reason}")]
    BadLayout {
        /// Package.
        package: String,
        /// Why.
        reason: String,
    },
    /// An image that cannot be a base.
    #[error("the image `{image}` cannot be used: {reason}")]
    Image {
        /// The folder or file.
        image: String,
        /// Why.
        reason: String,
    },
    /// A patch of the recipe does not fit.
    #[error("the patch `{file}` cannot be applied to `{at}`: {reason}")]
    Patch {
        /// The file of the tree.
        at: String,
        /// The patch.
        file: String,
        /// Which hunk, what was expected, what was found.
        reason: String,
    },
    /// An archive could not be read.
    #[error(transparent)]
    Archive(#[from] hatchway_inspect::Error),
    /// A manifest in the store is damaged.
    #[error("the store's manifest `{}` is damaged: {reason}", path.display())]
    BadManifest {
        /// Manifest.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Maintainer scripts of the archive's packages that do something which nobody has read.
    #[error("these maintainer scripts are not known, and the builder cannot do their work: {}", scripts.join(", "))]
    UnreadScripts {
        /// Script, package and normal form.
        scripts: Vec<String>,
    },
    /// What maintainer scripts wrote is not the same twice.
    #[error("the maintainer scripts wrote something else the second time: {}", paths.join(", "))]
    NotReproducible {
        /// The paths that differ.
        paths: Vec<String>,
    },
    /// No sandbox could be made for a step of a build.
    #[error("cannot make a sandbox for {step}: {reason}")]
    BuildSandbox {
        /// Which step.
        step: String,
        /// Why not.
        reason: String,
        /// What the shim suggests.
        hint: Option<String>,
    },
    /// A step of a build failed.
    #[error("{step} failed: {reason}")]
    BuildStep {
        /// Which step.
        step: String,
        /// How it ended, and what it said.
        reason: String,
    },
    /// A step of a build took more of the machine than it may.
    #[error("{step} takes more than it may: {limit}")]
    StepLimit {
        /// Which step.
        step: String,
        /// Of what.
        limit: crate::build::watch::StepLimit,
    },
    /// A vendor's installer failed, or did nothing.
    #[error("the installer `{file}` failed: {reason}")]
    Installer {
        /// The artifact.
        file: String,
        /// How it ended, and what it said.
        reason: String,
    },
    /// An installer wrote something else than what was locked.
    #[error("the installer `{file}` wrote something else than what was locked: {}", paths.join(", "))]
    OtherCapture {
        /// The artifact.
        file: String,
        /// The paths that differ, as far as they are known.
        paths: Vec<String>,
        /// Digest of what was locked.
        expected: Sha256,
    },
    /// The sandbox of a step was refused or could not be started.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The device is full.
    #[error("no space left on the device of `{}`", path.display())]
    DiskFull {
        /// Where it was written.
        path: PathBuf,
    },
    /// There is not enough room, seen before anything was written.
    #[error(
        "{} are needed; on the device of `{}` {} are free, of which {} stay free for others",
        crate::store::space::readable(*needed),
        path.display(),
        crate::store::space::readable(*available),
        crate::store::space::readable(*reserve)
    )]
    NoRoom {
        /// Where it would be written.
        path: PathBuf,
        /// Bytes that are needed at least.
        needed: u64,
        /// Bytes that are free.
        available: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// What is kept free was reached while something was written.
    #[error(
        "{what} needs more room than there is: {} are written, and of the {} left on the device of `{}` {} stay free for others",
        crate::store::space::readable(*written),
        crate::store::space::readable(*available),
        path.display(),
        crate::store::space::readable(*reserve)
    )]
    RoomUsedUp {
        /// What was being written.
        what: String,
        /// Where.
        path: PathBuf,
        /// Bytes that this build has written so far.
        written: u64,
        /// Bytes that are free.
        available: u64,
        /// Bytes of these that nothing is written to.
        reserve: u64,
    },
    /// The store is in use by builds.
    #[error("a build is using the store `{}`", .0.display())]
    StoreBusy(PathBuf),
    /// Something the design has and this version lacks.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    /// What helps where a mirror, an index or a key is wrong.
    fn source_hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoMirror => {
                "set HATCHWAY_DEBIAN_MIRROR to a mirror's URL, or add a [[mirror]] to hatchway.toml, or a Debian source to the host's apt"
            }
            Self::NoPythonIndex => {
                "set HATCHWAY_PYPI_MIRROR to an index's URL (the folder with one folder a project), or `python-index` in \
                 hatchway.toml, or `index-url` in the host's pip.conf"
            }
            Self::NoKeyring => {
                "install `debian-archive-keyring`, or name a key ring in hatchway.toml: keyring = \"…\""
            }
            Self::BadKeyring { .. } | Self::Unsigned { .. } => {
                "update `debian-archive-keyring` on this host; if the mirror is your own, name its key ring in hatchway.toml"
            }
            Self::Expired { .. } => {
                "use a current mirror, or, for a frozen one, set `check-valid-until = false` at its [[mirror]] in hatchway.toml"
            }
            Self::Download { .. } | Self::DownloadStatus { .. } => {
                "check the mirror (HATCHWAY_DEBIAN_MIRROR or hatchway.toml) and the network; the same command resumes"
            }
            Self::WrongHash { .. } => {
                "the file changed or was damaged on the way; if a mirror is out of step, run `hatchway lock --refresh`"
            }
            Self::WrongArtifact { .. } => {
                "put the file of that digest there, or make a recipe for this one with `hatchway new`"
            }
            Self::OutOfStep { .. } => {
                "try again later, or name another mirror (HATCHWAY_DEBIAN_MIRROR, or [[mirror]] in hatchway.toml)"
            }
            Self::BadIndex { .. } => {
                "check the names of suite and component; if the mirror is out of step, name another in hatchway.toml"
            }
            _ => return None,
        })
    }

    /// The next command or the setting that helps, one line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        if let Some(hint) = self.source_hint() {
            return vec![hint.to_owned()];
        }
        let hint = match self {
            Self::Offline { .. } => "run the same command once without `--offline`".into(),
            Self::NoSuite { refusals, near } => return no_suite_hints(refusals, near),
            Self::NoPackage { name, .. } => format!("check the spelling of `{name}`, or name another suite or component"),
            Self::NotLocked { .. } => "`hatchway recipe why RECIPE PACKAGE` says what is in a lock and why".into(),
            Self::Gone { .. } => {
                return vec![
                    "move to what the mirrors have: `hatchway lock RECIPE --upgrade`".into(),
                    "or name a mirror that keeps old versions: a second [[mirror]] in hatchway.toml".into(),
                    "or bring it: `bundles = [\"/media/stick\"]` in hatchway.toml names a folder with a copy of another store's `artifacts`"
                        .into(),
                ];
            }
            Self::BadLock { .. } => "run `hatchway lock` to write it anew".into(),
            Self::Collision { second, .. } => format!("leave one out: exclude = [\"{second}\"] in [environment]"),
            Self::UnreadScripts { .. } => "run them in a build sandbox: set `configure = \"scripts\"` in the recipe's [environment]; or \
                                           leave the package out with `exclude`"
                .into(),
            Self::NotReproducible { .. } => {
                "leave the package that writes them out with `exclude`, or set `configure = \"builtin\"`".into()
            }
            Self::BuildSandbox { hint: Some(hint), .. } => hint.clone(),
            Self::BuildSandbox { .. } => "`hatchway doctor` says what this host lacks".into(),
            Self::Installer { reason, .. } => return installer_hints(reason),
            Self::StepLimit { limit, .. } => limit.hint(),
            Self::BuildStep { reason, .. } => return crate::build::watch::hints(reason),
            Self::OtherCapture { expected, .. } => {
                return vec![
                    format!(
                        "copy what was locked from a store that has it: store/artifacts/{expected}; beside the recipe it \
                         is found by its name too: `{}.tar`",
                        expected.short()
                    ),
                    "or lock what it writes here: `hatchway lock RECIPE`".into(),
                ];
            }
            Self::Sandbox(error) => return error.hint().into_iter().collect(),
            _ => return self.store_hints(),
        };
        vec![hint]
    }

    /// The hints of what befalls the store, and of what a tree is made of.
    fn store_hints(&self) -> Vec<String> {
        let hint: &str = match self {
            Self::DiskFull { .. } => {
                "free some space (`hatchway store gc` removes what no recipe needs) and run the same command again; finished \
                                      downloads are kept"
            }
            Self::Image { .. } => {
                "make an archive of it: `skopeo copy --override-arch amd64 docker-archive:FILE oci-archive:IMAGE.tar`, \
                                   or the same from `docker://NAME`"
            }
            Self::Patch { .. } => {
                "make the patch again, from the file as it is in the tree: `hatchway shell` shows it, `diff -u OLD NEW` \
                                   writes the patch"
            }
            Self::NoRoom { .. } | Self::RoomUsedUp { .. } => {
                "free some space: `hatchway store du` says what takes it, `hatchway store gc` removes what no recipe needs"
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::CrossesDevices => {
                "all of the store has to lie on one file system: mount that at the store's folder, or set HATCHWAY_DATA_DIR"
            }
            Self::StoreBusy(_) => "run it again when the build has ended",
            Self::BadManifest { .. } => "run `hatchway store repair`",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }

    /// Wraps an I/O error, telling a full disk apart.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }
}

fn installer_hints(reason: &str) -> Vec<String> {
    let said = reason.to_ascii_lowercase();
    let missing = said.contains("not found") || said.contains("no such file");
    let terminal = ["terminal", "tty", "/dev/tty"].iter().any(|word| said.contains(word));
    let mut hints = crate::build::watch::hints(reason);
    if missing {
        hints.push("add the package that has what it misses: packages = [\"…\"] in [environment]".to_owned());
    }
    if terminal {
        hints.push(
            "give it its option for an installation without questions; or a terminal: packages = [\"bsdutils\"], and run = \
             [\"script\", \"-qec\", \"./INSTALLER\", \"/dev/null\"]"
                .to_owned(),
        );
    }
    if hints.is_empty() {
        hints.push(
            "an installer is run without network, terminal and questions: look for its options with `--help`, and put them \
             into `install = { run = [\"…\"] }`"
                .to_owned(),
        );
    }
    hints
}

/// A vendor's name on one line: with a line's end in it, it could look like a hint of ours.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What to do depends on what was wrong: the recipe, the command line, or the vendor's file.
fn no_suite_hints(refusals: &[String], near: &[String]) -> Vec<String> {
    let mut hints = Vec::new();
    if !near.is_empty() {
        hints.push(format!("similar names: {}", near.join(", ")));
    }
    let any = |words: &str| refusals.iter().any(|line| line.contains(words));
    let all = |words: &[&str]| refusals.iter().all(|line| words.iter().any(|word| line.contains(word)));
    if any("` is pinned to ") {
        hints.push("change that `pin` in [environment] to a version that is there, or take it out".into());
    }
    if any("in the recipe's `packages`)") || any("is in `packages` and in `exclude`") {
        hints.push("correct `packages` in [environment] of the recipe".into());
    }
    if any("(Depends of python ") || any("its Python is ") {
        hints.push("choose another `python = { version = \"…\" }`, or a suite that has that one".into());
    }
    if any("no mirror has it") {
        hints.push(
            "check the spelling of the suite; a mirror that has it is named as [[mirror]] in hatchway.toml"
                .into(),
        );
    }
    if any("the mirror is out of step") {
        hints.push(
            "try again later, or name another mirror (HATCHWAY_DEBIAN_MIRROR, or [[mirror]] in hatchway.toml)".into(),
        );
    }
    let ours = [
        "the mirror is out of step",
        "` is pinned to ",
        "in the recipe's `packages`)",
        "is in `packages` and in `exclude`",
        "(Depends of python ",
        "its Python is ",
        "no mirror has it",
    ];
    if !hints.is_empty() && all(&ours) {
        return hints;
    }
    hints.push("try other suites with `--suite NAME`, leave a bogus dependency out with `exclude = [\"…\"]`, or ship the missing library as a second [[artifact]]".into());
    hints
}

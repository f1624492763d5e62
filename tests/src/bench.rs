//! One test's bench: folders of its own, a clean environment, and the program run in them.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::mirror::Mirror;
use crate::server::Server;
use crate::snapshot::steady;
use crate::store::Store;

/// Whom root becomes to be an ordinary user: an id that no account has.
const ORDINARY_ID: u32 = 12_345;
/// Debian's `nobody`, for what asks for an account.
const NOBODY_ID: u32 = 65_534;

/// What a command gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its output.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Outcome {
    /// Fails the test unless the exit code is 0.
    ///
    /// # Panics
    /// Then.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// The output as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit {code}")?,
            None => writeln!(f, "ended by a signal")?,
        }
        for (heading, text) in [("--- stdout", &self.stdout), ("--- stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "{heading}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Bench {
    scratch: TempDir,
    /// The user that root becomes.
    ordinary: Option<u32>,
    exact: bool,
    mirror: Option<String>,
}

impl Bench {
    /// A bench for whoever runs the tests.
    #[must_use]
    pub fn new() -> Self {
        Self::of(None, &std::env::temp_dir())
    }

    /// A bench in memory: where a build takes no time to reach the disk, random moments of it are spread over its work.
    #[must_use]
    pub fn in_memory() -> Self {
        let shared = Path::new("/dev/shm");
        assert!(shared.is_dir(), "`/dev/shm` is missing: mount a tmpfs there");
        Self::of(None, shared)
    }

    /// A bench for an ordinary user, whoever runs the tests.
    #[must_use]
    pub fn ordinary() -> Self {
        Self::of(is_root().then_some(ORDINARY_ID), &std::env::temp_dir())
    }

    /// A bench for an ordinary user with an account, whoever runs the tests.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self::of(is_root().then_some(NOBODY_ID), &std::env::temp_dir())
    }

    fn of(ordinary: Option<u32>, folder: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("hatchway-test-").tempdir_in(folder).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Self { scratch, ordinary, exact: false, mirror: None };
        for folder in ["work", "data", "cache", "config/hatchway", "home", "tmp"] {
            let path = bench.path(folder);
            fs::create_dir_all(&path).unwrap();
            bench.own(&path);
        }
        bench.configure("");
        bench
    }

    /// Whether the program runs as an ordinary user whom root has become.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        self.ordinary.is_some()
    }

    /// Outcomes keep their digests and sizes.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    fn own(&self, path: &Path) {
        if let Some(id) = self.ordinary {
            chown(path, Some(id), Some(id)).unwrap();
        }
    }

    /// Serves an archive and makes it the mirror of this bench, its key the only trusted one.
    #[must_use]
    pub fn with_mirror(mut self, mirror: &Mirror) -> (Self, Server) {
        let server = mirror.serve();
        self.mirror = Some(server.url.clone());
        fs::write(self.path("ring.pgp"), mirror.key.ring()).unwrap();
        (self, server)
    }

    /// The archive is the host's: its apt's mirrors, and Debian's own keys. For what no stand-in can be made of.
    #[must_use]
    pub fn with_hosts_archive(self) -> Self {
        fs::write(self.path("config/hatchway/hatchway.toml"), "").unwrap();
        self
    }

    /// Uses another bench's mirror.
    #[must_use]
    pub fn with_server(mut self, mirror: &Mirror, server: &Server) -> Self {
        self.mirror = Some(server.url.clone());
        fs::write(self.path("ring.pgp"), mirror.key.ring()).unwrap();
        self
    }

    /// The mirror comes from the configuration alone, not from the environment.
    #[must_use]
    pub fn without_mirror_variable(mut self) -> Self {
        self.mirror = None;
        self
    }

    /// Writes `hatchway.toml`; the key ring stands in it already.
    pub fn configure(&self, text: &str) {
        let ring = format!("keyring = \"{}\"\n", self.path("ring.pgp").display());
        fs::write(self.path("config/hatchway/hatchway.toml"), ring + text).unwrap();
    }

    /// A path on the bench.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.scratch.path().join(below)
    }

    /// The folder of the host behind a state folder of `acme`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn state(&self, at: &str) -> PathBuf {
        let folder = self.path("data/state/acme");
        let flat = format!("{}-", at.trim_matches('/').replace('/', "-"));
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let found = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&flat)));
        found.unwrap_or_else(|| panic!("no state for {at} in {}", folder.display()))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::at(&self.path("data/store"))
    }

    /// Puts a file into the working folder.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("work").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Lets whoever the program runs as write into a folder of the bench.
    pub fn allow(&self, below: &str) {
        self.own(&self.path(below));
    }

    /// Reads a file of the working folder.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let path = self.path("work").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs the program to its end.
    pub fn hatchway(&self, arguments: &[&str]) -> Outcome {
        self.outcome(self.command(program()).args(arguments))
    }

    /// Runs a shell script with `$HATCHWAY`.
    pub fn script(&self, text: &str) -> Outcome {
        self.outcome(&mut self.shell(text))
    }

    /// A shell script, to be started.
    #[must_use]
    pub fn shell(&self, text: &str) -> Command {
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", text]);
        command
    }

    /// Runs a shell script that may mount: in a mount namespace of its own, for an ordinary user in a user namespace too.
    pub fn mounting_script(&self, text: &str) -> Outcome {
        let flags = if is_root() && self.ordinary.is_none() { "-m" } else { "-rm" };
        self.outcome(self.command(Path::new("unshare")).args([flags, "sh", "-c", text]))
    }

    /// The program as a child of the test, to be watched or killed. Who starts tests in the background has them ignore
    /// Ctrl-C, and a child would inherit that.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> std::process::Child {
        let mut command = self.command(Path::new("env"));
        command
            .arg("--default-signal=INT")
            .arg(program())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// An outcome with this bench's places made general.
    pub fn outcome(&self, command: &mut Command) -> Outcome {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.output().unwrap_or_else(|error| {
            panic!("cannot start `{name}` ({error}): install the package `util-linux`")
        });
        self.shown(&output)
    }

    /// Output with this bench's places made general.
    #[must_use]
    pub fn shown(&self, output: &Output) -> Outcome {
        let text = |bytes: &[u8]| {
            let mut text =
                String::from_utf8_lossy(bytes).replace(&self.scratch.path().display().to_string(), "[bench]");
            if let Some(mirror) = &self.mirror {
                text = text.replace(mirror, "[mirror]");
            }
            if self.exact { text } else { steady(&text) }
        };
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = if let Some(id) = self.ordinary {
            let mut command = Command::new("setpriv");
            let id = id.to_string();
            command
                .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LC_ALL", "C.UTF-8")
            .env("HATCHWAY", self::program())
            .env("HATCHWAY_DATA_DIR", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        if let Some(mirror) = &self.mirror {
            command.env("HATCHWAY_DEBIAN_MIRROR", mirror);
        }
        command
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether root runs the tests.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The program under test, where every user can start it: a checkout may lie in a folder that is closed to others.
#[must_use]
pub fn program() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let built = std::env::var_os("HATCHWAY_BIN").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/hatchway/hatchway"),
            PathBuf::from,
        );
        assert!(built.is_file(), "`{}` is not there: run `cargo xtask build` first", built.display());
        if !is_root() {
            return built;
        }
        // Each checkout has its own: tests of two may run at once.
        let checkout = crate::package::sha256(built.as_os_str().as_encoded_bytes());
        let folder = std::env::temp_dir().join(format!("hatchway-tests-program-{}", &checkout[..12]));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        // A package's programs, which some tests run, have no native services beside them.
        let services = ["hatchway-recon"].into_iter().filter(|name| built.with_file_name(name).is_file());
        for name in ["hatchway-shim", "hatchway"].into_iter().chain(services) {
            install(&built.with_file_name(name), &folder.join(name));
        }
        folder.join("hatchway")
    })
}

/// Copies beside the goal and renames: another test process may be running the old one.
fn install(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap_or_else(|error| panic!("`{}`: {error}", from.display()));
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return;
    }
    let fresh = to.with_extension(format!("new{}", std::process::id()));
    fs::write(&fresh, bytes).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(fresh, to).unwrap();
}

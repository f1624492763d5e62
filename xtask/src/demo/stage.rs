//! Where the demo plays: folders, the user, and commands that are shown before they run.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Row;
use crate::{build, setup, sh, wheels};

/// A cold `lock` reads some 150 MB of indices; anything near this limit hangs.
const STEP_LIMIT: Duration = Duration::from_secs(20 * 60);

/// What a vendor's program gets on the host, where it is expected to fail at once.
const HOST_LIMIT: Duration = Duration::from_secs(20);

const JSON_LINES_SHOWN: usize = 14;

pub(super) struct Stage {
    scratch: sh::Scratch,
    /// Survives: Hatchway's data folder, and what pip has fetched.
    cache: PathBuf,
    program: PathBuf,
    /// The uid and gid to become for Hatchway's commands.
    drop_to: Option<u32>,
    is_root: bool,
    seconds: Cell<f64>,
    /// `DOCKER_HOST`, where an engine of the demo's runs.
    engine: RefCell<String>,
}

impl Stage {
    pub(super) fn new(as_user: bool) -> Result<Self> {
        let is_root = sh::is_root()?;
        let drop_to = (is_root && as_user).then_some(setup::ORDINARY_ID);
        let scratch = sh::Scratch::new("hatchway-demo")?;
        // Other users must get through to what is shared with them.
        fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o755))?;
        let cache = match drop_to {
            Some(_) => PathBuf::from("/var/cache/hatchway-xtask/user"),
            None => sh::cache()?.join(if is_root { "root" } else { "user" }),
        };
        let stage = Self {
            program: build::program()?,
            scratch,
            cache,
            drop_to,
            is_root,
            seconds: Cell::new(0.0),
            engine: RefCell::default(),
        };
        stage.make_folders()
    }

    fn make_folders(mut self) -> Result<Self> {
        for folder in [self.cache.clone(), self.data(), self.wheels()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
            self.hand_over(&folder)?;
        }
        for name in ["work", "home", "run"] {
            let folder = self.scratch.path.join(name);
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            self.hand_over(&folder)?;
        }
        fs::set_permissions(self.scratch.path.join("run"), fs::Permissions::from_mode(0o700))?;
        if self.drop_to.is_some() {
            // The checkout may lie where an ordinary user cannot look.
            let from = self.program.parent().context("the program has no folder")?.to_path_buf();
            let to = self.scratch.path.join("bin");
            fs::create_dir(&to)?;
            for name in ["hatchway", "hatchway-shim"] {
                let copy = fs::copy(from.join(name), to.join(name));
                copy.with_context(|| format!("cannot copy `{name}`\nhint: run `cargo xtask build`"))?;
            }
            self.program = to.join("hatchway");
        }
        Ok(self)
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        if let Some(id) = self.drop_to {
            std::os::unix::fs::chown(path, Some(id), Some(id))
                .with_context(|| format!("cannot give `{}` away", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn keep(&mut self) {
        self.scratch.keep = true;
    }

    pub(super) fn describe(&self) -> String {
        let who = match (self.is_root, self.drop_to) {
            (true, None) => "as root (no user namespace)",
            (true, Some(_)) => "as an ordinary user (root gave its rights away)",
            (false, _) => "as an ordinary user",
        };
        format!("{who}, work folder {}, cache {}", self.work().display(), self.cache.display())
    }

    /// The current folder of all commands; recipes come to lie in it.
    pub(super) fn work(&self) -> PathBuf {
        self.scratch.path.join("work")
    }

    pub(super) fn wheels(&self) -> PathBuf {
        self.cache.join("wheels")
    }

    fn data(&self) -> PathBuf {
        self.cache.join("data")
    }

    /// A new folder that a tool in the sandbox may write to, whatever uid it has there.
    pub(super) fn shared(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path.join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        self.hand_over(&folder)?;
        Ok(folder)
    }

    /// Forgets what a tool kept between runs of the demo.
    pub(super) fn forget_state(&self, tool: &str) -> Result<()> {
        sh::remove_folder(&self.data().join("hatchway/state").join(tool))
    }

    /// Runs `hatchway ARGS`, shown before its output; any exit code but those in `good` is an error.
    pub(super) fn hatchway<S: AsRef<OsStr>>(&self, args: &[S], good: &[i32]) -> Result<sh::Finished> {
        self.step(args, good, sh::Shown { stdout: true, stderr: true })
    }

    pub(super) fn is_root(&self) -> bool {
        self.is_root && self.drop_to.is_none()
    }

    /// The same as [`Self::hatchway`], with an engine of containers.
    pub(super) fn with_engine(&self, host: &str, args: &[&str]) -> Result<sh::Finished> {
        self.engine.replace(host.to_owned());
        let finished = self.hatchway(args, &[0]);
        self.engine.replace(String::new());
        finished
    }

    /// The same as [`Self::hatchway`], with an output that is not for people.
    pub(super) fn quiet(&self, args: &[&str]) -> Result<String> {
        Ok(self.step(args, &[0], sh::Shown { stdout: false, stderr: true })?.stdout)
    }

    /// Runs `hatchway ARGS --json` and returns what it says.
    pub(super) fn json(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let finished = self.step(&args, &[0], sh::Shown { stdout: false, stderr: true })?;
        let value: Value = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("`hatchway {}` printed no JSON: {}", args.join(" "), finished.stdout))?;
        let pretty = serde_json::to_string_pretty(&value)?;
        let lines = pretty.lines().count();
        pretty.lines().take(JSON_LINES_SHOWN).for_each(|line| println!("{line}"));
        if lines > JSON_LINES_SHOWN {
            println!("  … {} more lines", lines - JSON_LINES_SHOWN);
        }
        Ok(value)
    }

    fn step<S: AsRef<OsStr>>(&self, args: &[S], good: &[i32], shown: sh::Shown) -> Result<sh::Finished> {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.work())
            .env("XDG_DATA_HOME", self.data())
            .env("XDG_CACHE_HOME", self.cache.join("cache"))
            .env("HATCHWAY_DATA_DIR", self.data().join("hatchway"));
        if !self.engine.borrow().is_empty() {
            command.env("DOCKER_HOST", &*self.engine.borrow());
        }
        if let Some(id) = self.drop_to {
            command.env("HOME", self.scratch.path.join("home"));
            command.env("XDG_RUNTIME_DIR", self.scratch.path.join("run"));
            command.env_remove("XDG_CONFIG_HOME").gid(id).uid(id);
        }
        let words: Vec<String> = args.iter().map(|word| sh::quoted(word.as_ref())).collect();
        println!("\n$ hatchway {}", words.join(" "));
        let finished = sh::run_limited(&mut command, STEP_LIMIT, shown)?;
        self.seconds.set(self.seconds.get() + finished.took.as_secs_f64());
        if !finished.status.code().is_some_and(|code| good.contains(&code)) {
            print!("{}", if shown.stdout { "" } else { finished.stdout.as_str() });
            bail!("`hatchway {}` {}", words.join(" "), sh::ended(finished.status));
        }
        Ok(finished)
    }

    /// Hatchway's `fetch`: a package of an archive by its verified index, into the work folder.
    pub(super) fn fetch(&self, spec: &str) -> Result<PathBuf> {
        let work = self.work();
        let finished =
            self.hatchway(&[OsStr::new("fetch"), OsStr::new(spec), "--to".as_ref(), work.as_os_str()], &[0])?;
        let line = finished.stdout.lines().last().context("`hatchway fetch` printed no path")?;
        let file = work.join(line.trim());
        if !file.is_file() {
            bail!("`hatchway fetch` printed `{line}`, which is no file");
        }
        Ok(file)
    }

    /// inspect → new → lock → build. `source` is what the user names: a file or an archive's package.
    pub(super) fn prepare(&self, artifact: &'static str, source: &str) -> Result<Row> {
        self.prepare_with(artifact, source, &|text| text)
    }

    /// The same with a change to the recipe before it is locked.
    pub(super) fn prepare_with(
        &self,
        artifact: &'static str,
        source: &str,
        edit: &dyn Fn(String) -> String,
    ) -> Result<Row> {
        self.seconds.set(0.0);
        // 1 says that something is not yet met, which is why there is Hatchway.
        self.hatchway(&["inspect", source], &[0, 1])?;
        self.hatchway(&["new", source, "--name", artifact], &[0])?;
        let recipe = self.work().join("recipes").join(artifact).join("recipe.toml");
        fs::write(&recipe, edit(fs::read_to_string(&recipe)?))?;
        let lock = self.json(&["lock", artifact])?;
        let build = self.json(&["build", artifact])?;
        let tree = text(&build, &["tree", "digest"])?;
        Ok(Row {
            artifact,
            suite: text(&lock, &["suite"])?,
            packages: match &lock["packages"] {
                Value::Array(list) => list.len().to_string(),
                Value::Number(count) => count.to_string(),
                other => bail!("`hatchway lock --json` has no `packages` but {other}"),
            },
            tree: tree.strip_prefix("sha256:").unwrap_or(&tree).chars().take(12).collect(),
            rung: text(&lock, &["rung"]).or_else(|_| text(&build, &["rung"]))?,
            seconds: 0.0,
            printed: String::new(),
        })
    }

    /// The row with what Hatchway's commands took since `prepare`, and what the tool printed.
    pub(super) fn done(&self, row: Row, printed: impl Into<String>) -> Row {
        Row { seconds: self.seconds.get(), printed: printed.into(), ..row }
    }

    /// Starts a vendor's program on the host and says what happens. Never as root.
    pub(super) fn on_host(&self, program: &Path, args: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.work());
        if self.is_root {
            command.gid(setup::ORDINARY_ID).uid(setup::ORDINARY_ID);
        }
        println!("\nwithout Hatchway, unpacked on this host:\n$ {}", sh::shown(&command));
        match sh::run_limited(&mut command, HOST_LIMIT, sh::Shown { stdout: false, stderr: false }) {
            Ok(finished) => {
                let said = finished.stderr.lines().chain(finished.stdout.lines());
                said.filter(|line| !line.trim().is_empty()).take(4).for_each(|line| println!("{line}"));
                println!("→ {}", sh::ended(finished.status));
            }
            Err(error) => println!("→ {error:#}"),
        }
        Ok(())
    }

    /// Unpacks a `.deb` into a folder of the demo, for `on_host`.
    pub(super) fn unpack(&self, deb: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path.join(name);
        sh::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&folder))?;
        Ok(folder)
    }

    /// Unpacks a wheel; the wheel's modes are what pip would set.
    pub(super) fn unzip(&self, wheel: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path.join(name);
        wheels::unpack(wheel, &folder)?;
        Ok(folder)
    }
}

/// The first of the named members that is a text.
fn text(value: &Value, names: &[&str]) -> Result<String> {
    let found = names.iter().find_map(|name| value[*name].as_str());
    Ok(found.with_context(|| format!("there is no `{}` in {value}", names.join("` or `")))?.to_owned())
}

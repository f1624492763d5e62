//! Starting `/bin/true`: the sandbox library alone and the whole of `hatchway run` against bubblewrap with the same mounts,
//! the same namespaces and the same system call filter, and against `docker run`.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::docker::Docker;
use super::{Place, Programs, Recipes, Rows, spread};
use crate::bench::{ratio, timed};
use crate::sh;

/// Pairs; of a hundred, one is the 99th percentile.
const ROUNDS: usize = 101;
/// Pairs with docker, each of which takes a second.
const DOCKER_ROUNDS: usize = 11;
/// `nobody`: an ordinary user that every system has.
const NOBODY: u32 = 65534;
const TOOL: &str = "small";
/// What the plan mounts, as bubblewrap's options; see `fhs-envs/src/sandbox/plan.rs`.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const MASKED_PROC: [&str; 9] =
    ["acpi", "kcore", "keys", "kmsg", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"];
const SYS: [&str; 2] = ["/sys/devices/system/cpu", "/sys/devices/system/node"];

pub(super) fn measure(programs: &Programs, place: &Place, recipes: &Recipes) -> Result<Rows> {
    recipes.add(programs, TOOL, &[])?;
    let data = recipes.fresh(place, "launch")?;
    sh::run(&mut recipes.command(programs, &data, &["build", TOOL]))?;
    let filter = place.folder("work")?.join("filter");
    let bytes = Command::new(&programs.sandboxed).arg("--filter").output()?;
    fs::write(&filter, bytes.stdout)?;
    let mut rows = Rows::new();
    let root = sh::is_root()?;
    // Root's units have their folders in memory, below /run, where the data is below /var/lib; so here.
    let units = root.then(|| sh::Scratch {
        path: Path::new("/dev/shm").join(format!("hatchway-bench-{}", std::process::id())),
        keep: false,
    });
    if let Some(units) = &units {
        fs::create_dir_all(&units.path)?;
        std::os::unix::fs::symlink(&units.path, data.join("run"))?;
    }
    let own = Launcher::new(programs, recipes, &data, &filter, None)?;
    rows.extend(own.measure(if root { "as root" } else { "as an ordinary user" })?);
    if root {
        // A user's store is the user's own.
        let theirs = place.folder("launch-of-nobody")?;
        let copy = sh::succeeds(Command::new("cp").args(["-a", "--"]).arg(data.join("store")).arg(&theirs))
            && sh::succeeds(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(&theirs));
        anyhow::ensure!(copy, "the store cannot be copied for an ordinary user");
        let launcher = Launcher::new(programs, recipes, &theirs, &filter, Some(NOBODY))?;
        rows.extend(launcher.measure("as an ordinary user")?);
        rows.extend(own.against_docker(place)?);
    }
    Ok(rows)
}

/// The ways to start it, as one user.
struct Launcher<'a> {
    programs: &'a Programs,
    recipes: &'a Recipes,
    data: PathBuf,
    tree: PathBuf,
    /// Where state is; and the tree's `/etc` with the files that a launch adds.
    beside: PathBuf,
    filter: &'a Path,
    user: Option<u32>,
}

impl<'a> Launcher<'a> {
    fn new(
        programs: &'a Programs,
        recipes: &'a Recipes,
        data: &Path,
        filter: &'a Path,
        user: Option<u32>,
    ) -> Result<Self> {
        let trees = data.join("store/trees");
        let tree = fs::read_dir(&trees)?.next().context("no tree was built")??.path();
        let beside = data.join("beside");
        fs::create_dir_all(beside.join("state"))?;
        sh::run(Command::new("cp").args(["-a", "--"]).arg(tree.join("etc")).arg(&beside))?;
        for name in ["hosts", "hostname", "machine-id", "resolv.conf"] {
            fs::write(beside.join("etc").join(name), "x\n")?;
        }
        if let Some(user) = user {
            sh::run(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&beside))?;
        }
        Ok(Self { programs, recipes, data: data.to_owned(), tree, beside, filter, user })
    }

    fn measure(&self, who: &str) -> Result<Rows> {
        let names = ["`bwrap`, equal mounts", "the sandbox library alone", "`hatchway run`", "bare"];
        let mut times: [Vec<Duration>; 4] = Default::default();
        // One round more than counts: the first one warms caches.
        for round in 0..=ROUNDS {
            for step in 0..names.len() {
                let index = (round + step) % names.len();
                let took = timed(&mut self.start(index)?, self.stdin(index)?)?;
                if round > 0 {
                    times[index].push(took);
                }
            }
        }
        let mut rows = Rows::new();
        for (name, times) in names.iter().zip(&times) {
            rows.push((format!("launch of `true` {who}, {name}"), spread(times)?));
        }
        for index in [1, 2] {
            let what = format!("{} / `bwrap` {who}, {ROUNDS} pairs", names[index]);
            rows.push((what, ratio(&times[index], &times[0])?));
        }
        Ok(rows)
    }

    fn start(&self, index: usize) -> Result<Command> {
        let mut command = match index {
            0 => self.bubblewrap(),
            1 => {
                let mut command = Command::new(&self.programs.sandboxed);
                command.arg(&self.programs.shim).arg(&self.tree).arg(self.beside.join("state"));
                command.arg("/bin/true");
                command
            }
            2 => self.recipes.command(self.programs, &self.data, &["run", TOOL, "--program", "/bin/true"]),
            _ => Command::new("/bin/true"),
        };
        if let Some(user) = self.user {
            // Unit folders of a session are in memory, as those of the system are.
            command.uid(user).gid(user).env("HOME", &self.data);
        }
        command.env("XDG_RUNTIME_DIR", "/dev/shm");
        Ok(command)
    }

    /// Bubblewrap reads its filter from there.
    fn stdin(&self, index: usize) -> Result<Stdio> {
        Ok(if index == 0 { File::open(self.filter)?.into() } else { Stdio::null() })
    }

    fn bubblewrap(&self) -> Command {
        let mut command = Command::new("bwrap");
        if self.user.is_some() || !sh::is_root().unwrap_or(false) {
            command.arg("--unshare-user");
        }
        command.args([
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup",
        ]);
        command.args(["--die-with-parent", "--hostname", TOOL, "--seccomp", "0", "--tmpfs", "/"]);
        command.arg("--ro-bind").arg(self.tree.join("usr")).arg("/usr");
        for name in ["bin", "sbin", "lib", "lib64"] {
            command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
        }
        // It cannot lay a folder that is thrown away over the tree's, so it gets one that is ready.
        command.arg("--bind").arg(self.beside.join("etc")).arg("/etc");
        for folder in ["/var/log", "/var/cache", "/var/lib", "/var/opt", "/home/tool", "/opt", "/srv"] {
            command.args(["--dir", folder]);
        }
        for folder in ["/tmp", "/var/tmp", "/run"] {
            command.args(["--tmpfs", folder]);
        }
        command.args(["--dir", "/run/lock", "--dir", "/run/user/1", "--dev", "/dev", "--tmpfs", "/dev/shm"]);
        command.args(["--proc", "/proc"]);
        for path in
            READ_ONLY_PROC.iter().map(|name| format!("/proc/{name}")).filter(|p| Path::new(p).exists())
        {
            command.args(["--ro-bind", &path, &path]);
        }
        for path in MASKED_PROC.iter().map(|name| format!("/proc/{name}")).filter(|p| Path::new(p).exists()) {
            match Path::new(&path).is_dir() {
                true => command.args(["--tmpfs", &path]),
                false => command.args(["--ro-bind", "/dev/null", &path]),
            };
        }
        for path in SYS.iter().filter(|path| Path::new(path).exists()) {
            command.args(["--ro-bind", path, path]);
        }
        command.arg("--bind").arg(self.beside.join("state")).arg("/var/lib/state").arg("/bin/true");
        command
    }

    /// The same program of the same tree, as an image.
    fn against_docker(&self, place: &Place) -> Result<Rows> {
        let docker = match Docker::start(&place.folder("docker")?) {
            Ok(docker) => docker,
            Err(error) => return Ok(vec![("`docker run`".into(), format!("not measured: {error:#}"))]),
        };
        docker.import(&self.tree, "bench")?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=DOCKER_ROUNDS {
            let mut run = docker.command(&["run", "--rm", "--network", "none", "bench", "/bin/true"]);
            let pair = (timed(&mut self.start(2)?, Stdio::null())?, timed(&mut run, Stdio::null())?);
            if round > 0 {
                ours.push(pair.0);
                theirs.push(pair.1);
            }
        }
        Ok(vec![
            ("launch of `true` as root, `docker run`".into(), spread(&theirs)?),
            (format!("`docker run` / `hatchway run`, {DOCKER_ROUNDS} pairs"), ratio(&theirs, &ours)?),
        ])
    }
}

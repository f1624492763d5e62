//! Podman as an engine of our own, by its socket with docker's API: all of it is below a folder of the test's, so that neither the
//! host's Podman nor another test's is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A cold machine takes some seconds.
const READY_MAX: Duration = Duration::from_secs(60);
/// What it runs containers with, by their packages. It starts without them, and would say so at the first container only.
const PROGRAMS: [&str; 3] = ["podman", "conmon", "runc"];

/// Podman's service, root's.
#[derive(Debug)]
pub struct Podman {
    service: Child,
    folder: PathBuf,
}

impl Podman {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not run here.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        for program in PROGRAMS {
            let there = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
            assert!(there, "`{program}` does not run here: install the package `{program}`");
        }
        fs::create_dir_all(folder.join("net")).unwrap();
        fs::write(folder.join("containers.conf"), settings(folder)).unwrap();
        fs::write(folder.join("storage.conf"), storage(folder)).unwrap();
        let mut podman = Self { service: spawn(folder), folder: folder.to_owned() };
        podman.wait();
        podman
    }

    /// Kills the service, and only it, and starts it again.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn kill_and_start(&mut self) {
        self.service.kill().unwrap();
        self.service.wait().unwrap();
        self.service = spawn(&self.folder);
        self.wait();
    }

    fn wait(&mut self) {
        let end = Instant::now() + READY_MAX;
        while !self.command(&["info"]).output().is_ok_and(|output| output.status.success()) {
            let ended = self.service.try_wait().unwrap().is_some();
            if ended || Instant::now() > end {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("`podman system service` does not run here:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// As `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    /// Its own client, which speaks another API at the same socket.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = podman(&self.folder);
        command.args(["--remote", "--url"]).arg(self.host()).args(arguments);
        command
    }

    /// What a command of its client prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What is mounted below its folder.
    #[must_use]
    pub fn mounted(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = table.lines().filter_map(|line| line.split(' ').nth(1));
        places.filter(|place| Path::new(place).starts_with(&self.folder)).map(str::to_owned).collect()
    }
}

/// Locks are files: those in shared memory have one name for all of a machine's. Control groups are made without systemd, and
/// networks are none. `crun`, which it would choose, refuses machines with control groups of both versions. Its own
/// limits of files and processes are higher than this machine's, and to raise those takes a capability that root has not everywhere.
fn settings(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n\
         tmp_dir = \"{}\"\n[network]\nnetwork_config_dir = \"{}\"\n",
        at("tmp"),
        at("net")
    )
}

/// The driver is the one that works on each file system and has nothing mounted when no container runs.
fn storage(folder: &Path) -> String {
    let (data, run) = (folder.join("data"), folder.join("exec"));
    format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        data.display(),
        run.display()
    )
}

fn podman(folder: &Path) -> Command {
    let mut command = Command::new("podman");
    // Instead of the host's and the user's settings.
    command
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
        .env_remove("CONTAINER_HOST")
        .env_remove("CONTAINER_CONNECTION")
        .stdin(Stdio::null());
    command
}

fn spawn(folder: &Path) -> Child {
    podman(folder)
        // Of a container that took too much memory it leaves an empty file `oom` where it was started.
        .current_dir(folder)
        .args(["system", "service", "--time=0"])
        .arg(format!("unix://{}", folder.join("socket").display()))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Containers and their mounts are not its own and outlive it.
        drop(self.command(&["rm", "--all", "--force", "--time=0"]).output());
        drop(Command::new("kill").arg(self.service.id().to_string()).status());
        drop(self.service.wait());
    }
}

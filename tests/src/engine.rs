//! A container engine of our own, with its data below a folder of the test's and no network: nothing of the host's is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A cold machine takes some seconds.
const READY_MAX: Duration = Duration::from_secs(60);

/// Docker's engine.
#[derive(Debug)]
pub struct Engine {
    daemon: Child,
    folder: PathBuf,
    room_mib: Option<u32>,
    /// What runs containers, where that is a process of its own, as on installed systems.
    containerd: Option<Child>,
    options: &'static [&'static str],
}

impl Engine {
    /// Starts one; with `room`, its data is on a file system of that many MiB.
    ///
    /// # Panics
    /// When it does not run here.
    #[must_use]
    pub fn start(folder: &Path, room_mib: Option<u32>) -> Self {
        fs::create_dir_all(folder.join("data")).unwrap();
        let daemon = spawn(folder, room_mib, false, &[]);
        let mut engine = Self { daemon, folder: folder.to_owned(), room_mib, containerd: None, options: &[] };
        engine.wait();
        engine
    }

    /// One that can be killed alone: what runs its containers is not its child.
    ///
    /// # Panics
    /// When it does not run here.
    #[must_use]
    pub fn start_alone(folder: &Path, options: &'static [&'static str]) -> Self {
        fs::create_dir_all(folder.join("data")).unwrap();
        let containerd = Some(spawn_containerd(folder));
        let daemon = spawn(folder, None, true, options);
        let mut engine = Self { daemon, folder: folder.to_owned(), room_mib: None, containerd, options };
        engine.wait();
        engine
    }

    /// Kills the engine, and only it, and starts it again.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn kill_and_start(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        fs::remove_file(self.folder.join("pid")).unwrap();
        self.daemon = spawn(&self.folder, self.room_mib, self.containerd.is_some(), self.options);
        self.wait();
    }

    fn wait(&mut self) {
        let end = Instant::now() + READY_MAX;
        while !self.command(&["info"]).output().is_ok_and(|output| output.status.success()) {
            let ended = self.daemon.try_wait().unwrap().is_some();
            if ended || Instant::now() > end {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("`dockerd` does not run here:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// As `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    /// Its own client.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host()).args(arguments);
        command
    }

    /// What a command of its client prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output =
            self.command(arguments).output().expect("docker is missing: install the package `docker.io`");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

fn spawn_containerd(folder: &Path) -> Child {
    let at = |name: &str| folder.join("containerd").join(name).display().to_string();
    fs::create_dir_all(folder.join("containerd")).unwrap();
    // Only kubernetes wants that plugin, which brings networks of its own.
    let settings = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{}\"\n",
        at("root"),
        at("state"),
        at("socket")
    );
    fs::write(at("settings.toml"), settings).unwrap();
    let started = Command::new("containerd")
        .args(["--config", &at("settings.toml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(at("log")).unwrap())
        .spawn()
        .expect("containerd is missing: install the package `containerd`");
    let end = Instant::now() + READY_MAX;
    while !Path::new(&at("socket")).exists() {
        assert!(Instant::now() < end, "containerd: {}", fs::read_to_string(at("log")).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    }
    started
}

fn spawn(folder: &Path, room_mib: Option<u32>, containerd: bool, options: &[&str]) -> Child {
    let mut daemon = match room_mib {
        None => Command::new("dockerd"),
        Some(mib) => {
            let mut command = Command::new("unshare");
            let script = format!("mount -t tmpfs -o size={mib}m engine \"$0\" && exec dockerd \"$@\"");
            command.args(["--mount", "sh", "-c", &script]).arg(folder.join("data"));
            command
        }
    };
    daemon
        .arg("--data-root")
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("exec"))
        .arg("--pidfile")
        .arg(folder.join("pid"))
        .arg("--host")
        .arg(format!("unix://{}", folder.join("socket").display()))
        // What it would otherwise put onto the file systems of tests is not its to choose.
        .args(["--bridge", "none", "--iptables=false", "--storage-driver", "vfs"])
        .args(containerd.then(|| format!("--containerd={}", folder.join("containerd/socket").display())))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).unwrap());
    daemon.spawn().expect("dockerd is missing: install the package `docker.io`")
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Its own containerd and containers end with it.
        drop(Command::new("kill").arg(self.daemon.id().to_string()).status());
        drop(self.daemon.wait());
        if let Some(containerd) = &mut self.containerd {
            drop(Command::new("kill").arg(containerd.id().to_string()).status());
            drop(containerd.wait());
        }
    }
}

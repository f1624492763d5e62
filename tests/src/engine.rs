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
    socket: PathBuf,
}

impl Engine {
    /// Starts one; with `room`, its data is on a file system of that many MiB.
    ///
    /// # Panics
    /// When it does not run here.
    #[must_use]
    pub fn start(folder: &Path, room_mib: Option<u32>) -> Self {
        fs::create_dir_all(folder.join("data")).unwrap();
        let socket = folder.join("socket");
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
            .arg(format!("unix://{}", socket.display()))
            // What it would otherwise put onto the file systems of tests is not its to choose.
            .args(["--bridge", "none", "--iptables=false", "--storage-driver", "vfs"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap());
        let daemon = daemon.spawn().expect("dockerd is missing: install the package `docker.io`");
        let mut engine = Self { daemon, socket };
        let end = Instant::now() + READY_MAX;
        while !engine.command(&["info"]).output().is_ok_and(|output| output.status.success()) {
            let ended = engine.daemon.try_wait().unwrap().is_some();
            if ended || Instant::now() > end {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("`dockerd` does not run here:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        engine
    }

    /// As `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
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

impl Drop for Engine {
    fn drop(&mut self) {
        // Its own containerd and containers end with it.
        drop(Command::new("kill").arg(self.daemon.id().to_string()).status());
        drop(self.daemon.wait());
    }
}

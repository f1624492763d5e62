//! A docker engine of our own, with its data below a folder of ours and no network: nothing of the host's docker is touched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;

const READY_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Docker {
    daemon: Child,
    socket: PathBuf,
}

impl Docker {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("socket");
        let log = std::fs::File::create(folder.join("log"))?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .args(["--bridge", "none", "--iptables=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start `dockerd` (the package `docker.io` has it)")?;
        let mut docker = Self { daemon, socket };
        let end = Instant::now() + READY_MAX;
        while !sh::succeeds(&mut docker.command(&["info"])) {
            if docker.daemon.try_wait()?.is_some() || Instant::now() > end {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("`dockerd` does not run here: {}", log.lines().last().unwrap_or("it said nothing"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(docker)
    }

    /// What `DOCKER_HOST` is to be.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(args);
        command
    }

    /// A folder as an image.
    pub(crate) fn import(&self, folder: &Path, name: &str) -> Result<()> {
        let mut tar =
            Command::new("tar").arg("-C").arg(folder).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
        let stream = tar.stdout.take().context("tar has no output")?;
        let imported = self.command(&["import", "-", name]).stdin(stream).stdout(Stdio::null()).status()?;
        let packed = tar.wait()?;
        anyhow::ensure!(imported.success() && packed.success(), "the tree cannot be imported as an image");
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Its own shims and containers end with it.
        drop(Command::new("kill").arg(self.daemon.id().to_string()).status());
        drop(self.daemon.wait());
    }
}

//! A trial in a QEMU guest with Debian's kernel: a disk with the program and a tool of ours, a script that runs there, and
//! what it says. For what this machine's own kernel does not have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::crash::guest::{self, Machine};
use crate::{build, dist, setup, sh};

/// The first part, in memory, goes on to the disk: the sandbox wants a root that can be left, which an initramfs cannot. `FURNISH` brings
/// the programs there, `FIRST` is what goes on.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
for module in MODULES; do busybox insmod /modules/$module.ko; done
busybox mount -t ext4 /dev/vda /disk || echo "guest: no disk"
FURNISH
busybox mkdir -p /disk/proc /disk/sys /disk/dev /disk/tmp /disk/run
for folder in proc sys dev; do busybox mount --move /$folder /disk/$folder; done
exec busybox switch_root /disk FIRST
"#;
const FURNISH: &str =
    "for folder in bin lib lib64 usr; do busybox test -e /$folder && busybox cp -a /$folder /disk/; done";

/// How the second part, on the disk, begins; `/work` is the folder of the recipes.
const BEGIN: &str = "export PATH=/engine:/bin HATCHWAY_DATA_DIR=/data HOME=/home XDG_CACHE_HOME=/cache LC_ALL=C.UTF-8\n\
                     busybox mount -t cgroup2 none /sys/fs/cgroup\nbusybox date -s 2025-01-01 > /dev/null\ncd /work\n";
const END: &str = "busybox sync\necho \"guest: end\"\nbusybox poweroff -f\n";

/// The same as a service: the kernel and systemd are not to speak in between.
const SERVICE_BEGIN: &str = "exec > /dev/ttyS0 2>&1\nexport HOME=/root LC_ALL=C.UTF-8\ndmesg --console-off\n";
const SERVICE_END: &str = "\necho \"guest: end\"\n";
const SERVICE: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/bash /trial.sh\n";
/// In emulation, on a machine that does something else as well, the daemon is silent for ten seconds although it is well.
const SLOW: &str = "[Service]\nWatchdogSec=120\n";
/// What would wait for something, or write to the console; the daemon is started by the script.
const MASKED: [&str; 4] = [
    "getty.target",
    "serial-getty@ttyS0.service",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
];

pub(crate) struct Trial {
    /// Of the verb.
    pub(crate) name: &'static str,
    /// What runs in the guest: a line that begins with `guest: ` is an answer.
    pub(crate) script: &'static str,
    /// How long the guest may take in all.
    pub(crate) patience: Duration,
    /// Of the disk, as `truncate` reads it.
    pub(crate) size: &'static str,
    pub(crate) first: First,
}

/// What runs the script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Busybox, which is the first process: nothing else is there.
    Script,
    /// Systemd, as it starts a Debian of this machine's suite, with the service of the daemon as the package has it.
    Systemd,
}

/// Where the disk's files are gathered before the guest starts.
pub(crate) struct Bench<'a> {
    program: &'a Path,
    /// A folder for what does not go onto the disk.
    pub(crate) folder: &'a Path,
    pub(crate) disk: PathBuf,
}

/// The answers, looked at one by one.
pub(crate) struct Answers {
    said: Vec<String>,
    /// What is no answer: shown where something was wrong.
    beside: Vec<String>,
    wrong: Vec<String>,
}

impl Trial {
    /// Builds what is needed, lets `furnish` fill the disk, and gives what the guest said.
    pub(crate) fn run(&self, yes: bool, furnish: impl FnOnce(&Bench<'_>) -> Result<()>) -> Result<Answers> {
        setup::setup(yes)?;
        guest::qemu()?;
        let program = build::build(false)?;
        let scratch = sh::Scratch::new(&format!("hatchway-{}", self.name))?;
        let bench = Bench { program: &program, folder: &scratch.path, disk: scratch.path.join("disk") };
        if self.first == First::Systemd {
            ensure!(
                sh::is_root()?,
                "a Debian is made as root\nhint: run `cargo xtask {}` as root",
                self.name
            );
            dist::debian(&bench.disk, None)?;
        }
        for part in ["work", "home", "cache", "etc"] {
            fs::create_dir_all(bench.disk.join(part))?;
        }
        furnish(&bench)?;
        let (begin, end) = match self.first {
            First::Script => (BEGIN, END),
            First::Systemd => (SERVICE_BEGIN, SERVICE_END),
        };
        fs::write(bench.disk.join("trial.sh"), [begin, self.script, end].concat())?;
        if self.first == First::Systemd {
            bench.install()?;
        }
        self.follow(&self.machine(&bench)?)
    }

    fn machine(&self, bench: &Bench<'_>) -> Result<Machine> {
        let Bench { program, folder, disk } = bench;
        let kernel = guest::kernel(program, folder)?;
        let busybox = guest::busybox(program, folder)?;
        let (furnish, first) = match self.first {
            First::Script => (FURNISH, "/bin/busybox sh /trial.sh"),
            First::Systemd => ("", "/lib/systemd/systemd"),
        };
        let init = INIT.replace("FURNISH", furnish).replace("FIRST", first);
        guest::make_initramfs(program, folder, (&kernel, &busybox), &init, &["overlay"])?;
        let image = folder.join("disk.img");
        sh::run(Command::new("truncate").args(["-s", self.size]).arg(&image))?;
        sh::run(Command::new("/sbin/mkfs.ext4").args(["-q", "-d"]).arg(disk).arg(&image))?;
        Ok(Machine { kernel: guest::image(&kernel)?, initramfs: folder.join("initramfs"), disk: image })
    }

    /// Everything the guest said, up to its end; what is no answer is shown where the end does not come.
    fn follow(&self, machine: &Machine) -> Result<Answers> {
        let (mut child, lines) = machine.start()?;
        let end = Instant::now() + self.patience;
        let mut said = Vec::new();
        let ended = loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "guest: end" => break true,
                Ok(line) => {
                    if let Some(answer) = line.strip_prefix("guest: ") {
                        println!("{}: {answer}", self.name);
                    }
                    said.push(line);
                }
                Err(_) => break false,
            }
        };
        child.kill().context("cannot end QEMU")?;
        child.wait().context("cannot wait for QEMU")?;
        let tail = said[said.len().saturating_sub(60)..].join("\n");
        ensure!(ended, "the guest fell silent; its last lines:\n{tail}");
        let (said, beside): (Vec<_>, Vec<_>) = said.into_iter().partition(|line| line.starts_with("guest: "));
        let said: Vec<_> = said.iter().map(|line| line["guest: ".len()..].to_owned()).collect();
        Ok(Answers { said, beside, wrong: Vec::new() })
    }
}

impl Bench<'_> {
    /// Puts everything where a package has it, and the script among the services.
    fn install(&self) -> Result<()> {
        let own = |path: &str| self.disk.join(path);
        for folder in ["usr/libexec/hatchway", "var/lib", "etc/hatchway"] {
            fs::create_dir_all(own(folder))?;
        }
        let shim = self.program.with_file_name("hatchway-shim");
        let service = sh::workspace()?.join("packaging/hatchway.service");
        for (from, to) in [
            (self.program, "usr/bin/hatchway"),
            (&shim, "usr/libexec/hatchway/hatchway-shim"),
            (&service, "etc/systemd/system/hatchway.service"),
        ] {
            fs::copy(from, own(to)).with_context(|| format!("cannot copy `{}`", from.display()))?;
        }
        for (from, to) in [("data", "var/lib/hatchway"), ("work/recipes", "etc/hatchway/recipes")] {
            fs::rename(own(from), own(to))?;
        }
        let units = own("etc/systemd/system");
        fs::write(units.join("trial.service"), SERVICE)?;
        fs::create_dir_all(units.join("hatchway.service.d"))?;
        fs::write(units.join("hatchway.service.d/slow.conf"), SLOW)?;
        let wanted = units.join("multi-user.target.wants");
        fs::create_dir_all(&wanted)?;
        std::os::unix::fs::symlink("../trial.service", wanted.join("trial.service"))?;
        MASKED.iter().try_for_each(|name| {
            let link = units.join(name);
            sh::run(Command::new("ln").args(["-sf", "/dev/null"]).arg(link))
        })
    }

    pub(crate) fn hatchway(&self) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(self.disk.join("work")).env("HATCHWAY_DATA_DIR", self.disk.join("data"));
        command
    }

    /// A package of these files, each with its mode, drafted as a recipe; gives where the recipe is.
    pub(crate) fn recipe(&self, tool: &str, depends: &str, files: &[(&str, &[u8], u32)]) -> Result<PathBuf> {
        let root = self.folder.join("package");
        let control = format!(
            "Package: {tool}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n\
             Depends: {depends}\nDescription: a tool for a trial\n"
        );
        for (name, bytes, mode) in files.iter().chain(&[("DEBIAN/control", control.as_bytes(), 0o644)]) {
            let path = root.join(name);
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
        }
        let deb = self.folder.join(format!("{tool}_1.0_amd64.deb"));
        sh::capture(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&root).arg(&deb))?;
        sh::run(self.hatchway().arg("new").arg(&deb).args(["--name", tool]))?;
        Ok(self.disk.join("work/recipes").join(tool).join("recipe.toml"))
    }

    pub(crate) fn build(&self, tool: &str) -> Result<()> {
        ["lock", "build"].iter().try_for_each(|verb| sh::run(self.hatchway().args([verb, tool])))
    }
}

impl Answers {
    pub(crate) fn all(&self) -> &[String] {
        &self.said
    }

    pub(crate) fn want(&mut self, line: &str) {
        if !self.said.iter().any(|other| other == line) {
            self.wrong.push(format!("the guest did not say `{line}`"));
        }
    }

    pub(crate) fn blame(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Says `good` if nothing was wrong.
    pub(crate) fn end(self, good: &str) -> Result<()> {
        if self.wrong.is_empty() {
            println!("{good}");
            return Ok(());
        }
        bail!("{}\n{}", self.beside.join("\n"), self.wrong.join("\n"))
    }
}

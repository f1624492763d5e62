//! A real systemd as the first process of namespaces of its own: what runs under it, restarts and is watched by it is as on a
//! machine that it has started, and the machine below does not notice. It starts in a fifth of a second.
//!
//! A *keeper*, a shell, makes everything and waits at a pipe. When that is closed, by the harness or because the test's process is
//! gone, it kills systemd, and with it the kernel ends everything inside; mounts go with their namespace, and the keeper removes
//! the control group.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bench::{Outcome, is_root};

/// A busy machine takes some seconds.
const READY_MAX: Duration = Duration::from_secs(60);

/// Units that are not started, with the reason. What Debian's own units know by themselves about containers is not repeated here.
const MASKED: [(&str, &[&str]); 6] = [
    (
        "they would load into this machine's kernel, or set it",
        &[
            "modprobe@.service",
            "systemd-modules-load.service",
            "kmod-static-nodes.service",
            "systemd-sysctl.service",
            "systemd-binfmt.service",
            "proc-sys-fs-binfmt_misc.automount",
            "apparmor.service",
            "systemd-random-seed.service",
        ],
    ),
    (
        "they show this machine's kernel, not the one inside",
        &[
            "sys-kernel-debug.mount",
            "sys-kernel-tracing.mount",
            "sys-kernel-config.mount",
            "sys-fs-fuse-connections.mount",
            "dev-hugepages.mount",
            "systemd-journald-audit.socket",
        ],
    ),
    (
        "they work on this machine's disks, clock and saved crashes",
        &[
            "systemd-remount-fs.service",
            "systemd-pstore.service",
            "systemd-timesyncd.service",
            "fstrim.timer",
            "e2scrub_all.timer",
            "e2scrub_reap.service",
        ],
    ),
    (
        "they wait for networks, devices or terminals that never come",
        &[
            "systemd-udev-settle.service",
            "systemd-networkd-wait-online.service",
            "NetworkManager.service",
            "NetworkManager-wait-online.service",
            "networking.service",
            "getty.target",
            "console-getty.service",
        ],
    ),
    (
        "their engines take long, and a look at their socket would start them; a test has engines of its own",
        &["docker.socket", "docker.service", "containerd.service", "podman.socket", "podman-restart.service"],
    ),
    (
        "what else this machine has installed is no part of a test",
        &[
            "apt-daily.timer",
            "apt-daily-upgrade.timer",
            "man-db.timer",
            "dpkg-db-backup.timer",
            "cron.service",
            "ssh.service",
            "postgresql.service",
            "unattended-upgrades.service",
            "rc-local.service",
        ],
    ),
];

/// Nodes that are there inside, where this machine has them.
const NODES: &str = "null zero full random urandom tty fuse kvm net/tun";

/// Makes room in memory and a control group, starts the rest, and cleans up after it.
const KEEPER: &str = r#"set -eu
folder=$1 group=groups/$2$$
mount --make-rprivate /
mount -t tmpfs -o mode=0755 hatchway "$folder"
cd "$folder"
mkdir upper work root groups
mount -t cgroup2 none groups
for controller in cpu io memory pids; do
    echo "+$controller" > groups/cgroup.subtree_control 2> /dev/null || true
done
mkdir "$group"
unshare --fork --pid --mount --uts --ipc --net --kill-child sh -c "$BOOT" boot "$group" < /dev/null &
child=$!
until test -s pid; do kill -0 $child || break; sleep 0.02; done
cat pid 2> /dev/null || echo
read -r end || true
if test -s pid; then kill -KILL "$(cat pid)" || true; fi
wait $child || true
# What is gone may still be counted for a moment.
for try in 1 2 3 4 5 6 7 8 9; do
    find "$group" -depth -type d -exec rmdir {} + && break
    sleep 0.1
done
# A test that was killed does not remove its folder.
cd /
umount -l "$folder"
rm -f "$folder/log"
rmdir "$folder"
"#;

/// The first process inside, until it becomes systemd: a root as systemd wants it in containers. `/sys` cannot be written, so that
/// nothing in there changes this machine. `/proc/sys` could be, since with something mounted over a part of `/proc` the kernel refuses
/// sandboxes that are user namespaces a `/proc` of their own.
const BOOT: &str = r#"set -eu
read -r pid rest < /proc/self/stat
echo $$ > "$1/cgroup.procs"
mount -t overlay -o "lowerdir=$LOWER,upperdir=upper,workdir=work" hatchway root
cd root
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=0755,nosuid dev dev
for node in $NODES; do
    if test -e "/dev/$node"; then
        mkdir -p "$(dirname "dev/$node")"
        : > "dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    fi
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
: > ../console
: > dev/console
mount --bind ../console dev/console
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
: > etc/fstab
echo hatchway-test > etc/hostname
hostname hatchway-test
echo 0123456789abcdef0123456789abcdef > etc/machine-id
mkdir -p etc/systemd/system
for unit in $MASKED; do ln -sf /dev/null "etc/systemd/system/$unit"; done
ip link set lo up
mkdir .old
echo "$pid" > ../pid.new
mv ../pid.new ../pid
pivot_root . .old
exec unshare --cgroup sh -c '
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
    umount -l /.old
    rmdir /.old
    exec env -i container=hatchway PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --unit=basic.target' < /dev/null > /dev/console 2>&1
"#;

/// How a visitor comes into a group of its own inside. Groups are entered before the namespace of groups: whoever is in that has no way
/// from outside of it to its inside on machines whose own systemd delegates by namespace.
const VISIT: &str = "mkdir -p /sys/fs/cgroup/visitors && echo $$ > /sys/fs/cgroup/visitors/cgroup.procs && \
                     exec nsenter --cgroup=/proc/1/ns/cgroup -- \"$@\"";

/// What the names of its control groups begin with.
const GROUP: &str = "hatchway-systemd-";

/// A systemd that runs. Ends with it: all processes, mounts, the control group.
#[derive(Debug)]
pub struct Systemd {
    keeper: Child,
    /// Closing it ends everything.
    life: Option<ChildStdin>,
    /// The first process, as this machine counts.
    pid: u32,
    folder: TempDir,
}

impl Systemd {
    /// Starts one over this machine's files, of which it sees a copy that it may change.
    ///
    /// # Panics
    /// Where it cannot be started, with the reason.
    #[must_use]
    pub fn start() -> Self {
        Self::start_over(Path::new("/"))
    }

    /// Starts one over the files of another system, which must have `systemd`, `dbus` and `util-linux`.
    ///
    /// # Panics
    /// Where it cannot be started, with the reason.
    #[must_use]
    pub fn start_over(root: &Path) -> Self {
        assert!(is_root(), "run this test as root: systemd is started in namespaces of its own");
        for (path, package) in [("lib/systemd/systemd", "systemd"), ("usr/bin/dbus-daemon", "dbus-daemon")] {
            assert!(
                root.join(path).exists(),
                "`{}` is missing: install the package `{package}`",
                root.join(path).display()
            );
        }
        let folder = tempfile::Builder::new().prefix("hatchway-systemd-").tempdir().unwrap();
        let mut keeper = spawn(folder.path(), root);
        let life = keeper.stdin.take();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut started = Self { keeper, life, pid: line.trim().parse().unwrap_or(0), folder };
        started.wait();
        started
    }

    /// Until it has started what it starts, and the bus is there.
    fn wait(&mut self) {
        let end = Instant::now() + READY_MAX;
        loop {
            let state = if self.pid == 0 { String::new() } else { self.state() };
            if ["running", "degraded"].contains(&state.as_str()) {
                break;
            }
            let ended = self.pid == 0 || !Path::new(&format!("/proc/{}", self.pid)).exists();
            assert!(!ended && Instant::now() < end, "systemd does not run here ({state}):\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        // It is also started by whoever speaks to its socket, but then the first one waits for it.
        self.says(&["systemctl", "start", "dbus.service"]);
    }

    fn state(&self) -> String {
        self.run(&["systemctl", "is-system-running"]).stdout.trim().to_owned()
    }

    /// What the keeper and systemd have said, for messages.
    fn log(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let mut text = read(log_of(self.folder.path()));
        if self.pid != 0 {
            text += &read(PathBuf::from(format!("/proc/{}/root/dev/console", self.pid)));
            text += &self.run(&["systemctl", "--no-pager", "list-jobs"]).stdout;
        }
        text
    }

    /// A program inside, as root, with a plain environment. It is in no unit, but ends with the rest.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--", "sh", "-c", VISIT, "visit"])
            .args(words)
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8")])
            .stdin(Stdio::null());
        command
    }

    /// What a command inside gave.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Outcome {
        outcome(&self.command(words).output().unwrap())
    }

    /// What a command inside prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn says(&self, words: &[&str]) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.code, Some(0), "{words:?}: {outcome}");
        outcome.stdout.trim_end().to_owned()
    }

    /// One property of a unit, as `systemctl show` has it.
    ///
    /// # Panics
    /// When there is no such property.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.says(&["systemctl", "show", "--value", &format!("--property={name}"), unit])
    }

    /// Writes a file inside. It is written from there: a link on the way leads to where it leads inside.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let mode = format!("--mode={mode:o}");
        let mut command = self.command(&["install", "-D", &mode, "/dev/stdin", path]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Dropped with the statement, so that the other side sees the end.
        let written = child.stdin.take().unwrap().write_all(content.as_ref());
        let outcome = outcome(&child.wait_with_output().unwrap());
        assert!(written.is_ok() && outcome.code == Some(0), "cannot write `{path}`: {outcome}");
    }

    /// Copies a file of this machine's to a path inside.
    ///
    /// # Panics
    /// When it cannot be read or written.
    pub fn copy(&self, from: &Path, to: &str) {
        use std::os::unix::fs::PermissionsExt;
        let content = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.write(to, content, fs::metadata(from).unwrap().permissions().mode() & 0o7777);
    }

    /// The controllers of control groups of version 2 that systemd has here. A machine that has given them to version 1 has
    /// none of `memory`, `pids` and `cpu` left: then limits are accepted and do not hold, and a test of them must say so.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let listed = self.says(&["cat", "/sys/fs/cgroup/cgroup.controllers"]);
        listed.split_whitespace().map(str::to_owned).collect()
    }

    /// The first process, as this machine counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of its control group on this machine.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{GROUP}{}", self.keeper.id())
    }

    /// The folder on this machine that it is mounted in, in a namespace of its own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Beside what is mounted over the folder later.
fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn spawn(folder: &Path, root: &Path) -> Child {
    let masked: Vec<&str> = MASKED.iter().flat_map(|(_, units)| *units).copied().collect();
    Command::new("unshare")
        .args(["--mount", "sh", "-c", KEEPER, "keeper"])
        .arg(folder)
        .arg(GROUP)
        .env("BOOT", BOOT)
        .env("LOWER", root)
        .env("NODES", NODES)
        .env("MASKED", masked.join(" "))
        // A key that ends the tests must not end the keeper before it has cleaned up.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(log_of(folder)).unwrap())
        .spawn()
        .expect("unshare is missing: install the package `util-linux`")
}

fn outcome(output: &std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.life.take());
        drop(self.keeper.wait());
    }
}

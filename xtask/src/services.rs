//! `cargo xtask services`: systemd in a container, which takes an engine with control groups of version 2 and users of its own,
//! tried in a QEMU guest with Debian's kernel and Debian's docker.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::crash::guest::{self, Machine};
use crate::{build, setup, sh};

const TOOL: &str = "acme";
/// Boot, docker, loading an image and two runs in software emulation take five minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The engine's programs, as Debian's packages `docker.io`, `containerd` and `runc` install them.
const ENGINE: [&str; 4] =
    ["/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/sbin/runc"];
/// Who root of the containers is.
const FIRST: &str = "100000";
const DAEMON: &str = "#!/bin/sh\nid -u > /run/acmed/uid\numount -l /proc; ls /proc/1/fd > /run/acmed/seen 2>&1\n\
                      head -c 20 /proc/1/comm > /run/acmed/first; cat /proc/self/uid_map > /run/acmed/map\necho acmed is up\n\
                      trap 'echo acmed stops; exit 0' TERM\nwhile :; do sleep 0.2; done\n";
const UNIT: &str = "[Service]\nExecStart=/usr/sbin/acmed\nRuntimeDirectory=acmed\nRuntimeDirectoryMode=0755\nKillMode=mixed\n\
                    [Install]\nWantedBy=multi-user.target\n";
/// The tool: what its services have left, who it is, and what it keeps.
const INSIDE: &str = "until test -s /run/acmed/map; do sleep 0.1; done; echo \"service uid $(cat /run/acmed/uid)\"; \
                      echo map $(cat /run/acmed/map); \
                      echo first $(cat /run/acmed/first), $(wc -l < /run/acmed/seen) line; grep -o 'Permission denied' /run/acmed/seen; id -u; grep -E -e ^CapEff -e ^NoNewPrivs -e ^Seccomp: /proc/self/status; \
                      echo x >> /var/lib/acme/runs; wc -l < /var/lib/acme/runs; exit 7";

/// The first part, in memory, as for `cargo xtask limits`.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
for module in MODULES; do busybox insmod /modules/$module.ko; done
busybox mount -t ext4 /dev/vda /disk || echo "guest: no disk"
for folder in bin lib lib64 usr; do busybox test -e /$folder && busybox cp -a /$folder /disk/; done
busybox mkdir -p /disk/proc /disk/sys /disk/dev /disk/tmp /disk/run
for folder in proc sys dev; do busybox mount --move /$folder /disk/$folder; done
exec busybox switch_root /disk /bin/busybox sh /services.sh
"#;

/// The second part, on the disk.
const SCRIPT: &str = r#"export PATH=/engine:/bin HATCHWAY_DATA_DIR=/data HOME=/home XDG_CACHE_HOME=/cache LC_ALL=C.UTF-8
busybox ln -sf /proc/self/fd /dev/fd
busybox mkdir -p /dev/pts /dev/shm /var/run
busybox mount -t tmpfs none /tmp
busybox mount -t tmpfs none /dev/shm
busybox mount -t cgroup2 none /sys/fs/cgroup
busybox ifconfig lo up
busybox date -s 2025-01-01 > /dev/null
cd /work
engine=none; busybox touch /tmp/dockerd
# It gives up on its own containerd after fifteen seconds, which a busy machine takes: then once more.
n=0
until busybox test $n -ge 300 || busybox grep -q "API listen" /tmp/dockerd; do
    busybox kill -0 $engine 2> /dev/null || {
        dockerd --userns-remap=remap --bridge=none --iptables=false --storage-driver=overlay2 >> /tmp/dockerd 2>&1 & engine=$!
    }
    busybox sleep 1; n=$((n + 1))
done
for round in one two; do
    hatchway run -q acme --offline --program /usr/bin/dash -- -c "$(busybox cat /inside)" > /tmp/out 2> /tmp/err < /dev/null
    echo "guest: $round ended $?"
    busybox sed "s/^/guest: $round said /" /tmp/out
    busybox sed "s/^/guest: $round complained /" /tmp/err
done
hatchway run -q acme --offline --rung fhs --program /usr/bin/true 2>&1 < /dev/null | busybox sed "s/^/guest: fhs said /"
echo "guest: state is $(busybox stat -c %u /data/state/acme/* | busybox tail -n 1)"
busybox tail -n 30 /tmp/dockerd | busybox sed "s/^/dockerd: /"
busybox sync
echo "guest: end"
busybox poweroff -f
"#;

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    guest::qemu()?;
    let program = build::build(false)?;
    let scratch = sh::Scratch::new("hatchway-services")?;
    let machine = prepare(&program, &scratch.path)?;
    judge(&follow(&machine)?)
}

fn prepare(program: &Path, folder: &Path) -> Result<Machine> {
    let kernel = guest::kernel(program, folder)?;
    let busybox = guest::busybox(program, folder)?;
    make_disk(program, folder)?;
    guest::make_initramfs(program, folder, (&kernel, &busybox), INIT, &["overlay"])?;
    Ok(Machine {
        kernel: guest::image(&kernel)?,
        initramfs: folder.join("initramfs"),
        disk: folder.join("disk.img"),
    })
}

/// A tool with a service, locked and built here, and the engine with the libraries that it is linked with.
fn make_disk(program: &Path, folder: &Path) -> Result<()> {
    let disk = folder.join("disk");
    let work = disk.join("work");
    fs::create_dir_all(&work)?;
    let deb = package(folder)?;
    let hatchway = || {
        let mut command = Command::new(program);
        command.current_dir(&work).env("HATCHWAY_DATA_DIR", disk.join("data"));
        command
    };
    sh::run(hatchway().arg("new").arg(&deb).args(["--name", TOOL]))?;
    let path = work.join("recipes").join(TOOL).join("recipe.toml");
    let recipe = fs::read_to_string(&path)?;
    let wanted = "rung = \"container\"\nservices = [\"acmed.service\"]\nstate = [\"/var/lib/acme\"]\n";
    ensure!(recipe.contains("program = \"/usr/bin/acme\"\n"), "the drafted recipe has no program:\n{recipe}");
    fs::write(&path, recipe.replace("program = ", &format!("{wanted}program = ")))?;
    for verb in ["lock", "build"] {
        sh::run(hatchway().args([verb, TOOL]))?;
    }
    engine(&disk)?;
    let texts = [
        ("services.sh", SCRIPT.to_owned()),
        ("inside", INSIDE.to_owned()),
        ("etc/passwd", "root:x:0:0::/home:/bin/sh\nremap:x:100:100::/home:/bin/false\n".to_owned()),
        ("etc/group", "root:x:0:\nremap:x:100:\n".to_owned()),
        ("etc/subuid", format!("remap:{FIRST}:65536\n")),
        ("etc/subgid", format!("remap:{FIRST}:65536\n")),
    ];
    for empty in ["home", "cache", "etc"] {
        fs::create_dir_all(disk.join(empty))?;
    }
    for (name, text) in texts {
        fs::write(disk.join(name), text)?;
    }
    let image = folder.join("disk.img");
    sh::run(Command::new("truncate").args(["-s", "4G"]).arg(&image))?;
    sh::run(Command::new("/sbin/mkfs.ext4").args(["-q", "-d"]).arg(&disk).arg(&image))
}

fn engine(disk: &Path) -> Result<()> {
    let folder = disk.join("engine");
    fs::create_dir_all(&folder)?;
    for path in ENGINE.map(Path::new) {
        ensure!(path.exists(), "`{}` is missing\nhint: `apt-get install docker.io`", path.display());
        let name = path.file_name().context("a program has a name")?;
        fs::copy(path, folder.join(name))?;
        // What is linked with nothing is told so, and has no lines with paths.
        let listed = sh::capture(Command::new("ldd").arg(path)).unwrap_or_default();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
            let target = disk.join(library.strip_prefix("/")?);
            fs::create_dir_all(target.parent().context("a library has a folder")?)?;
            fs::copy(library, &target).with_context(|| format!("cannot copy `{}`", library.display()))?;
        }
    }
    Ok(())
}

fn package(folder: &Path) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let root = folder.join("package");
    let control = format!(
        "Package: {TOOL}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n\
         Depends: dash, coreutils, grep\nDescription: needs a service beside it\n"
    );
    let files = [
        ("DEBIAN/control", control.as_str(), 0o644),
        ("usr/bin/acme", "#!/bin/sh\nexit 0\n", 0o755),
        ("usr/sbin/acmed", DAEMON, 0o755),
        ("lib/systemd/system/acmed.service", UNIT, 0o644),
    ];
    for (name, text, mode) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let deb = folder.join("acme_1.0_amd64.deb");
    sh::capture(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&root).arg(&deb))?;
    Ok(deb)
}

/// Everything the guest said, up to its end.
fn follow(machine: &Machine) -> Result<Vec<String>> {
    let (mut child, lines) = machine.start()?;
    let end = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    let ended = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line == "guest: end" => break true,
            Ok(line) => said.push(line),
            Err(_) => break false,
        }
    };
    child.kill().context("cannot end QEMU")?;
    child.wait().context("cannot wait for QEMU")?;
    let tail = said[said.len().saturating_sub(60)..].join("\n");
    ensure!(ended, "the guest fell silent; its last lines:\n{tail}");
    said.iter().filter(|line| line.starts_with("dockerd: ")).for_each(|line| println!("services: {line}"));
    Ok(said.into_iter().filter_map(|line| line.strip_prefix("guest: ").map(str::to_owned)).collect())
}

fn judge(said: &[String]) -> Result<()> {
    said.iter().for_each(|line| println!("services: {line}"));
    let has = |line: &str| said.iter().any(|other| other == line);
    let mut wrong = Vec::new();
    for round in ["one", "two"] {
        for line in [
            "ended 7",
            "said service uid 0",
            "said map 0 100000 65536",
            // Below its own `/proc` a service finds the container's, and in it the shim, which is closed to it.
            "said first hatchway-shim, 1 line",
            "said Permission denied",
            "said 1000",
            "said CapEff:\t0000000000000000",
            "said NoNewPrivs:\t1",
            "said Seccomp:\t2",
            "complained acmed is up",
            "complained acmed stops",
        ] {
            if !has(&format!("{round} {line}")) {
                wrong.push(format!("the guest did not say `{round} {line}`"));
            }
        }
    }
    for line in ["one said 1", "two said 2", "state is 101000"] {
        if !has(line) {
            wrong.push(format!("the guest did not say `{line}`"));
        }
    }
    if wrong.is_empty() {
        println!("services: systemd ran in a container, root in it was nobody outside, and state was kept");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

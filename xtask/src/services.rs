//! `cargo xtask services`: systemd in a container, which takes an engine with control groups of version 2 and users of its own,
//! tried in a QEMU guest with Debian's kernel and Debian's docker.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::sh;
use crate::trial::{Answers, Bench, First, Trial};

const TOOL: &str = "acme";
/// Boot, docker, loading an image and two runs in software emulation take five minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The engine's programs, as Debian's packages `docker.io`, `containerd` and `runc` install them.
const ENGINE: [&str; 4] =
    ["/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/sbin/runc"];
/// Who root of the containers is.
const FIRST: &str = "100000";
/// The service, which looks for a way out: below its own `/proc` it finds the container's, and in it the shim. Its own first
/// descriptor shows that the look is one.
const DAEMON: &str = r#"#!/bin/sh
id -u > /run/acmed/uid
umount -l /proc
look() { if "$@" > /dev/null 2>> /run/acmed/refused; then echo "${*}: yes"; else echo "${*}: no"; fi; }
{ read -r name < /proc/1/comm; echo "first $name"
  for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
      test -L /proc/1/fd/$fd && look readlink /proc/1/fd/$fd
      test -L /proc/1/fd/$fd && look head -c 0 /proc/1/fd/$fd
  done
  for way in root/etc cwd/. exe environ mem maps ns/mnt; do look head -c 0 /proc/1/$way; done
  look readlink /proc/1/root; look nsenter --target 1 --mount true
  look readlink /proc/self/fd/0; look head -c 0 /proc/self/environ
  sed -n 's/.*: /refused: /p' /run/acmed/refused | sort -u
} > /run/acmed/seen 2>&1
cat /proc/self/uid_map > /run/acmed/map
echo acmed is up
trap 'echo acmed stops; exit 0' TERM
while :; do sleep 0.2; done
"#;
const UNIT: &str = "[Service]\nExecStart=/usr/sbin/acmed\nRuntimeDirectory=acmed\nRuntimeDirectoryMode=0755\nKillMode=mixed\n\
                    [Install]\nWantedBy=multi-user.target\n";
/// The tool: what its services have left, who it is, and what it keeps.
const INSIDE: &str = "until test -s /run/acmed/map; do sleep 0.1; done; echo \"service uid $(cat /run/acmed/uid)\"; \
                      echo map $(cat /run/acmed/map); \
                      sed 's/^/look: /' /run/acmed/seen; id -u; grep -E -e ^CapEff -e ^NoNewPrivs -e ^Seccomp: /proc/self/status; \
                      echo x >> /var/lib/acme/runs; wc -l < /var/lib/acme/runs; exit 7";

const SCRIPT: &str = r#"busybox ln -sf /proc/self/fd /dev/fd
busybox mkdir -p /dev/pts /dev/shm /var/run
busybox mount -t tmpfs none /tmp
busybox mount -t tmpfs none /dev/shm
busybox ifconfig lo up
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
# What keeps the services is killed under a tool that goes on.
hatchway run -q acme --offline --program /usr/bin/dash -- -c 'echo up; until test -e /var/lib/acme/go; do sleep 0.2; done; exit 5' > /tmp/out 2> /tmp/err < /dev/null & run=$!
n=0
until busybox test $n -ge 300 || busybox grep -q up /tmp/out; do busybox sleep 1; n=$((n + 1)); done
for folder in /proc/[0-9]*; do
    busybox grep -q -x hatchway-keeper $folder/comm 2> /dev/null && busybox kill -9 ${folder#/proc/} && echo "guest: keeper killed"
done
for folder in /data/state/acme/*; do busybox touch $folder/go; done
wait $run
echo "guest: without ended $?"
busybox sed "s/^/guest: without complained /" /tmp/err
hatchway run -q acme --offline --rung fhs --program /usr/bin/true 2>&1 < /dev/null | busybox sed "s/^/guest: fhs said /"
echo "guest: state is $(busybox stat -c %u /data/state/acme/* | busybox tail -n 1)"
busybox tail -n 30 /tmp/dockerd | busybox sed "s/^/dockerd: /"
"#;

const TRIAL: Trial =
    Trial { name: "services", script: SCRIPT, patience: PATIENCE, size: "4G", first: First::Script };

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    judge(TRIAL.run(yes, furnish)?)
}

/// A tool with a service, and the engine with the libraries that it is linked with.
fn furnish(bench: &Bench<'_>) -> Result<()> {
    let files: [(&str, &[u8], u32); 3] = [
        ("usr/bin/acme", b"#!/bin/sh\nexit 0\n", 0o755),
        ("usr/sbin/acmed", DAEMON.as_bytes(), 0o755),
        ("lib/systemd/system/acmed.service", UNIT.as_bytes(), 0o644),
    ];
    let path = bench.recipe(TOOL, "dash, coreutils, grep, sed, util-linux", &files)?;
    let recipe = fs::read_to_string(&path)?;
    let wanted = "rung = \"container\"\nservices = [\"acmed.service\"]\nstate = [\"/var/lib/acme\"]\n";
    ensure!(recipe.contains("program = \"/usr/bin/acme\"\n"), "the drafted recipe has no program:\n{recipe}");
    fs::write(&path, recipe.replace("program = ", &format!("{wanted}program = ")))?;
    bench.build(TOOL)?;
    engine(&bench.disk)?;
    let texts = [
        ("inside", INSIDE.to_owned()),
        ("etc/passwd", "root:x:0:0::/home:/bin/sh\nremap:x:100:100::/home:/bin/false\n".to_owned()),
        ("etc/group", "root:x:0:\nremap:x:100:\n".to_owned()),
        ("etc/subuid", format!("remap:{FIRST}:65536\n")),
        ("etc/subgid", format!("remap:{FIRST}:65536\n")),
    ];
    texts.iter().try_for_each(|(name, text)| Ok(fs::write(bench.disk.join(name), text)?))
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

fn judge(mut answers: Answers) -> Result<()> {
    for round in ["one", "two"] {
        for line in [
            "ended 7",
            "said service uid 0",
            "said map 0 100000 65536",
            "said look: first hatchway-shim",
            "said look: readlink /proc/1/fd/0: no",
            "said look: head -c 0 /proc/1/fd/0: no",
            "said look: nsenter --target 1 --mount true: no",
            "said look: refused: Permission denied",
            "said look: readlink /proc/self/fd/0: yes",
            "said look: head -c 0 /proc/self/environ: yes",
            "said 1000",
            "said CapEff:\t0000000000000000",
            "said NoNewPrivs:\t1",
            "said Seccomp:\t2",
            "complained acmed is up",
            "complained acmed stops",
        ] {
            answers.want(&format!("{round} {line}"));
        }
    }
    let lost = "what keeps the services of the tool was ended: what they print is lost from now on";
    answers.want("keeper killed");
    answers.want("without ended 5");
    answers.want(&format!("without complained warning: {lost}"));
    for line in ["one said 1", "two said 2", "state is 101000"] {
        answers.want(line);
    }
    let ways = answers.all().iter().filter(|line| line.contains("/proc/1/") && line.ends_with(": yes"));
    let open: Vec<_> = ways.cloned().collect();
    for line in open {
        answers.blame(format!("the shim is open to a service: `{line}`"));
    }
    answers.end("services: systemd ran in a container, root in it was nobody outside, the shim was closed to it, and state was kept")
}

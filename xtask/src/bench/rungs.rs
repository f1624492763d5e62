//! Starting `/bin/true` on each rung, and beside docker's own client with the same options.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::env::docker::Docker;
use super::{Bench, Launch, TOOL, build, machine, timed};
use crate::{acme, sh};

/// Rounds; each takes about a second.
const ROUNDS: usize = 31;
/// What `images/src/container.rs` asks of the engine, as options of `docker run`.
const OPTIONS: &str = "--rm --network none --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add KILL \
                       --cap-add SETGID --cap-add SETPCAP --cap-add SETUID --security-opt no-new-privileges:true \
                       --security-opt seccomp=unconfined --ipc private --cgroupns private --hostname acme --shm-size 64m \
                       --tmpfs /tmp:exec --tmpfs /var/tmp:exec --tmpfs /run:exec --sysctl net.ipv6.conf.all.disable_ipv6=0 \
                       --sysctl net.ipv6.conf.lo.disable_ipv6=0 --log-driver json-file --entrypoint /bin/true";

pub(super) fn measure() -> Result<String> {
    anyhow::ensure!(sh::is_root()?, "only root starts an engine of its own: run it as root");
    let bench = Bench { scratch: sh::Scratch::new("hatchway-bench")?, program: build::build(true)? };
    let deb = acme::build(&bench.scratch.path)?;
    let file = deb.to_str().context("the package's path is not UTF-8")?;
    for step in [&["new", file, "--name", TOOL][..], &["lock", TOOL], &["build", TOOL]] {
        bench.run(step)?;
    }
    let folder = bench.scratch.path.join("engine");
    std::fs::create_dir_all(&folder)?;
    let docker = Docker::start(&folder)?;
    let host = format!("unix://{}", folder.join("socket").display());
    let ours = |rung: &str| {
        let mut command = bench.command(&["run", TOOL, "--rung", rung, "--program", "/bin/true"]);
        command.env("DOCKER_HOST", &host);
        command
    };
    let first = timed(&mut ours("container"), Stdio::null())?;
    let image = sh::capture(&mut docker.command(&["images", "--quiet"]))?;
    let theirs = || -> Command {
        let mut command = docker.command(&["run"]);
        command.args(OPTIONS.split_whitespace()).arg(image.trim());
        command
    };
    let mut launches: Vec<Launch> =
        ["`hatchway run --rung container`", "`docker run`", "`hatchway run --rung fhs`"]
            .map(|name| Launch { name, times: Vec::new() })
            .into();
    // One round more than counts: the first one warms caches.
    for round in 0..=ROUNDS {
        for step in 0..launches.len() {
            let index = (round + step) % launches.len();
            let mut command = match index {
                0 => ours("container"),
                1 => theirs(),
                _ => ours("fhs"),
            };
            let took = timed(&mut command, Stdio::null())?;
            if round > 0 {
                launches[index].times.push(took);
            }
        }
    }
    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| text.push_str(&format!("| {what} | {value} |\n"));
    row("machine", machine()?);
    row("first run in a container, the image is loaded", format!("{:.2} s", first.as_secs_f64()));
    for launch in &launches {
        row(&format!("`true` by {}", launch.name), launch.describe()?);
    }
    for (over, under) in [(0, 1), (0, 2)] {
        let (over, under) = (&launches[over], &launches[under]);
        row(&format!("{} / {}, {ROUNDS} pairs", over.name, under.name), over.ratio(under)?);
    }
    Ok(text)
}

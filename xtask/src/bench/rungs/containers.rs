//! Starting `/bin/true` on the fhs and the container rung, and beside docker's own client with the same options.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::{Rows, Stage};
use crate::bench::{Launch, TOOL, timed};
use crate::sh;

/// Rounds; each takes about a second.
const ROUNDS: usize = 31;
/// What `images/src/container.rs` asks of the engine, as options of `docker run`.
const OPTIONS: &str = "--rm --network none --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add KILL \
                       --cap-add SETGID --cap-add SETPCAP --cap-add SETUID --security-opt no-new-privileges:true \
                       --security-opt seccomp=unconfined --ipc private --cgroupns private --hostname acme --shm-size 64m \
                       --tmpfs /tmp:exec --tmpfs /var/tmp:exec --tmpfs /run:exec --sysctl net.ipv6.conf.all.disable_ipv6=0 \
                       --sysctl net.ipv6.conf.lo.disable_ipv6=0 --log-driver json-file --entrypoint /bin/true";

pub(super) fn measure(stage: &Stage) -> Result<Rows> {
    let ours = |rung: &str| stage.command(&["run", TOOL, "--rung", rung, "--program", "/bin/true"]);
    let first = timed(&mut ours("container"), Stdio::null())?;
    let image = sh::capture(&mut stage.docker.command(&["images", "--quiet"]))?;
    let theirs = || -> Command {
        let mut command = stage.docker.command(&["run"]);
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
    let first = format!("{:.2} s", first.as_secs_f64());
    let mut rows: Rows = vec![("first run in a container, the image is loaded".to_owned(), first)];
    for launch in &launches {
        rows.push((format!("`true` by {}", launch.name), launch.describe()?));
    }
    for (over, under) in [(0, 1), (0, 2)] {
        let (over, under) = (&launches[over], &launches[under]);
        rows.push((format!("{} / {}, {ROUNDS} pairs", over.name, under.name), over.ratio(under)?));
    }
    Ok(rows)
}

//! Control groups, real-time priority, locked memory.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, For, Look};
use crate::dirs::is_root;
use crate::launch::limits;

pub(super) fn checks(look: &Look) -> Vec<Check> {
    vec![control_groups(look), realtime(), memlock()]
}

/// Of which version the mounted control groups are.
fn versions(look: &Look) -> &'static str {
    let first = look.has("sys/fs/cgroup/memory") || look.has("sys/fs/cgroup/cpu");
    let second = look.has("sys/fs/cgroup/cgroup.controllers");
    match (first, second || look.has("sys/fs/cgroup/unified/cgroup.controllers")) {
        (false, true) => "version 2",
        (true, true) => "version 1, and 2 beside it",
        (true, false) => "version 1",
        (false, false) => "none mounted",
    }
}

/// Makes a group where `run` would and removes it.
fn control_groups(look: &Look) -> Check {
    const NAME: &str = "control groups";
    let versions = versions(look);
    let outcome = limits::parent(&["memory", "pids"]).and_then(|parent| {
        // What `run` would make at the top, a trial must not leave there.
        let above = parent.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let group = above.join(format!("hatchway-doctor-{}", std::process::id()));
        fs::create_dir(&group).map_err(|error| format!("`{}`: {error}", group.display()))?;
        fs::remove_dir(&group).map_err(|error| format!("`{}`: {error}", group.display()))
    });
    match outcome {
        Ok(()) => {
            Check::works(For::Recipes, NAME, format!("{versions}; a group with memory and pids was made"))
        }
        Err(why) => Check::lacks(
            For::Recipes,
            NAME,
            format!("{versions}; no group with memory and pids to be had: {why}"),
            "`limits` hold for each process, not for the tool; a tool may fill the memory",
            if is_root() {
                "boot with `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all`"
            } else {
                "run `systemd-run --user --scope -p Delegate=yes hatchway run …`, or as root"
            },
        )
        .less(),
    }
}

fn realtime() -> Check {
    const NAME: &str = "real-time priority";
    const MEANS: &str = "recipes with `realtime` are refused";
    if let Some(group) = limits::without_realtime() {
        let found = format!("the control group `{}` has no real-time processor time", group.display());
        let fix = format!("`echo 950000 > {}`", group.join("cpu.rt_runtime_us").display());
        return Check::lacks(For::Recipes, NAME, found, MEANS, fix);
    }
    let hard = getrlimit(Resource::Rtprio).maximum;
    if limits::has(limits::CAP_SYS_NICE) {
        return Check::works(For::Recipes, NAME, "up to 99, by privilege");
    }
    match hard {
        Some(0) => Check::lacks(
            For::Recipes,
            NAME,
            "this user may give none",
            MEANS,
            format!(
                "add `{} - rtprio 80` to /etc/security/limits.d/hatchway.conf and log in again",
                limits::user_name()
            ),
        ),
        Some(most) => Check::works(For::Recipes, NAME, format!("up to {most}")),
        None => Check::works(For::Recipes, NAME, "any"),
    }
}

fn memlock() -> Check {
    const NAME: &str = "locked memory";
    if limits::has(limits::CAP_SYS_RESOURCE) {
        return Check::works(For::Recipes, NAME, "any, by privilege");
    }
    match getrlimit(Resource::Memlock).maximum {
        None => Check::works(For::Recipes, NAME, "any"),
        Some(most) => Check::lacks(
            For::Recipes,
            NAME,
            format!("at most {}", hatchway_envs::store::space::readable(most)),
            "recipes with a larger `memlock` are refused",
            format!(
                "add `{} - memlock unlimited` to /etc/security/limits.d/hatchway.conf and log in again",
                limits::user_name()
            ),
        )
        .less(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_control_groups_are_told_apart() {
        let table: [(&[&str], &str); 4] = [
            (&["sys/fs/cgroup/cgroup.controllers"], "version 2"),
            (
                &["sys/fs/cgroup/memory/tasks", "sys/fs/cgroup/unified/cgroup.controllers"],
                "version 1, and 2 beside it",
            ),
            (&["sys/fs/cgroup/cpu/tasks"], "version 1"),
            (&[], "none mounted"),
        ];
        for (files, expected) in table {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                let path = folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            assert_eq!(versions(&Look::at(folder.path())), expected);
        }
    }
}

//! The walls of the `fhs` rung: a real sandbox, and what the kernel offers beyond.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use hatchway_envs::sandbox;
use hatchway_sys::{probe, user_namespace};
use rustix::fs::MemfdFlags;

use super::{Check, For, Look};
use crate::dirs::is_root;

/// From linux/seccomp.h.
const SECCOMP_RET_USER_NOTIF: u32 = 0x7fc0_0000;

pub(super) fn checks(look: &Look) -> Vec<Check> {
    let mut checks = sandbox_trial();
    checks.extend(user_namespaces(look));
    checks.push(seccomp());
    checks.push(landlock(look));
    checks.push(security_modules(look));
    checks.push(thirty_two_bits());
    checks
}

/// Makes a sandbox as `run` would and starts a program in it that is not there.
fn sandbox_trial() -> Vec<Check> {
    const NAME: &str = "sandbox";
    let lacks = |found: String, fix: String| {
        vec![Check::lacks(For::Fhs, NAME, found, "no tool can be run: the fhs rung needs it", fix)]
    };
    let shim = match crate::launch::shim() {
        Ok(shim) => shim,
        Err(error) => return lacks(error.to_string(), error.hints().join("; ")),
    };
    // Readable for the user that the trial becomes, whatever `TMPDIR` is.
    let scratch = std::env::temp_dir().join(format!("hatchway-doctor-{}", std::process::id()));
    let made = std::fs::create_dir(&scratch)
        .and_then(|()| std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o755)));
    if let Err(error) = made {
        return lacks(
            format!("cannot make `{}`: {error}", scratch.display()),
            "set TMPDIR to a folder that may be written".into(),
        );
    }
    let report = sandbox::probe::probe(&shim, &scratch);
    // Empty by now; what matters is the answer.
    drop(std::fs::remove_dir(&scratch));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            return lacks(
                error.to_string(),
                error.hint().unwrap_or_else(|| "install both programs of one release".into()),
            );
        }
    };
    let mut checks: Vec<Check> = Vec::new();
    if report.works {
        let how = if is_root() { "as root, without a user namespace" } else { "in a user namespace" };
        checks.push(Check::works(For::Fhs, NAME, format!("one was made and left, {how}")));
    }
    let overlay = report.overlay && report.works;
    for problem in report.problems {
        let fix = if problem.fix.is_empty() {
            "`hatchway run --explain` shows the plan".to_owned()
        } else {
            problem.fix
        };
        if problem.fatal {
            checks.extend(lacks(problem.explanation, fix));
        } else {
            let means = "a tool may write to the usual places only, not to its whole root";
            checks
                .push(Check::lacks(For::Fhs, "overlay file system", problem.explanation, means, fix).less());
        }
    }
    if overlay {
        checks.push(Check::works(For::Fhs, "overlay file system", "mounted in that sandbox"));
    }
    checks
}

/// The switches that forbid namespaces to ordinary users. Root needs none of them.
fn user_namespaces(look: &Look) -> Vec<Check> {
    const NAME: &str = "user namespaces";
    let found = user_namespace::obstacles_in(&look.root);
    if found.is_empty() {
        let most = look.text("proc/sys/user/max_user_namespaces");
        let most = if most.is_empty() { "unknown".into() } else { most };
        return vec![Check::works(
            For::Fhs,
            NAME,
            format!("no switch forbids them to ordinary users (at most {most})"),
        )];
    }
    let check = |obstacle: user_namespace::Obstacle| {
        let means = "ordinary users cannot run tools; root can";
        let check = Check::lacks(For::Fhs, NAME, obstacle.explanation, means, obstacle.fix);
        // A switch that turned out not to be in the way is the trial's to tell.
        if is_root() { check.less() } else { check }
    };
    found.into_iter().map(check).collect()
}

fn seccomp() -> Check {
    const NAME: &str = "seccomp";
    match probe::seccomp_action(SECCOMP_RET_USER_NOTIF) {
        Ok(()) => Check::works(For::Fhs, NAME, "filters, with notification of another process"),
        Err(error) => Check::lacks(
            For::Fhs,
            NAME,
            format!("no notification of another process: {error}"),
            "system calls of tools are filtered all the same; `trace` will need it",
            "use a kernel from 5.0 on with CONFIG_SECCOMP_FILTER",
        )
        .less(),
    }
}

fn landlock(look: &Look) -> Check {
    const NAME: &str = "Landlock";
    match probe::landlock_version() {
        Ok(version @ ..2) => Check::lacks(
            For::Fhs,
            NAME,
            format!("version {version}, which cannot let files be moved between folders, so it is not used"),
            "no second wall behind the mounts",
            "use a kernel from 5.19 on",
        )
        .less(),
        Ok(version) => Check::works(For::Fhs, NAME, format!("version {version}: {}", keeps(version))),
        Err(error) => {
            let modules = look.text("sys/kernel/security/lsm");
            let fix = match modules.as_str() {
                "" => {
                    "boot a kernel from 5.13 on with CONFIG_SECURITY_LANDLOCK and `lsm=landlock,…`".to_owned()
                }
                modules => format!("boot with `lsm=landlock,{modules}`"),
            };
            let means = "no second wall behind the mounts";
            Check::lacks(For::Fhs, NAME, error.to_string(), means, fix).less()
        }
    }
}

/// What a version adds, of what we ask it for (landlock(7)).
fn keeps(version: i64) -> &'static str {
    match version {
        ..4 => "files; neither connections, nor devices, nor abstract sockets and signals",
        4 => "files and TCP; neither devices, nor abstract sockets and signals",
        5 => "files, TCP and devices; neither abstract sockets nor signals",
        _ => "files, TCP, devices, abstract sockets and signals",
    }
}

/// Which modules guard this host. They are walls of the host's, not of ours: none is needed.
fn security_modules(look: &Look) -> Check {
    const NAME: &str = "AppArmor, SELinux";
    let on = |path: &str, yes: &str| look.text(path) == yes;
    let modules = [
        ("AppArmor", on("sys/module/apparmor/parameters/enabled", "Y")),
        ("SELinux, enforcing", on("sys/fs/selinux/enforce", "1")),
        ("SELinux, permissive", on("sys/fs/selinux/enforce", "0")),
    ];
    let names: Vec<&str> = modules.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Check::works(For::Fhs, NAME, "neither is on; Hatchway needs none");
    }
    let confined = look.text("proc/self/attr/current");
    let confined = if confined.is_empty() { "not known".to_owned() } else { confined };
    Check::works(For::Fhs, NAME, format!("{} (this process: {confined})", names.join(", ")))
}

/// Runs a program of 96 bytes that ends at once.
fn thirty_two_bits() -> Check {
    const NAME: &str = "32-bit programs";
    match run_tiny() {
        Ok(true) => Check::works(For::Recipes, NAME, "an i386 program ran"),
        Ok(false) => lacks_i386("an i386 program was started and did not end well".into()),
        Err(error) => lacks_i386(format!("an i386 program could not be started: {error}")),
    }
}

fn lacks_i386(found: String) -> Check {
    Check::lacks(
        For::Recipes,
        "32-bit programs",
        found,
        "recipes with `architectures = [\"amd64\", \"i386\"]` do not run on the fhs rung",
        "boot with `ia32_emulation=on`, on a kernel with CONFIG_IA32_EMULATION",
    )
}

fn run_tiny() -> std::io::Result<bool> {
    let memory = rustix::fs::memfd_create("hatchway-doctor", MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("hatchway-doctor", MemfdFlags::CLOEXEC))?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&tiny_i386())?;
    // Open for writing it would be "busy".
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let read_only = std::fs::File::open(&path)?;
    drop(file);
    let mut command = Command::new(format!("/proc/self/fd/{}", read_only.as_raw_fd()));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(quiet.status()?.success())
}

/// An ELF file (System V ABI, Intel386 supplement): one header, one segment, `exit(0)`.
fn tiny_i386() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    // mov eax, 1; xor ebx, ebx; int 0x80
    const CODE: [u8; 9] = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80];
    let size = HEADERS + 9;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut half = |value: u16| bytes.extend(value.to_le_bytes());
    half(2); // ET_EXEC
    half(3); // EM_386
    for word in [1, BASE + HEADERS, 52, 0, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for value in [52_u16, 32, 1, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    // PT_LOAD, read and execute
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(CODE);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use std::fs;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Look) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let look = Look::at(folder.path());
        (folder, look)
    }

    #[test]
    fn each_switch_is_named_with_what_turns_it() {
        let table = [
            ("proc/sys/user/max_user_namespaces", "0\n", "sysctl user.max_user_namespaces=15000"),
            ("proc/sys/kernel/unprivileged_userns_clone", "0\n", "sysctl kernel.unprivileged_userns_clone=1"),
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "fhs-envs/apparmor/hatchway"),
            ("proc/self/status", "Name:\tx\nSeccomp:\t2\n", "--security-opt seccomp=unconfined"),
        ];
        for (path, text, fix) in table {
            let (_folder, look) = host(&[("proc/self/ns/user", ""), (path, text)]);
            let checks = user_namespaces(&look);
            assert_eq!(checks.len(), 1, "{path}");
            assert!(checks[0].state != State::Works && checks[0].fix.contains(fix), "{:?}", checks[0]);
        }
        let (_folder, look) =
            host(&[("proc/self/ns/user", ""), ("proc/sys/user/max_user_namespaces", "9\n")]);
        assert_eq!(user_namespaces(&look)[0].state, State::Works);
        let (_folder, look) = host(&[]);
        assert!(user_namespaces(&look)[0].fix.contains("CONFIG_USER_NS"));
    }

    #[test]
    fn security_modules_are_read() {
        let found = |files: &[(&str, &str)]| security_modules(&host(files).1).found;
        assert!(found(&[]).starts_with("neither"));
        assert!(
            found(&[
                ("sys/module/apparmor/parameters/enabled", "Y\n"),
                ("proc/self/attr/current", "unconfined\n")
            ])
            .contains("AppArmor (this process: unconfined)")
        );
        assert!(found(&[("sys/fs/selinux/enforce", "1")]).contains("SELinux, enforcing"));
    }
}

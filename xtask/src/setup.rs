//! What building, the tests and the demo need from the system; installed with apt where it is missing.
//!
//! It asks first on a terminal. `CI=true` or `--yes` does not ask. Where it may not install, it fails with the
//! command to type.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::sh;

/// One thing that is needed: how to see that it is there, the Debian package that brings it, and what for.
struct Need {
    package: &'static str,
    what_for: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { package: "gcc", what_for: "links the programs, compiles acme-gauss", is_there: || starts("gcc") },
    Need { package: "g++", what_for: "compiles libFuzzer", is_there: || starts("g++") },
    Need { package: "libc6-dev", what_for: "static libc for the shim", is_there: has_static_libc },
    Need { package: "zlib1g-dev", what_for: "acme-gauss links with zlib", is_there: has_zlib_header },
    Need {
        package: "binutils",
        what_for: "readelf: checks and oracle of the tests",
        is_there: || starts("readelf"),
    },
    Need { package: "python3", what_for: "starts pip, unpacks a wheel", is_there: || starts("python3") },
    Need { package: "python3-pip", what_for: "fetches the demo's wheel", is_there: has_pip },
    Need {
        package: "bubblewrap",
        what_for: "yardstick of the bench and of the tests",
        is_there: || starts("bwrap"),
    },
    Need {
        package: "mmdebstrap",
        what_for: "installs the system that an environment is compared with",
        is_there: || starts("mmdebstrap"),
    },
    Need { package: "strace", what_for: "sees that a second build writes nothing", is_there: has_strace },
    Need { package: "ca-certificates", what_for: "downloads over TLS", is_there: has_certificates },
    Need {
        package: "debian-archive-keyring",
        what_for: "verifies the archive's indices",
        is_there: has_keyring,
    },
    Need { package: "dpkg", what_for: "dpkg-deb packs acme-gauss", is_there: || starts("dpkg-deb") },
    Need {
        package: "dpkg-dev",
        what_for: "finds out what Hatchway's own package depends on",
        is_there: || starts("dpkg-shlibdeps"),
    },
    Need { package: "man-db", what_for: "judges the manual pages", is_there: || starts("man") },
    Need {
        package: "util-linux",
        what_for: "unshare: probes user namespaces",
        is_there: || starts("unshare"),
    },
    Need {
        package: "libtree",
        what_for: "second opinion on how libraries are found",
        is_there: || starts("libtree"),
    },
    Need {
        package: "pax-utils",
        what_for: "lddtree: third opinion on how libraries are found",
        is_there: has_lddtree,
    },
    Need {
        package: "rpm2cpio",
        what_for: "second opinion on RPM packages",
        is_there: || on_path("rpm2cpio"),
    },
    Need {
        package: "python3-pyelftools",
        what_for: "lddtree reads ELF files with it",
        is_there: || imports("elftools"),
    },
    Need {
        package: "python3-jsonschema",
        what_for: "judges JSON by its schema",
        is_there: || imports("jsonschema"),
    },
    Need {
        package: "python3-h5py",
        what_for: "another reader and writer of MDF files",
        is_there: || imports("h5py"),
    },
    Need {
        package: "python3-numpy",
        what_for: "second opinion on every solver",
        is_there: || imports("numpy"),
    },
    Need { package: "python3-pil", what_for: "reads pictures back", is_there: || imports("PIL") },
    Need {
        package: "python3-crcmod",
        what_for: "checks messages of OpenIGTLink",
        is_there: || imports("crcmod"),
    },
    Need { package: "dcmtk", what_for: "reads DICOM files", is_there: || on_path("dcmftest") },
    Need { package: "dicom3tools", what_for: "judges DICOM files", is_there: || on_path("dciodvfy") },
    Need { package: "nifti-bin", what_for: "reads NIfTI files", is_there: || on_path("nifti_tool") },
    Need { package: "teem-apps", what_for: "unu: NRRD's own reader", is_there: || on_path("teem-unu") },
    Need {
        package: "hdf5-tools",
        what_for: "h5dump: a third reader of MDF files",
        is_there: || starts("h5dump"),
    },
    Need { package: "xz-utils", what_for: "packs archives for the tests", is_there: || starts("xz") },
    Need { package: "lz4", what_for: "packs archives for the tests", is_there: || starts("lz4") },
    Need { package: "lzip", what_for: "packs archives for the tests", is_there: || starts("lzip") },
    Need { package: "zstd", what_for: "packs archives for the tests", is_there: || starts("zstd") },
    Need { package: "p7zip-full", what_for: "packs archives for the tests", is_there: || on_path("7z") },
    Need { package: "bzip2", what_for: "packs archives for the tests", is_there: || on_path("bzip2") },
    Need {
        package: "openssl",
        what_for: "encrypts an archive for the tests",
        is_there: || starts_with("openssl", "version"),
    },
    Need {
        package: "udev",
        what_for: "brings rules for the tests",
        is_there: || exists("/lib/udev/rules.d"),
    },
    Need {
        package: "systemd",
        what_for: "brings units for the tests, and is started by them",
        is_there: || exists("/lib/systemd/system/basic.target"),
    },
    Need {
        package: "skopeo",
        what_for: "second opinion on images that are written",
        is_there: || starts("skopeo"),
    },
    Need {
        package: "docker.io",
        what_for: "a container engine for the tests",
        // Its engine is where an ordinary user's path does not lead.
        is_there: || on_path("docker") && (on_path("dockerd") || exists("/usr/sbin/dockerd")),
    },
    Need {
        package: "podman",
        what_for: "another container engine for the tests",
        is_there: || starts("podman") && starts("conmon"),
    },
    Need {
        package: "runc",
        what_for: "runs Podman's containers in the tests",
        is_there: || on_path("runc") || exists("/usr/sbin/runc"),
    },
    Need { package: "umoci", what_for: "second opinion on images", is_there: || starts("umoci") },
    Need { package: "patch", what_for: "second opinion on patches", is_there: || starts("patch") },
    Need { package: "diffutils", what_for: "writes patches for the tests", is_there: || starts("diff") },
    Need { package: "rpm", what_for: "packs RPM packages for the tests", is_there: || starts("rpmbuild") },
    Need { package: "cpio", what_for: "packs cpio archives for the tests", is_there: || starts("cpio") },
    Need { package: "xorriso", what_for: "makes ISO images for the tests", is_there: || starts("xorriso") },
    Need {
        package: "genisoimage",
        what_for: "makes other ISO images for the tests",
        is_there: || starts("genisoimage"),
    },
    Need { package: "gcab", what_for: "makes cabinets for the tests", is_there: || starts("gcab") },
    Need { package: "cabextract", what_for: "second opinion on cabinets", is_there: || starts("cabextract") },
    Need {
        package: "msitools",
        what_for: "second opinion on Windows installer databases",
        is_there: || starts("msiinfo"),
    },
    Need {
        package: "wixl",
        what_for: "makes Windows installer databases for the tests",
        is_there: || starts("wixl"),
    },
    Need {
        package: "makeself",
        what_for: "makes self-unpacking scripts for the tests",
        is_there: || starts("makeself"),
    },
    Need {
        package: "locales",
        what_for: "sources of locales for the tests",
        is_there: || exists("/usr/share/i18n/SUPPORTED"),
    },
    Need {
        package: "squashfs-tools",
        what_for: "makes file systems for the tests",
        is_there: || starts_with("mksquashfs", "-version"),
    },
    Need {
        package: "nsis",
        what_for: "makes Windows installers for the tests",
        is_there: || starts_with("makensis", "-VERSION"),
    },
    Need {
        package: "musl-tools",
        what_for: "links programs with another libc for the tests",
        is_there: || starts("musl-gcc"),
    },
    Need {
        package: "gcc-mingw-w64-x86-64-win32",
        what_for: "links Windows programs for the tests",
        is_there: || starts("x86_64-w64-mingw32-gcc"),
    },
    Need {
        package: "gcc-mingw-w64-i686-win32",
        what_for: "links 32-bit Windows programs for the tests",
        is_there: || starts("i686-w64-mingw32-gcc"),
    },
    Need {
        package: "qemu-system-x86",
        what_for: "runs guests for the tests",
        is_there: || starts("qemu-system-x86_64"),
    },
    Need {
        package: "qemu-utils",
        what_for: "makes disks of guests for the tests",
        is_there: || starts("qemu-img"),
    },
    Need {
        package: "syslinux",
        what_for: "starts a guest of the tests from its disk",
        is_there: || starts("syslinux"),
    },
    Need {
        package: "mtools",
        what_for: "writes the disk of a guest of the tests",
        is_there: || on_path("mcopy"),
    },
    Need {
        package: "erofs-utils",
        what_for: "second opinion on the disks of guests",
        is_there: || on_path("fsck.erofs"),
    },
    Need {
        package: "e2fsprogs",
        what_for: "makes the disks on which guests keep state",
        is_there: || Path::new("/usr/sbin/mke2fs").exists() || Path::new("/sbin/mke2fs").exists(),
    },
    Need {
        package: "mesa-vulkan-drivers",
        what_for: "a software graphics card for the tests of reconstruction",
        // Newer ones have no architecture in the name.
        is_there: || {
            ["lvp_icd.x86_64.json", "lvp_icd.json"]
                .iter()
                .any(|name| exists(&format!("/usr/share/vulkan/icd.d/{name}")))
        },
    },
    Need { package: "xvfb", what_for: "a display for the tests", is_there: || on_path("Xvfb") },
    Need {
        package: "xserver-xephyr",
        what_for: "a display in a window for the tests",
        is_there: || on_path("Xephyr"),
    },
    Need {
        package: "xdg-dbus-proxy",
        what_for: "filters D-Bus for tools",
        is_there: || on_path("xdg-dbus-proxy"),
    },
    Need {
        package: "fontconfig",
        what_for: "makes a cache of fonts in the tests",
        is_there: || on_path("fc-cache"),
    },
    Need {
        package: "fonts-dejavu-core",
        what_for: "a font for the tests",
        is_there: || exists("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"),
    },
    Need {
        package: "gtk-update-icon-cache",
        what_for: "makes a cache of icons in the tests",
        is_there: || on_path("gtk-update-icon-cache"),
    },
    Need { package: "dbus-daemon", what_for: "a bus for the tests", is_there: || starts("dbus-daemon") },
    Need {
        package: "dbus",
        what_for: "units of the system's bus for the tests",
        is_there: || exists("/lib/systemd/system/dbus.service"),
    },
    Need {
        package: "dbus-bin",
        what_for: "a client of buses for the tests",
        is_there: || on_path("dbus-send"),
    },
    Need {
        package: "procps",
        what_for: "pgrep: finds companions in the tests",
        is_there: || on_path("pgrep"),
    },
    Need {
        package: "apparmor",
        what_for: "parses the AppArmor profile",
        is_there: || exists("/usr/sbin/apparmor_parser"),
    },
    Need { package: "xauth", what_for: "writes cookies for the tests", is_there: || on_path("xauth") },
    Need {
        package: "pulseaudio",
        what_for: "a session's sound server, and a tool's own, for the tests",
        is_there: || on_path("pulseaudio"),
    },
    Need {
        package: "pulseaudio-utils",
        what_for: "asks sound servers what tools may not",
        is_there: || on_path("pactl"),
    },
    Need { package: "iproute2", what_for: "makes networks for the tests", is_there: || on_path("ip") },
    Need {
        package: "kmod",
        what_for: "modinfo: second opinion on kernel modules",
        is_there: || starts("modinfo"),
    },
    Need {
        package: "gcc-multilib",
        what_for: "links 32-bit programs for the tests",
        is_there: has_32_bit_libc,
    },
];

/// The ordinary user that root becomes where something is tried without privilege: Debian's `nobody`.
pub(crate) const ORDINARY_ID: u32 = 65534;

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup(yes)
}

/// Sees that everything is there, installs what is not, and says what it did.
pub(crate) fn setup(yes: bool) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("setup: all {} system packages needed are there", NEEDS.len());
    } else {
        install(&missing, yes)?;
        replace_removed(yes)?;
    }
    check_namespaces()
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_there)()).collect()
}

/// Installs what was there and is not any more: apt removes packages that those to be installed conflict with, such
/// as a newer `qemu-utils` of backports, which does not go with the release's `qemu-system-x86`.
fn replace_removed(yes: bool) -> Result<()> {
    let removed = missing();
    if removed.is_empty() {
        return Ok(());
    }
    println!("setup: apt has removed packages that those conflict with; this release's take their place");
    install(&removed, yes)?;
    if let Some(need) = missing().first() {
        bail!(
            "what `{}` brings is missing again: it conflicts with another package that is needed\n\
             hint: `apt-cache policy {}` shows which versions there are; install one of this release's",
            need.package,
            need.package
        );
    }
    Ok(())
}

fn install(missing: &[&Need], yes: bool) -> Result<()> {
    println!("setup: missing on this system:");
    for need in missing {
        println!("  {:<24} {}", need.package, need.what_for);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get update && apt-get install --no-install-recommends {}", packages.join(" "));
    if !starts("apt-get") {
        bail!("no `apt-get` here\nhint: install what Debian calls {}, then try again", packages.join(", "));
    }
    let is_root = sh::is_root()?;
    if !is_root && !starts("sudo") {
        bail!("only root may install packages\nhint: as root, run `{by_hand}`");
    }
    let by_hand = if is_root { by_hand } else { by_hand.replace("apt-get", "sudo apt-get") };
    if !yes && !sh::is_ci() && !agreed()? {
        bail!("nothing was installed\nhint: run `{by_hand}`, or this command with `--yes`");
    }
    let refused = |error: anyhow::Error| error.context(format!("hint: run `{by_hand}` by hand"));
    sh::run(apt(is_root, yes).args(["update", "--quiet"])).map_err(refused)?;
    let options = ["install", "--yes", "--quiet", "--no-install-recommends"];
    sh::run(apt(is_root, yes).args(options).args(&packages)).map_err(refused)?;
    if let Some(need) = missing.iter().find(|need| !(need.is_there)()) {
        bail!("`{}` is installed, but what it is needed for ({}) still fails", need.package, need.what_for);
    }
    println!("setup: installed {}", packages.join(" "));
    Ok(())
}

/// Asks on a terminal; without one the answer is no.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Install them with apt-get? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn apt(is_root: bool, yes: bool) -> Command {
    let mut command;
    if is_root {
        command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
    } else {
        command = Command::new("sudo");
        // Nobody is there to type a password.
        if yes || sh::is_ci() {
            command.arg("--non-interactive");
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    command
}

/// Hatchway's way in without root is a user namespace; distributions turn that off in different ways.
fn check_namespaces() -> Result<()> {
    use std::os::unix::process::CommandExt;
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "true"]).current_dir("/");
    if sh::is_root()? {
        probe.gid(ORDINARY_ID).uid(ORDINARY_ID);
    }
    if sh::succeeds(&mut probe) {
        return Ok(());
    }
    let settings = [
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
        ("user.max_user_namespaces", "10000"),
    ];
    let wrong = settings.iter().filter(|(name, wanted)| {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::read_to_string(path).is_ok_and(|now| {
            let now = now.trim();
            if *name == "user.max_user_namespaces" { now == "0" } else { now != *wanted }
        })
    });
    let hints: Vec<String> =
        wrong.map(|(name, wanted)| format!("\nhint: as root, run `sysctl {name}={wanted}`")).collect();
    if hints.is_empty() {
        bail!("an ordinary user cannot make a user namespace here (a container may forbid it)");
    }
    bail!("an ordinary user cannot make a user namespace here{}", hints.concat())
}

fn starts(program: &str) -> bool {
    starts_with(program, "--version")
}

/// For programs that spell it their own way.
fn starts_with(program: &str, option: &str) -> bool {
    sh::succeeds(Command::new(program).arg(option))
}

/// For programs that have no option to say only that they are there.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn exists(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

/// A module of Debian's Python, which need not be the first in the path.
fn imports(module: &str) -> bool {
    sh::succeeds(Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]))
}

/// A script of Debian's Python, which need not be the first in the path.
fn has_lddtree() -> bool {
    sh::succeeds(Command::new("/usr/bin/python3").args(["/usr/bin/lddtree", "--version"]))
}

fn has_32_bit_libc() -> bool {
    let output = Command::new("gcc").args(["-m32", "-print-file-name=libc.so"]).output();
    output.is_ok_and(|output| output.stdout.starts_with(b"/"))
}

fn has_strace() -> bool {
    sh::succeeds(Command::new("strace").arg("-V"))
}

fn has_pip() -> bool {
    sh::succeeds(Command::new("python3").args(["-m", "pip", "--version"]))
}

fn has_static_libc() -> bool {
    // gcc prints the bare name when it does not find the file.
    let output = Command::new("gcc").arg("-print-file-name=libc.a").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"/"))
}

fn has_zlib_header() -> bool {
    let child = Command::new("gcc")
        .args(["-E", "-x", "c", "-include", "zlib.h", "/dev/null"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    child.is_ok_and(|status| status.success())
}

fn has_certificates() -> bool {
    Path::new("/etc/ssl/certs/ca-certificates.crt").exists()
}

fn has_keyring() -> bool {
    Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_names_one_package_once() {
        for (index, need) in NEEDS.iter().enumerate() {
            assert!(!need.package.contains(' ') && !need.what_for.is_empty());
            assert!(NEEDS[..index].iter().all(|other| other.package != need.package), "{}", need.package);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_seen() {
        assert!(!starts("hatchway-no-such-program"));
    }
}

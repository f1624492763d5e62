//! A disk image as somebody brings it, with a system on it: Debian's kernel and busybox, started by syslinux from a file system that
//! mtools writes. Nothing is mounted for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernel::{image, read, unpacked};

/// The empty package that depends on the kernel of the day: the one for any machine, since that for clouds has no driver of an e1000.
const META: &str = "linux-image-amd64";
/// Modules that need no other: the power button, who hears it, and the network card.
const MODULES: [&str; 3] =
    ["drivers/acpi/button", "drivers/input/evdev", "drivers/net/ethernet/intel/e1000/e1000"];
/// Room for a kernel of 8 MB and 2 MB beside it.
const SECTORS: u64 = 24 << 11;

/// The port at which the guest says again what it hears.
pub const ECHO: u16 = 7;
/// The port at which its shell does what it hears.
pub const SHELL: u16 = 23;

/// The first process. It says `ready` on COM1 when its ports are there, and ends when the power button is pressed. Its address is the
/// one that QEMU's network has for its guest.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec > /dev/ttyS0 2>&1 < /dev/null
for module in /modules/*; do insmod $module; done
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
nc -ll -p ECHO -e cat &
nc -ll -p SHELL -e sh &
mkdir -p /etc/acpi/PWRF
printf '#!/bin/sh\necho power button\npoweroff -f\n' > /etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
for port in ECHO SHELL; do until netstat -l -n -t | grep -q ":$port "; do usleep 50000; done; done
echo ready
exec acpid -d -l /dev/ttyS0
"#;

const SYSLINUX: &str =
    "DEFAULT linux\nLABEL linux\nKERNEL vmlinuz\nAPPEND initrd=initrd console=ttyS0 quiet panic=-1\n";

/// Makes the image `NAME.qcow2` in a folder.
///
/// # Panics
/// Where a package cannot be fetched, or a program is missing.
pub fn disk(folder: &Path, name: &str) -> PathBuf {
    let scratch = tempfile::tempdir_in(folder).unwrap();
    let at = |name: &str| scratch.path().join(name);
    let kernel = image(META);
    let release = kernel.trim_start_matches("linux-image-").to_owned();
    let root = unpacked(&kernel);
    initrd(&at("root"), &root.join("lib/modules").join(&release), &at("initrd"));
    fs::copy(root.join("boot").join(format!("vmlinuz-{release}")), at("vmlinuz")).unwrap();
    fs::write(at("syslinux.cfg"), SYSLINUX).unwrap();
    fs::File::create(at("raw")).unwrap().set_len(SECTORS * 512).unwrap();
    let run = |program: &str, package: &str, words: &[&str]| {
        done(Command::new(program).args(words).current_dir(scratch.path()), package);
    };
    run("mformat", "mtools", &["-i", "raw", "-h", "64", "-s", "32", "-T", &SECTORS.to_string(), "::"]);
    run("syslinux", "syslinux", &["--install", "raw"]);
    run("mcopy", "mtools", &["-i", "raw", "vmlinuz", "initrd", "syslinux.cfg", "::"]);
    run("qemu-img", "qemu-utils", &["convert", "-O", "qcow2", "raw", "qcow2"]);
    let made = folder.join(format!("{name}.qcow2"));
    fs::rename(at("qcow2"), &made).unwrap();
    made
}

/// What the kernel unpacks into its memory: busybox, modules, and the first process.
fn initrd(root: &Path, modules: &Path, to: &Path) {
    for name in ["bin", "dev", "modules", "proc", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("bin/busybox"), read(&unpacked("busybox-static").join("bin/busybox"))).unwrap();
    for module in MODULES {
        let name = Path::new(module).file_name().unwrap().to_string_lossy().into_owned();
        let path = modules.join(format!("kernel/{module}.ko"));
        fs::write(root.join("modules").join(name), read(&path)).unwrap();
    }
    let init = INIT.replace("ECHO", &ECHO.to_string()).replace("SHELL", &SHELL.to_string());
    fs::write(root.join("init"), init).unwrap();
    for name in ["init", "bin/busybox"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = "find . | cpio --quiet --create --format newc --owner 0:0";
    let packed = fs::File::create(to).unwrap();
    done(Command::new("sh").args(["-c", line]).current_dir(root).stdout(packed), "cpio");
}

fn done(command: &mut Command, package: &str) {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().and_then(|c| c.wait_with_output());
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}: install the package `{package}`"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

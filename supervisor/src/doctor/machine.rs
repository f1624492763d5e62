//! Devices, engines and programs that rungs beyond `fhs` need, each tried.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Check, For, Look};

/// An engine that does not answer in this time is as good as none.
const ENGINE_WAIT: Duration = Duration::from_secs(3);

pub(super) fn checks(look: &Look) -> Vec<Check> {
    vec![
        uinput(),
        fuse(),
        program(
            For::Recipes,
            "pasta",
            &["pasta"],
            "nothing today: `network = { allow = […] }` is carried out without it",
            "`apt install passt`",
        )
        .less_if_missing(),
        program(
            For::Recipes,
            "D-Bus filter",
            &["xdg-dbus-proxy"],
            "recipes with `dbus` are refused",
            "`apt install xdg-dbus-proxy`",
        )
        .less_if_missing(),
        docker(),
        kvm(look),
        program(
            For::Vm,
            "QEMU",
            &["qemu-system-x86_64"],
            "tools with kernel modules of their own cannot be run",
            "`apt install qemu-system-x86`",
        ),
        virtualbox(),
    ]
}

impl Check {
    /// What nobody needs today is no fault.
    fn less_if_missing(self) -> Self {
        if self.state == super::State::Missing { self.less() } else { self }
    }
}

/// Opens a device as whoever calls; what it is then used for is not tried.
fn open(path: &str) -> std::io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// What mends a device that cannot be opened: rights, where it is there, and otherwise what makes it be there.
fn mended(error: &std::io::Error, path: &str, otherwise: &str) -> String {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return format!("as root, or as a member of the group that owns it (`ls -l {path}`)");
    }
    otherwise.to_owned()
}

fn uinput() -> Check {
    const NAME: &str = "uinput";
    match open("/dev/uinput") {
        Ok(_) => Check::works(For::Recipes, NAME, "`/dev/uinput` can be opened"),
        Err(error) => Check::lacks(
            For::Recipes,
            NAME,
            format!("`/dev/uinput`: {error}"),
            "input devices cannot be made for a tool (no recipe key needs it yet)",
            mended(&error, "/dev/uinput", "`modprobe uinput`, and membership in the group that owns it"),
        )
        .less(),
    }
}

fn fuse() -> Check {
    const NAME: &str = "FUSE";
    match open("/dev/fuse") {
        Ok(_) => Check::works(For::Recipes, NAME, "`/dev/fuse` can be opened"),
        Err(error) => Check::lacks(
            For::Recipes,
            NAME,
            format!("`/dev/fuse`: {error}"),
            "nothing today: AppImages are unpacked, not mounted",
            mended(&error, "/dev/fuse", "`modprobe fuse`"),
        )
        .less(),
    }
}

/// Asks the engine behind the socket for a sign of life.
fn docker() -> Check {
    const NAME: &str = "Docker engine";
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = match host.strip_prefix("unix://") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from("/var/run/docker.sock"),
    };
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(ENGINE_WAIT))?;
        stream.set_write_timeout(Some(ENGINE_WAIT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let means = "tools whose recipes want a container cannot be run";
    let fix = "`apt install docker.io`, and membership in the group `docker`";
    match ask() {
        Ok(answer) if answer.contains(" 200 ") => {
            Check::works(For::Container, NAME, format!("`{}` answers", socket.display()))
        }
        Ok(answer) => {
            let line = answer.lines().next().unwrap_or("nothing").to_owned();
            Check::lacks(For::Container, NAME, format!("`{}` answers: {line}", socket.display()), means, fix)
        }
        Err(error) => {
            Check::lacks(For::Container, NAME, format!("`{}`: {error}", socket.display()), means, fix)
        }
    }
}

fn kvm(look: &Look) -> Check {
    const NAME: &str = "KVM";
    let made = open("/dev/kvm").and_then(|device| hatchway_sys::probe::kvm(&device));
    match made {
        // A KVM that is itself emulated opens, and then hangs a common kernel: only a boot would tell.
        Ok(version) => Check::lacks(
            For::Vm,
            NAME,
            format!("version {version}, an empty machine was made; whether a system boots was not tried"),
            "where it does not, machines run in software, many times slower",
            "boot a guest once: `qemu-system-x86_64 -accel kvm -cdrom …`",
        )
        .less(),
        Err(error) => {
            let flags = look.text("proc/cpuinfo");
            let capable = flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"));
            let fix = if capable {
                "`modprobe kvm_intel` or `kvm_amd`, and membership in the group `kvm`"
            } else {
                "switch virtualisation on in the firmware, or, in a virtual machine, nested virtualisation in its host"
            };
            let means = "machines run in software, many times slower";
            Check::lacks(
                For::Vm,
                NAME,
                format!("`/dev/kvm`: {error}"),
                means,
                mended(&error, "/dev/kvm", fix),
            )
        }
    }
}

fn virtualbox() -> Check {
    const NAME: &str = "VirtualBox";
    match open("/dev/vboxdrv") {
        Ok(_) => program(
            For::Vm,
            NAME,
            &["VBoxManage"],
            "its machines cannot be run",
            "install VirtualBox's programs",
        ),
        Err(error) => Check::lacks(
            For::Vm,
            NAME,
            format!("`/dev/vboxdrv`: {error}"),
            "its machines cannot be run; QEMU's can",
            mended(
                &error,
                "/dev/vboxdrv",
                "install VirtualBox with its kernel modules, then `modprobe vboxdrv`",
            ),
        )
        .less(),
    }
}

/// A program that says its version.
fn program(whom: For, name: &'static str, names: &[&str], means: &str, fix: &str) -> Check {
    for program in names {
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        if let Ok(output) = output
            && output.status.success()
        {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().next().unwrap_or(program).trim().to_owned();
            return Check::works(whom, name, if line.is_empty() { (*program).to_owned() } else { line });
        }
    }
    Check::lacks(whom, name, format!("`{}` is not there or does not start", names.join("`, `")), means, fix)
}

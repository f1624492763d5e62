//! What a recipe says of a guest.

use hatchway_envs::digest::Sha256;
use hatchway_vm::machine::{Format, Forward, SmbiosText};
use hatchway_wire::ready::Ready;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Configure, Display, Network, Recipe, Runner, Size};

/// A guest: of a tree, or with `image` of a disk image that somebody brings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Vm {
    /// A disk image, beside the recipe or with its full path; `--bind image=FILE` names another place.
    pub image: Option<String>,
    /// `raw`, `qcow2`, `vdi` or `vmdk`; what the image's name ends with where it is missing.
    #[schemars(with = "Option<String>")]
    pub format: Option<ImageFormat>,
    /// The image's digest, compared before a start whenever the file has changed.
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Sha256>,
    /// What makes the machine around an image.
    pub driver: Driver,
    /// Whether what the guest writes is there again at the next start; thrown away otherwise. The image itself stays as it is.
    pub keep: bool,
    /// What runs in it. Windows has a clock that shows local time.
    pub system: System,
    /// Processors.
    pub cpus: Option<u32>,
    /// Memory: 2G, or what `limits.memory` leaves the kernel of a guest of a tree, where it is missing.
    pub memory: Option<Size>,
    /// The package with the kernel of a guest of a tree; `linux-image-cloud-amd64` where it is missing.
    pub kernel: Option<String>,
    /// Size of the disk on which a guest of a tree keeps state, 8G where it is missing. What is not written takes no room.
    pub state: Option<Size>,
    /// TCP ports of this machine that lead into the guest: `[ADDRESS:]PORT:GUEST-PORT`.
    #[schemars(with = "Vec<String>")]
    pub ports: Vec<Port>,
    /// Serial lines, COM1 first: where each ends on this machine.
    pub serial: Vec<SerialLine>,
    /// A screen by VNC, at a unix socket in the unit's folder.
    pub vnc: bool,
    /// Who made the machine, as its firmware says.
    #[schemars(with = "Option<String>")]
    pub manufacturer: Option<TableText>,
    /// Which machine it is, as its firmware says.
    #[schemars(with = "Option<String>")]
    pub product: Option<TableText>,
    /// The machine's serial number, as its firmware says.
    #[schemars(with = "Option<String>")]
    pub serial_number: Option<TableText>,
    /// How many seconds the guest has to shut down; 60 where it is missing.
    pub grace_seconds: Option<u32>,
}

/// A value of the machine's that is checked where it is written.
macro_rules! checked {
    ($name:ident, $inner:ty, $what:literal) => {
        #[doc = $what]
        #[derive(Debug, Clone, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse().map(Self)
            }
        }
    };
}
checked!(ImageFormat, Format, "How a disk is stored in a file.");
checked!(Port, Forward, "A port that leads into the guest.");
checked!(TableText, SmbiosText, "A text in the tables of a machine's firmware.");

/// What makes the machine around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// QEMU.
    #[default]
    Qemu,
    /// VirtualBox, which has to be installed.
    Virtualbox,
}

/// What runs in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Anything that boots from a disk.
    #[default]
    Other,
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// Where a serial line of a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SerialLine {
    /// A unix socket in the unit's folder.
    Socket,
    /// A pseudo terminal.
    Pty,
    /// Input and output of `hatchway run`.
    Stdio,
}

impl Vm {
    /// What a guest of a tree has no use for: it ends with its tool, and nothing comes in but the tool's own streams.
    pub(super) fn not_of_a_tree(&self) -> Vec<String> {
        let asked = [
            (self.format.is_some(), "format"),
            (self.sha256.is_some(), "sha256"),
            (self.driver != Driver::Qemu, "driver"),
            (self.keep, "keep"),
            (self.system == System::Windows, "system"),
            (!self.ports.is_empty(), "ports"),
            (!self.serial.is_empty(), "serial"),
            (self.vnc, "vnc"),
            (self.manufacturer.is_some() || self.product.is_some(), "manufacturer and product"),
            (self.serial_number.is_some(), "serial-number"),
            (self.grace_seconds.is_some(), "grace-seconds"),
        ];
        let asked = asked.iter().filter(|(asked, _)| self.image.is_none() && *asked);
        asked.map(|(_, what)| format!("vm.{what} without vm.image")).collect()
    }
}

impl Recipe {
    /// The guest, where it is one of a disk image that somebody brings.
    #[must_use]
    pub fn image(&self) -> Option<&Vm> {
        self.run.vm.as_ref().filter(|vm| vm.image.is_some())
    }

    /// What such a guest has no use for: it has no tree, and what runs in it is its own.
    pub(super) fn not_of_an_image(&self) -> Vec<String> {
        let (run, environment) = (&self.run, &self.environment);
        let service = |asks: fn(&super::Service) -> bool| self.service.as_ref().is_some_and(asks);
        let asked = [
            (!self.artifacts.is_empty(), "[[artifact]]"),
            (!self.sources.is_empty(), "[[source]]"),
            (!self.files.is_empty(), "[[file]]"),
            (!self.channels.is_empty(), "[[channel]]"),
            (
                service(|service| {
                    service
                        .ready
                        .as_ref()
                        .is_some_and(|ready| !matches!(ready.get_ref().what, Ready::Log { .. }))
                }),
                "ready in [service] but for `log` (nothing of Hatchway is in such a guest that could look)",
            ),
            (
                service(|service| service.health.is_some()),
                "health in [service] (nothing of Hatchway is in such a guest that could look)",
            ),
            (service(|service| service.stop.is_some()), "stop in [service] (a guest has `grace-seconds`)"),
            (
                service(|service| *service.terminal.get_ref()),
                "terminal in [service] (the screen and the serial lines of such a guest are its own)",
            ),
            (self.devices.iter().any(|device| device.class != "usb"), "[[device]] of another class than usb"),
            (environment.base.is_some() || !environment.packages.is_empty(), "[environment]"),
            (environment.configure != Configure::Builtin || environment.python.is_some(), "[environment]"),
            (run.runner != Runner::None, "runner"),
            (run.program.is_some() || !run.args.is_empty() || !run.env.is_empty(), "program, args and env"),
            (!run.state.is_empty(), "state (a guest has `keep`)"),
            (matches!(run.network, Network::Allow { .. }), "network = { allow = … }"),
            (run.display != Display::None, "display (a guest has `vnc`)"),
            (run.gpu || run.audio != super::Audio::None || run.dbus.is_some(), "gpu, audio and dbus"),
            (!run.capabilities.is_empty() || !run.modules.is_empty(), "capabilities and modules"),
            (!run.services.is_empty(), "services"),
            (
                run.realtime.is_some() || run.memlock.is_some() || run.shm.is_some(),
                "realtime, memlock and shm",
            ),
            (
                run.vm.as_ref().is_some_and(|vm| vm.kernel.is_some() || vm.state.is_some()),
                "vm.kernel and vm.state",
            ),
            (run.limits.is_some(), "limits (a guest has `memory` and `cpus`)"),
        ];
        let mut named: Vec<String> =
            asked.iter().filter(|(asked, _)| *asked).map(|(_, what)| (*what).to_owned()).collect();
        named.dedup();
        named
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    const HEAD: &str = "schema = 1\n[package]\nname = \"win10\"\n[run]\n";

    #[test]
    fn a_guest_from_an_image_is_carried_out_and_nothing_else_with_it() {
        let good = parse(&format!(
            "{HEAD}vm = {{ image = \"a.qcow2\", cpus = 2, memory = \"4G\", ports = [\"8080:80\"], serial = [\"stdio\"] }}\n"
        ));
        let good = good.unwrap();
        assert!(good.image().is_some() && good.unsupported().is_empty(), "{:?}", good.unsupported());
        let more =
            parse(&format!("{HEAD}vm = {{ image = \"a.qcow2\" }}\nprogram = \"/bin/x\"\ngpu = true\n"))
                .unwrap();
        assert_eq!(more.unsupported(), ["program, args and env", "gpu, audio and dbus"]);
        let service = |keys: &str| {
            let text = format!("{HEAD}vm = {{ image = \"a.qcow2\" }}\n[service]\n{keys}\n");
            parse(&text).unwrap().unsupported().join("; ")
        };
        assert_eq!(
            service("restart = \"always\"\nready = { log = \"login:\" }\nlogs = { size = \"8M\" }"),
            ""
        );
        for (keys, why) in [
            (
                "ready = { tcp = 80 }",
                "ready in [service] but for `log` (nothing of Hatchway is in such a guest that could look)",
            ),
            (
                "health = { command = [\"x\"] }",
                "health in [service] (nothing of Hatchway is in such a guest that could look)",
            ),
            ("stop = { grace = \"9s\" }", "stop in [service] (a guest has `grace-seconds`)"),
            (
                "terminal = true",
                "terminal in [service] (the screen and the serial lines of such a guest are its own)",
            ),
        ] {
            assert_eq!(service(keys), why);
        }
        let tree = parse(&format!("{HEAD}vm = {{ cpus = 2 }}\n")).unwrap();
        assert!(tree.image().is_none() && tree.unsupported().is_empty());
        let tree = parse(&format!("{HEAD}vm = {{ vnc = true }}\n")).unwrap();
        assert_eq!(tree.unsupported(), ["vm.vnc without vm.image"]);
    }

    #[test]
    fn values_are_checked_where_they_are_written() {
        for (wrong, says) in [
            ("ports = [\"80\"]", "no forward of a port"),
            ("format = \"iso\"", "no format of disk images"),
            ("serial = [\"tcp\"]", "unknown variant"),
            ("serial-number = \"\"", "no text for a machine's tables"),
            ("cpu = 1", "unknown field"),
        ] {
            let error = parse(&format!("{HEAD}vm = {{ image = \"a.raw\", {wrong} }}\n")).unwrap_err();
            assert!(error.to_string().contains(says), "{wrong}: {error}");
        }
    }
}

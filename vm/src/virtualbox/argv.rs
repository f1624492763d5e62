//! A machine as calls of `VBoxManage`: nothing is run here.
//!
//! Names of subcommands and options are those of VirtualBox 7's manual, chapter "VBoxManage", and each was given to
//! 7.2.22 (`tests/tests/it/machines.rs`, `cargo xtask virtualbox`).

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::machine::{DISKS_MAX, Display, Format, Machine, Network, SERIAL_MAX, Serial, System, Uuid};
use crate::usb;

/// The one disk controller of a machine.
const CONTROLLER: &str = "SATA";
/// Address and interrupt of a PC's four serial ports.
const UARTS: [(&str, &str); SERIAL_MAX] = [("0x3F8", "4"), ("0x2F8", "3"), ("0x3E8", "4"), ("0x2E8", "3")];
/// Where VirtualBox keeps what its firmware says of a machine; manual, "Configuring the BIOS DMI Information".
const DMI: &str = "VBoxInternal/Devices/pcbios/0/Config/Dmi";

/// One call: a subcommand and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call(pub(super) Vec<String>);

impl Call {
    pub(super) fn new<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }

    /// The subcommand, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// All words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// Where a machine's own files are: its settings, what is written over its disks, its log.
pub(super) fn overlay(folder: &Path, disk: usize) -> PathBuf {
    folder.join(format!("disk{disk}.vdi"))
}

/// The calls that make a machine and give it everything; in order, each may fail by itself.
///
/// # Errors
/// What VirtualBox cannot give.
pub fn create(machine: &Machine, uuid: Uuid, folder: &Path) -> Result<Vec<Call>, Error> {
    check(machine)?;
    let id = uuid.to_string();
    let base = text(folder)?;
    let system = match machine.system {
        System::Other => "Other_64",
        System::Linux => "Linux_64",
        System::Windows => "Windows10_64",
    };
    let mut calls = vec![
        Call::new([
            "createvm",
            "--name",
            &machine.name,
            "--uuid",
            &id,
            "--ostype",
            system,
            "--basefolder",
            &base,
            "--register",
        ]),
        modify(machine, &id)?,
    ];
    calls.extend(tables(machine, &id));
    calls.extend(disks(machine, &id, folder)?);
    for (number, name) in machine.usb.iter().enumerate() {
        calls.push(filter(number, name, &id)?);
    }
    for share in &machine.shares {
        let path = text(&share.path)?;
        let mut words =
            vec!["sharedfolder", "add", &id, "--name", &share.name, "--hostpath", &path, "--automount"];
        if share.read_only {
            words.push("--readonly");
        }
        calls.push(Call::new(words));
    }
    Ok(calls)
}

/// One controller, and on it for each image a difference of our own: what somebody brought is never written to, nor are its
/// settings.
fn disks(machine: &Machine, id: &str, folder: &Path) -> Result<Vec<Call>, Error> {
    let ports = machine.disks.len().max(1).to_string();
    let mut calls = vec![Call::new([
        "storagectl",
        id,
        "--name",
        CONTROLLER,
        "--add",
        "sata",
        "--controller",
        "IntelAhci",
        "--portcount",
        &ports,
        "--bootable",
        "on",
    ])];
    for (number, disk) in machine.disks.iter().enumerate() {
        let (file, over) = (text(&disk.path)?, text(&overlay(folder, number))?);
        calls.push(Call::new([
            "createmedium",
            "disk",
            "--filename",
            &over,
            "--diffparent",
            &file,
            "--format",
            "VDI",
        ]));
        let port = number.to_string();
        calls.push(Call::new([
            "storageattach",
            id,
            "--storagectl",
            CONTROLLER,
            "--port",
            &port,
            "--device",
            "0",
            "--type",
            "hdd",
            "--medium",
            &over,
        ]));
    }
    Ok(calls)
}

/// What only QEMU can give.
fn check(machine: &Machine) -> Result<(), Error> {
    let refuse = |what: &str, hint: &str| {
        Err(Error::Driver { driver: "VirtualBox", what: what.to_owned(), hint: hint.to_owned() })
    };
    if let Some(disk) = machine.disks.iter().find(|disk| disk.format != Format::Vdi) {
        let (path, format) = (disk.path.display(), disk.format);
        let hint = format!(
            "`qemu-img convert -f {format} -O vdi {path} {}`",
            disk.path.with_extension("vdi").display()
        );
        return refuse(&format!("a disk of the format {format} (`{path}`)"), &hint);
    }
    match machine {
        _ if machine.disks.iter().any(|disk| disk.read_only) => refuse(
            "a disk that cannot be written to",
            "leave `read_only` out: the image is not written to anyway",
        ),
        _ if machine.disks.len() > DISKS_MAX => refuse("more than 6 disks", "join some of them"),
        _ if machine.serial.len() > SERIAL_MAX => refuse("more than 4 serial lines", "a PC has four"),
        _ if machine.serial.iter().any(|serial| !matches!(serial, Serial::Socket(_))) => {
            refuse("a serial line that is no unix socket", "bind it to a socket, or `driver = \"qemu\"`")
        }
        Machine { network: Network::Restricted, .. } => refuse(
            "a network card that only answers",
            "its translation of addresses lets everything out: `network = \"host\"` allows that, `\"none\"` takes the card away; \
             or `driver = \"qemu\"`",
        ),
        Machine { display: Display::Vnc(_), .. } => refuse(
            "a screen at a unix socket",
            "`driver = \"qemu\"`; or open VirtualBox's own window of the machine",
        ),
        Machine { network: Network::None, forwards, .. } if !forwards.is_empty() => {
            refuse("ports without a network card", "`network = \"host\"`, or leave `ports` out")
        }
        _ => Ok(()),
    }
}

/// Processors, memory, network, serial lines, and nothing that nobody asked for.
fn modify(machine: &Machine, id: &str) -> Result<Call, Error> {
    let mut words: Vec<String> = vec!["modifyvm".into(), id.into()];
    let mut set = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
    set("--cpus", &machine.cpus.to_string());
    set("--memory", &machine.memory_mib().to_string());
    set("--ioapic", "on");
    set("--rtc-use-utc", if machine.system == System::Windows { "off" } else { "on" });
    set("--boot1", "disk");
    set("--boot2", "none");
    set("--boot3", "none");
    set("--boot4", "none");
    set("--audio-enabled", "off");
    set("--vrde", "off");
    set("--clipboard-mode", "disabled");
    set("--drag-and-drop", "disabled");
    set("--graphicscontroller", if machine.system == System::Linux { "vmsvga" } else { "vboxsvga" });
    if let Some(uuid) = machine.identity.uuid {
        set("--hardware-uuid", &uuid.to_string());
    }
    match machine.network {
        Network::None => set("--nic1", "none"),
        Network::Restricted | Network::Open => {
            set("--nic1", "nat");
            // What QEMU gives too, so that an image finds the same card with both.
            set("--nic-type1", "82540EM");
        }
    }
    if let Some(mac) = machine.identity.mac {
        set("--mac-address1", &mac.digits());
    }
    for (number, forward) in machine.forwards.iter().enumerate() {
        let (address, port) = (forward.listen.ip(), forward.listen.port());
        set("--nat-pf1", &format!("tcp{number},tcp,{address},{port},,{}", forward.port));
    }
    words.extend(uarts(machine)?);
    if !machine.usb.is_empty() {
        words.extend(["--usb-xhci".into(), "on".into()]);
    }
    Ok(Call(words))
}

/// The serial ports, each at its socket.
fn uarts(machine: &Machine) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    for (number, (serial, (address, interrupt))) in machine.serial.iter().zip(UARTS).enumerate() {
        let Serial::Socket(path) = serial else { continue };
        let number = number + 1;
        words.extend([format!("--uart{number}"), address.into(), interrupt.into()]);
        words.extend([format!("--uart-mode{number}"), "server".into(), text(path)?]);
    }
    Ok(words)
}

/// The call that puts the serial ports of a machine at other sockets; none where it has no port.
pub(super) fn lines(machine: &Machine, uuid: Uuid) -> Result<Option<Call>, Error> {
    let uarts = uarts(machine)?;
    let call = || Call::new(["modifyvm".to_owned(), uuid.to_string()].into_iter().chain(uarts.clone()));
    Ok((!uarts.is_empty()).then(call))
}

/// What the firmware says of the machine.
fn tables(machine: &Machine, id: &str) -> Vec<Call> {
    let identity = &machine.identity;
    let texts = [
        ("SystemVendor", &identity.manufacturer),
        ("SystemProduct", &identity.product),
        ("SystemSerial", &identity.serial),
    ];
    let given = texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?)));
    // Without the prefix a serial number of digits would be taken for a number, and the machine would not start.
    given
        .map(|(key, text)| {
            Call::new(["setextradata", id, &format!("{DMI}{key}"), &format!("string:{}", text.as_str())])
        })
        .collect()
}

fn filter(number: usize, name: &usb::Name, id: &str) -> Result<Call, Error> {
    let usb::Name::Device { vendor, product, serial } = name else {
        return Err(Error::Driver {
            driver: "VirtualBox",
            what: format!("a USB device by its port (`{name}`)"),
            hint: "name it usb:VENDOR:PRODUCT:SERIAL, or `driver = \"qemu\"`".into(),
        });
    };
    let mut words: Vec<String> =
        ["usbfilter", "add", &number.to_string(), "--target", id, "--name", &format!("usb{number}")]
            .map(str::to_owned)
            .to_vec();
    words.extend([
        "--vendorid".into(),
        format!("{vendor:04x}"),
        "--productid".into(),
        format!("{product:04x}"),
    ]);
    if let Some(serial) = serial {
        words.extend(["--serialnumber".into(), serial.clone()]);
    }
    words.extend(["--active".into(), "yes".into()]);
    Ok(Call(words))
}

/// A path as an argument: VirtualBox takes no other than UTF-8.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let plain = path.to_str().filter(|text| text.starts_with('/') && !text.contains(char::is_control));
    plain.map(str::to_owned).ok_or_else(|| Error::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Disk, Identity, Share};

    fn machine() -> Machine {
        Machine {
            name: "win10".into(),
            cpus: 2,
            memory: 4 << 30,
            disks: vec![Disk { path: "/img/win10.vdi".into(), format: Format::Vdi, read_only: false }],
            system: System::Windows,
            serial: vec![Serial::Socket("/run/com1".into()), Serial::Socket("/run/com2".into())],
            network: Network::Open,
            forwards: vec!["127.0.0.1:8080:80".parse().unwrap()],
            usb: vec!["usb:0403:6001:A1".parse().unwrap()],
            shares: vec![Share { name: "data".into(), path: "/srv/data".into(), read_only: true }],
            identity: Identity {
                uuid: Some("99999999-2222-3333-4444-555555555556".parse().unwrap()),
                mac: Some("08:00:27:aa:bb:cc".parse().unwrap()),
                serial: Some("0123".parse().unwrap()),
                ..Identity::default()
            },
            display: Display::None,
        }
    }

    #[test]
    fn a_machine_becomes_these_calls() {
        let uuid = "11111111-2222-3333-4444-555555555556".parse().unwrap();
        let calls = create(&machine(), uuid, Path::new("/vm/win10")).unwrap();
        let lines: Vec<String> = calls.iter().map(|call| call.words().join(" ")).collect();
        let id = uuid.to_string();
        assert_eq!(
            lines,
            [
                format!(
                    "createvm --name win10 --uuid {id} --ostype Windows10_64 --basefolder /vm/win10 --register"
                ),
                format!(
                    "modifyvm {id} --cpus 2 --memory 4096 --ioapic on --rtc-use-utc off --boot1 disk --boot2 none --boot3 none \
                     --boot4 none --audio-enabled off --vrde off --clipboard-mode disabled --drag-and-drop disabled \
                     --graphicscontroller vboxsvga --hardware-uuid 99999999-2222-3333-4444-555555555556 --nic1 nat --nic-type1 \
                     82540EM --mac-address1 080027AABBCC --nat-pf1 tcp0,tcp,127.0.0.1,8080,,80 --uart1 0x3F8 4 --uart-mode1 \
                     server /run/com1 --uart2 0x2F8 3 --uart-mode2 server /run/com2 --usb-xhci on"
                ),
                format!("setextradata {id} VBoxInternal/Devices/pcbios/0/Config/DmiSystemSerial string:0123"),
                format!(
                    "storagectl {id} --name SATA --add sata --controller IntelAhci --portcount 1 --bootable on"
                ),
                "createmedium disk --filename /vm/win10/disk0.vdi --diffparent /img/win10.vdi --format VDI"
                    .into(),
                format!(
                    "storageattach {id} --storagectl SATA --port 0 --device 0 --type hdd --medium /vm/win10/disk0.vdi"
                ),
                format!(
                    "usbfilter add 0 --target {id} --name usb0 --vendorid 0403 --productid 6001 --serialnumber A1 --active yes"
                ),
                format!("sharedfolder add {id} --name data --hostpath /srv/data --automount --readonly"),
            ]
        );
    }

    #[test]
    fn what_virtualbox_cannot_give_is_refused_with_a_way_out() {
        let disk = |name: &str, format| Disk { path: name.into(), format, read_only: false };
        let cases: [(Machine, &str); 7] = [
            (
                Machine { disks: vec![disk("/a.qcow2", Format::Qcow2)], ..machine() },
                "qemu-img convert -f qcow2 -O vdi /a.qcow2 /a.vdi",
            ),
            (Machine { network: Network::Restricted, ..machine() }, "network = \"host\""),
            (Machine { network: Network::None, ..machine() }, "leave `ports` out"),
            (Machine { serial: vec![Serial::Pty], ..machine() }, "bind it to a socket"),
            (Machine { display: Display::Vnc("/vnc".into()), ..machine() }, "driver = \"qemu\""),
            (
                Machine { usb: vec!["by-path:pci-0000:00:14.0-usb-0:2".parse().unwrap()], ..machine() },
                "usb:VENDOR",
            ),
            (Machine { serial: vec![Serial::Socket("/s".into()); 5], ..machine() }, "four"),
        ];
        for (machine, way_out) in cases {
            let error = create(&machine, Uuid::of_name("x"), Path::new("/vm")).unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains(way_out)), "{error}: {:?}", error.hint());
        }
        let odd = Machine { disks: vec![disk("/a\nb.vdi", Format::Vdi)], ..machine() };
        assert!(matches!(create(&odd, Uuid::of_name("x"), Path::new("/vm")), Err(Error::Path(_))));
        assert!(matches!(create(&machine(), Uuid::of_name("x"), Path::new("vm")), Err(Error::Path(_))));
    }
}

//! A machine as QEMU's command line: nothing is run here.
//!
//! Options are those of qemu(1) 7.2 and of its QAPI reference for `-blockdev`. The guest gets what every system has drivers for:
//! AHCI disks, an Intel 82540EM network card (VirtualBox gives the same), a VGA card, 16550 serial ports.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::Error;
use crate::machine::{DISKS_MAX, Display, Format, Machine, Network, SERIAL_MAX, Serial, System};
use crate::qemu::accel::Accel;
use crate::usb::Place;

/// The name of QEMU's control socket in its folder.
pub(super) const QMP: &str = "qmp";
/// `sun_path` of unix(7) less the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// What is known only at the start.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Where QEMU works; its sockets are there.
    pub folder: &'a Path,
    /// For each disk the file that is written instead of it.
    pub overlays: &'a [PathBuf],
    /// Where each USB device is now.
    pub places: &'a [Option<Place>],
    /// A snapshot to begin with, instead of switching on.
    pub snapshot: Option<&'a str>,
}

/// The arguments.
///
/// # Errors
/// What QEMU cannot give.
pub fn arguments(machine: &Machine, given: &Given<'_>) -> Result<Vec<String>, Error> {
    check(machine)?;
    let mut words = Words(Vec::new());
    let name = escaped(&machine.name);
    words.add("-name", format!("guest={name},process=hatchway-{name}"));
    // Nothing that was not asked for, from no file.
    words.0.extend(["-nodefaults", "-no-user-config"].map(str::to_owned));
    // What QEMU's own process may not do: no other user, no other program, no other priority.
    words.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    let (accel, cpu) = match given.accel {
        Accel::Kvm => ("kvm", "host"),
        // One thread for each processor of the guest, as with KVM.
        Accel::Tcg => ("tcg,thread=multi", "max"),
    };
    words.add("-machine", "q35,vmport=off");
    words.add("-accel", accel);
    words.add("-cpu", cpu);
    words.add("-smp", machine.cpus.to_string());
    words.add("-m", format!("{}M", machine.memory_mib()));
    words.add(
        "-rtc",
        if machine.system == System::Windows { "base=localtime,driftfix=slew" } else { "base=utc" },
    );
    words.add("-chardev", format!("socket,id=qmp,path={QMP},server=off"));
    words.add("-mon", "chardev=qmp,mode=control");
    words.add("-boot", "strict=on");
    disks(machine, given, &mut words)?;
    network(machine, &mut words);
    for (number, serial) in machine.serial.iter().enumerate() {
        let back = match serial {
            Serial::Socket(path) => {
                format!("socket,id=com{number},path={},server=on,wait=off", socket(path, given.folder)?)
            }
            Serial::Pty => format!("pty,id=com{number}"),
        };
        words.add("-chardev", back);
        words.add("-serial", format!("chardev:com{number}"));
    }
    screen(machine, given, &mut words)?;
    if !machine.usb.is_empty() || machine.display != Display::None {
        words.add("-device", "qemu-xhci,id=xhci,p2=8,p3=8");
    }
    if machine.display != Display::None {
        // A pointer that is where it is pointed to, however fast the screen is drawn.
        words.add("-device", "usb-tablet,bus=xhci.0");
    }
    for (number, place) in given.places.iter().enumerate() {
        if let Some(place) = place {
            let Place { bus, port, .. } = place;
            words.add("-device", format!("usb-host,id=usb{number},bus=xhci.0,hostbus={bus},hostport={port}"));
        }
    }
    tables(machine, &mut words);
    if let Some(snapshot) = given.snapshot {
        words.add("-loadvm", snapshot);
    }
    Ok(words.0)
}

/// Options and their values.
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }
}

/// In an option's value a comma is doubled.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

/// What only VirtualBox can give, or nobody.
fn check(machine: &Machine) -> Result<(), Error> {
    let refuse = |what: &str, hint: &str| {
        Err(Error::Driver { driver: "QEMU", what: what.to_owned(), hint: hint.to_owned() })
    };
    match machine {
        _ if machine.disks.is_empty() => refuse("a guest without a disk", "name an image"),
        _ if machine.disks.len() > DISKS_MAX => refuse("more than 6 disks", "join some of them"),
        _ if machine.disks.iter().any(|disk| disk.read_only) => refuse(
            "a disk that cannot be written to",
            "leave `read_only` out: the image is not written to anyway",
        ),
        _ if machine.serial.len() > SERIAL_MAX => refuse("more than 4 serial lines", "a PC has four"),
        Machine { network: Network::None, forwards, .. } if !forwards.is_empty() => refuse(
            "ports without a network card",
            "`network = \"loopback\"` lets forwards in and nothing out",
        ),
        _ if !machine.shares.is_empty() => refuse(
            "a shared folder",
            "it would start a file server for it, which its sandbox forbids: serve the folder by a forwarded port, or `driver = \
             \"virtualbox\"`",
        ),
        _ => Ok(()),
    }
}

/// Each disk is a difference over the image, whose own format and depth are said here and looked up nowhere.
fn disks(machine: &Machine, given: &Given<'_>, words: &mut Words) -> Result<(), Error> {
    for (number, (disk, overlay)) in machine.disks.iter().zip(given.overlays).enumerate() {
        let mut base = json!({
            "node-name": format!("base{number}"),
            "driver": disk.format.name(),
            "read-only": true,
            "file": { "driver": "file", "filename": text(&disk.path)? },
        });
        if matches!(disk.format, Format::Qcow2 | Format::Vmdk) {
            // Whatever its head says: it is the last one.
            base["backing"] = serde_json::Value::Null;
        }
        let over = json!({
            "node-name": format!("disk{number}"),
            "driver": "qcow2",
            "discard": "unmap",
            "backing": format!("base{number}"),
            "file": { "driver": "file", "filename": text(overlay)? },
        });
        words.add("-blockdev", base.to_string());
        words.add("-blockdev", over.to_string());
        let boot = number + 1;
        words.add(
            "-device",
            format!("ide-hd,id=hd{number},drive=disk{number},bus=ide.{number},bootindex={boot}"),
        );
    }
    Ok(())
}

fn network(machine: &Machine, words: &mut Words) {
    let restrict = match machine.network {
        Network::None => return,
        Network::Restricted => "on",
        Network::Open => "off",
    };
    let mut back = format!("user,id=net0,restrict={restrict}");
    for forward in &machine.forwards {
        let (address, port) = (forward.listen.ip(), forward.listen.port());
        back += &format!(",hostfwd=tcp:{address}:{port}-:{}", forward.port);
    }
    words.add("-netdev", back);
    let mac = machine.identity.mac.map(|mac| format!(",mac={mac}")).unwrap_or_default();
    // Without the card's own firmware, which would look for something to boot on the network.
    words.add("-device", format!("e1000,id=nic0,netdev=net0,romfile={mac}"));
}

fn screen(machine: &Machine, given: &Given<'_>, words: &mut Words) -> Result<(), Error> {
    words.add("-device", "VGA,id=vga0");
    words.add("-display", "none");
    if let Display::Vnc(path) = &machine.display {
        words.add("-vnc", format!("unix:{}", socket(path, given.folder)?));
    }
    Ok(())
}

/// What the firmware says of the machine: SMBIOS, "System Information (Type 1)".
fn tables(machine: &Machine, words: &mut Words) {
    let identity = &machine.identity;
    if let Some(uuid) = identity.uuid {
        words.add("-uuid", uuid.to_string());
    }
    let texts = [
        ("manufacturer", &identity.manufacturer),
        ("product", &identity.product),
        ("serial", &identity.serial),
    ];
    let given: String = texts
        .iter()
        .filter_map(|(key, text)| Some(format!(",{key}={}", escaped(text.as_ref()?.as_str()))))
        .collect();
    if !given.is_empty() {
        words.add("-smbios", format!("type=1{given}"));
    }
}

/// A socket's path in an option: short where it is in QEMU's own folder, since sockets have short paths.
fn socket(path: &Path, folder: &Path) -> Result<String, Error> {
    let text = match path.strip_prefix(folder) {
        Ok(inside) => inside.to_str().map(str::to_owned).ok_or_else(|| Error::Path(path.to_owned()))?,
        Err(_) => text(path)?,
    };
    if text.len() > SOCKET_PATH_MAX {
        return Err(Error::SocketPath(path.to_owned()));
    }
    Ok(escaped(&text))
}

/// A path for QEMU: absolute, so that it is not taken for a protocol (`nbd:…`, `json:…`).
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
            name: "win,10".into(),
            cpus: 2,
            memory: (4 << 30) + 1,
            disks: vec![Disk { path: "/img/win 10,a.vmdk".into(), format: Format::Vmdk, read_only: false }],
            system: System::Windows,
            serial: vec![Serial::Socket("/run/unit/com,1".into()), Serial::Pty],
            network: Network::Restricted,
            forwards: vec!["8080:80".parse().unwrap(), "0.0.0.0:2222:22".parse().unwrap()],
            usb: vec!["usb:0403:6001:A1".parse().unwrap(), "usb:1234:5678".parse().unwrap()],
            identity: Identity {
                uuid: Some("99999999-2222-3333-4444-555555555556".parse().unwrap()),
                mac: Some("52:54:00:aa:bb:cc".parse().unwrap()),
                manufacturer: Some("ACME, Inc.".parse().unwrap()),
                serial: Some("0123".parse().unwrap()),
                ..Identity::default()
            },
            display: Display::Vnc("/elsewhere/vnc".into()),
            ..Machine::default()
        }
    }

    fn given<'a>(places: &'a [Option<Place>], overlays: &'a [PathBuf]) -> Given<'a> {
        Given { accel: Accel::Tcg, folder: Path::new("/run/unit"), overlays, places, snapshot: Some("clean") }
    }

    #[test]
    fn a_machine_becomes_this_command_line() {
        let places = [Some(Place { bus: 1, port: "2.1".into(), device: 5 }), None];
        let overlays = ["/state/disk0.qcow2".into()];
        let words = arguments(&machine(), &given(&places, &overlays)).unwrap();
        let expected = "-name guest=win,,10,process=hatchway-win,,10
-nodefaults -no-user-config
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine q35,vmport=off
-accel tcg,thread=multi
-cpu max
-smp 2
-m 4097M
-rtc base=localtime,driftfix=slew
-chardev socket,id=qmp,path=qmp,server=off
-mon chardev=qmp,mode=control
-boot strict=on
-blockdev {\"backing\":null,\"driver\":\"vmdk\",\"file\":{\"driver\":\"file\",\"filename\":\"/img/win 10,a.vmdk\"},\
\"node-name\":\"base0\",\"read-only\":true}
-blockdev {\"backing\":\"base0\",\"discard\":\"unmap\",\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\
\"filename\":\"/state/disk0.qcow2\"},\"node-name\":\"disk0\"}
-device ide-hd,id=hd0,drive=disk0,bus=ide.0,bootindex=1
-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:0.0.0.0:2222-:22
-device e1000,id=nic0,netdev=net0,romfile=,mac=52:54:00:aa:bb:cc
-chardev socket,id=com0,path=com,,1,server=on,wait=off
-serial chardev:com0
-chardev pty,id=com1
-serial chardev:com1
-device VGA,id=vga0
-display none
-vnc unix:/elsewhere/vnc
-device qemu-xhci,id=xhci,p2=8,p3=8
-device usb-tablet,bus=xhci.0
-device usb-host,id=usb0,bus=xhci.0,hostbus=1,hostport=2.1
-uuid 99999999-2222-3333-4444-555555555556
-smbios type=1,manufacturer=ACME,, Inc.,serial=0123
-loadvm clean";
        let expected: Vec<&str> = expected
            .lines()
            .flat_map(|line| match line.split_once(' ') {
                Some(("-nodefaults", last)) => vec!["-nodefaults", last],
                Some((option, value)) => vec![option, value],
                None => vec![line],
            })
            .collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn what_qemu_cannot_give_is_refused_with_a_way_out() {
        let share = Share { name: "a".into(), path: "/a".into(), read_only: true };
        let cases: [(Machine, &str); 4] = [
            (Machine { disks: vec![], ..machine() }, "name an image"),
            (Machine { shares: vec![share], ..machine() }, "virtualbox"),
            (Machine { network: Network::None, ..machine() }, "network = \"loopback\""),
            (Machine { serial: vec![Serial::Pty; 5], ..machine() }, "four"),
        ];
        let overlays = ["/o".into()];
        for (machine, way_out) in cases {
            let error = arguments(&machine, &given(&[], &overlays)).unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains(way_out)), "{error}: {:?}", error.hint());
        }
        let long = Machine { display: Display::Vnc(format!("/{}", "a".repeat(107)).into()), ..machine() };
        assert!(matches!(arguments(&long, &given(&[], &overlays)), Err(Error::SocketPath(_))));
        // The same length is no trouble in QEMU's own folder.
        let own =
            Machine { display: Display::Vnc(format!("/run/unit/{}", "a".repeat(107)).into()), ..machine() };
        assert!(arguments(&own, &given(&[], &overlays)).is_ok());
        let odd = Machine {
            disks: vec![Disk { path: "nbd:x".into(), format: Format::Raw, read_only: false }],
            ..machine()
        };
        assert!(matches!(arguments(&odd, &given(&[], &overlays)), Err(Error::Path(_))));
    }
}

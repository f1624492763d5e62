//! USB devices by names that stay the same when a device is plugged in again.
//!
//! A device's number on its bus changes with every enumeration; its port does not, nor does what the device says of itself.
//! Names are those of udev's links: `by-path:pci-0000:00:14.0-usb-0:2.1` for what is in a port (systemd's `path_id`), and
//! `usb:0403:6001:A1B2` for one device wherever it is. What the kernel tells about devices: its `sysfs-bus-usb` page.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// Devices looked at in one search; a bus has at most 127.
const DEVICES_MAX: usize = 1024;
/// Bytes of an attribute; the kernel's own bound is a page, and a device's serial number has at most 126 characters.
const ATTRIBUTE_MAX: u64 = 4096;
/// Characters of a serial number: a descriptor of 255 bytes in UTF-16.
const SERIAL_MAX: usize = 126;
/// A port behind five hubs, the most that USB allows, is `1.2.3.4.5.6`; ports have up to three digits.
const PORT_MAX: usize = 24;

/// A name that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// What the device says of itself.
    Device {
        /// Who made it.
        vendor: u16,
        /// What it is.
        product: u16,
        /// Which of them it is.
        serial: Option<String>,
    },
    /// What is in this port.
    Port {
        /// The controller's address on the PCI bus.
        controller: String,
        /// The ports on the way to it.
        port: String,
    },
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no USB device's name: usb:VENDOR:PRODUCT[:SERIAL], or by-path:pci-ADDRESS-usb-0:PORT",
                text.escape_debug()
            )
        };
        if let Some(rest) = text.strip_prefix("usb:") {
            let mut parts = rest.splitn(3, ':');
            let mut number = || {
                let part = parts.next().filter(|part| part.len() == 4)?;
                u16::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+'))
            };
            let (vendor, product) = (number().ok_or_else(wrong)?, number().ok_or_else(wrong)?);
            let serial = parts.next().map(str::to_owned);
            let fits = |serial: &String| {
                (1..=SERIAL_MAX).contains(&serial.chars().count()) && !serial.contains(char::is_control)
            };
            if !serial.as_ref().is_none_or(fits) {
                return Err(wrong());
            }
            return Ok(Self::Device { vendor, product, serial });
        }
        let rest = text.strip_prefix("by-path:pci-").ok_or_else(wrong)?;
        let (controller, rest) = rest.split_once("-usb-0:").ok_or_else(wrong)?;
        // The link of a function of the device has its number behind the port: `-usb-0:2.1:1.0-port0`.
        let port = rest.split_once(':').map_or(rest, |(port, _)| port);
        if !is_pci(controller) || !is_port(port) {
            return Err(wrong());
        }
        Ok(Self::Port { controller: controller.to_ascii_lowercase(), port: port.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { vendor, product, serial: None } => write!(f, "usb:{vendor:04x}:{product:04x}"),
            Self::Device { vendor, product, serial: Some(serial) } => {
                write!(f, "usb:{vendor:04x}:{product:04x}:{serial}")
            }
            Self::Port { controller, port } => write!(f, "by-path:pci-{controller}-usb-0:{port}"),
        }
    }
}

/// `0000:00:14.0`
fn is_pci(text: &str) -> bool {
    let hex =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts[..] else { return false };
    hex(domain, 4)
        && hex(bus, 2)
        && hex(device, 2)
        && hex(function, 1)
        && text.as_bytes().get(10) == Some(&b'.')
}

/// `2.1`
fn is_port(text: &str) -> bool {
    let number = |part: &str| {
        (1..=3).contains(&part.len())
            && !part.starts_with('0')
            && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.len() <= PORT_MAX && text.split('.').all(number)
}

/// Where a device is now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its bus.
    pub bus: u32,
    /// The ports on the way to it: `2.1`.
    pub port: String,
    /// Its number on the bus, which is another one after each enumeration.
    pub device: u32,
}

/// The device's node below `nodes` (`/dev/bus/usb`) where this user and group may not write to it: QEMU would announce the device
/// to its guest and never hand it over.
#[must_use]
pub fn closed_to(nodes: &Path, place: &Place, (uid, gid): (u32, u32)) -> Option<PathBuf> {
    const WRITE: u32 = 0o2;
    let node = nodes.join(format!("{:03}", place.bus)).join(format!("{:03}", place.device));
    let meta = fs::metadata(&node).ok()?;
    let shift = match (meta.uid() == uid, meta.gid() == gid) {
        (true, _) => 6,
        (_, true) => 3,
        _ => 0,
    };
    (uid != 0 && meta.mode() >> shift & WRITE == 0).then_some(node)
}

/// Finds the device below `/sys`; `None` where it is not plugged in.
///
/// # Errors
/// When several fit: one of them chosen by chance would be another one tomorrow.
pub fn find(sys: &Path, name: &Name) -> io::Result<Option<Place>> {
    let folder = sys.join("bus/usb/devices");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
    let mut found: Vec<Place> = Vec::new();
    for entry in entries.flatten().take(DEVICES_MAX) {
        let path = entry.path();
        let text = |attribute: &str| attribute_of(&path, attribute);
        let number = |attribute: &str| text(attribute).and_then(|text| text.parse::<u32>().ok());
        // Interfaces have no number on a bus; of a device that is just leaving, parts are missing.
        let (Some(bus), Some(device), Some(port)) = (number("busnum"), number("devnum"), text("devpath"))
        else {
            continue;
        };
        // Root hubs are the host's: their port is 0.
        if is_port(&port) && fits(&path, name, &text, &port) {
            found.push(Place { bus, port, device });
        }
    }
    found.sort();
    found.dedup();
    match &found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let list: Vec<String> = several.iter().map(|one| format!("{}-{}", one.bus, one.port)).collect();
            Err(io::Error::other(format!(
                "several fit ({}): name one by its serial number, or by-path:",
                list.join(", ")
            )))
        }
    }
}

fn fits(path: &Path, name: &Name, text: &dyn Fn(&str) -> Option<String>, port: &str) -> bool {
    match name {
        Name::Device { vendor, product, serial } => {
            let is = |attribute: &str, wanted: u16| {
                text(attribute).is_some_and(|text| u16::from_str_radix(&text, 16) == Ok(wanted))
            };
            is("idVendor", *vendor)
                && is("idProduct", *product)
                && serial.as_ref().is_none_or(|serial| text("serial").as_ref() == Some(serial))
        }
        Name::Port { controller, port: wanted } => {
            // …/0000:00:14.0/usb1/1-2/1-2.1: the folder that the link leads to lies below its controller's.
            let below = fs::canonicalize(path).is_ok_and(|path| {
                let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
                parts.windows(2).any(|pair| pair[0] == controller && pair[1].starts_with("usb"))
            });
            port == wanted && below
        }
    }
}

/// An attribute's text without the line's end; bytes that are no text are a device's own doing and match nothing.
fn attribute_of(path: &Path, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path.join(name)).ok()?.take(ATTRIBUTE_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8(bytes).ok()?.trim_end_matches('\n').to_owned())
}

/// The kernel's word that something was plugged in or out: netlink(7), `NETLINK_KOBJECT_UEVENT`, group 1.
///
/// The messages are only a reason to look again, so nothing of their content is believed. In a network namespace whose
/// owner is not the initial user namespace none arrive.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

/// The kernel's own messages; udev's are in group 2.
const KERNEL_GROUP: u32 = 1;

impl Uevents {
    /// Listens.
    ///
    /// # Errors
    /// When the kernel has no such socket.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::KOBJECT_UEVENT);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self(socket))
    }

    /// Whether something has happened since the last call. Messages that the kernel had to drop count too.
    #[must_use]
    pub fn drain(&self) -> bool {
        let mut happened = false;
        let mut buffer = [0; 8192];
        // As many as a bus has devices; the rest is for the next call.
        for _ in 0..DEVICES_MAX {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => happened = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        happened
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nodes_that_are_closed_to_a_user_are_found() {
        use std::os::unix::fs::PermissionsExt;
        let nodes = tempfile::tempdir().unwrap();
        let place = Place { bus: 1, port: "2.1".into(), device: 5 };
        assert_eq!(closed_to(nodes.path(), &place, (7, 7)), None, "it is not there");
        let node = nodes.path().join("001/005");
        fs::create_dir(nodes.path().join("001")).unwrap();
        fs::write(&node, "").unwrap();
        let (own, group) = (fs::metadata(&node).unwrap().uid(), fs::metadata(&node).unwrap().gid());
        let open = |mode: u32, user: (u32, u32)| {
            fs::set_permissions(&node, fs::Permissions::from_mode(mode)).unwrap();
            closed_to(nodes.path(), &place, user).is_none()
        };
        assert!(!open(0o664, (own + 7, group + 7)) && open(0o666, (own + 7, group + 7)));
        assert!(open(0o664, (own + 7, group)) && !open(0o644, (own + 7, group)));
    }

    /// A bus as the kernel shows it: two equal cables behind a hub, and a root hub.
    fn sys() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        plug(sys.path(), "0000:00:14.0/usb1", "usb1", &[("busnum", "1"), ("devnum", "1"), ("devpath", "0")]);
        plug(sys.path(), "0000:00:14.0/usb1/1-2/1-2.1", "1-2.1", &cable("1", "5", "2.1", "A1"));
        plug(sys.path(), "0000:00:14.0/usb1/1-2/1-2.2", "1-2.2", &cable("1", "6", "2.2", "B2"));
        plug(sys.path(), "0000:01:00.0/usb3/3-2/3-2.1", "3-2.1", &cable("3", "2", "2.1", "C3"));
        plug(sys.path(), "0000:00:14.0/usb1/1-2/1-2.1/1-2.1:1.0", "1-2.1:1.0", &[("bInterfaceNumber", "00")]);
        sys
    }

    fn cable<'a>(bus: &'a str, device: &'a str, port: &'a str, serial: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("busnum", bus),
            ("devnum", device),
            ("devpath", port),
            ("idVendor", "0403"),
            ("idProduct", "6001"),
            ("serial", serial),
        ]
    }

    fn plug(sys: &Path, place: &str, link: &str, attributes: &[(&str, &str)]) {
        let folder = sys.join("devices/pci0000:00").join(place);
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in attributes {
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
        let links = sys.join("bus/usb/devices");
        fs::create_dir_all(&links).unwrap();
        symlink(folder, links.join(link)).unwrap();
    }

    fn found(sys: &Path, name: &str) -> Option<(u32, String)> {
        find(sys, &name.parse().unwrap()).unwrap().map(|place| (place.bus, place.port))
    }

    #[test]
    fn twins_are_told_apart_by_serial_and_by_port() {
        let sys = sys();
        assert_eq!(found(sys.path(), "usb:0403:6001:B2"), Some((1, "2.2".into())));
        assert_eq!(found(sys.path(), "by-path:pci-0000:00:14.0-usb-0:2.1"), Some((1, "2.1".into())));
        // The same port of another controller, whatever its bus is called today.
        assert_eq!(found(sys.path(), "by-path:pci-0000:01:00.0-usb-0:2.1"), Some((3, "2.1".into())));
        // The link of a serial line that somebody copied from /dev/serial/by-path.
        assert_eq!(
            found(sys.path(), "by-path:pci-0000:00:14.0-usb-0:2.2:1.0-port0"),
            Some((1, "2.2".into()))
        );
        assert_eq!(found(sys.path(), "usb:0403:6001:Z9"), None);
        assert_eq!(found(sys.path(), "usb:dead:beef"), None);
        let twins = find(sys.path(), &"usb:0403:6001".parse().unwrap()).unwrap_err().to_string();
        assert!(twins.contains("several fit (1-2.1, 1-2.2, 3-2.1)"), "{twins}");
    }

    #[test]
    fn a_device_is_found_again_after_it_was_plugged_in_elsewhere() {
        let sys = sys();
        let name = "usb:0403:6001:A1".parse().unwrap();
        let before = find(sys.path(), &name).unwrap().unwrap();
        fs::remove_file(sys.path().join("bus/usb/devices/1-2.1")).unwrap();
        assert_eq!(find(sys.path(), &name).unwrap(), None);
        plug(sys.path(), "0000:00:14.0/usb1/1-4", "1-4", &cable("1", "9", "4", "A1"));
        let after = find(sys.path(), &name).unwrap().unwrap();
        assert_eq!((before.port.as_str(), after.port.as_str(), after.device), ("2.1", "4", 9));
    }

    #[test]
    fn a_machine_without_usb_has_no_devices() {
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(find(nothing.path(), &"usb:0403:6001".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn names_that_are_none() {
        let wrong = [
            "",
            "usb:",
            "usb:403:6001",
            "usb:0403:6001:",
            "usb:+403:6001",
            "by-id:x",
            "by-path:pci-0000:00:14.0-usb-0:",
            "by-path:pci-0000:00:14:0-usb-0:1",
            "by-path:pci-../..-usb-0:1",
            "by-path:pci-0000:00:14.0-usb-0:1,x=y",
            "usb:0403:6001:a\nb",
            "/dev/ttyUSB0",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernel_can_be_listened_to() {
        let uevents = Uevents::open().unwrap();
        // Root can have the kernel say it again for a device that is always there; for others it is enough to listen.
        if fs::write("/sys/class/mem/null/uevent", "change").is_ok() {
            assert!(uevents.drain());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_none(text in "(usb|by-path):[-0-9a-fA-F:.pciusb ,]{0,40}|\\PC{0,40}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}

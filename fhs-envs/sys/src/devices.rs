//! Finding device nodes by what stays the same when a device is plugged in again. Reads `/dev` and `/sys` only.
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Folders between a USB device and the node of one of its functions: interface, port, class, name.
const DEPTH_MAX: usize = 8;
/// Entries looked at in one search.
const ENTRIES_MAX: usize = 20_000;

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Where it is; no symlink.
    pub path: PathBuf,
    /// Major and minor number, as `stat` packs them.
    pub number: u64,
    /// Tells a node from one that was made anew.
    pub inode: u64,
    /// The group that may use it.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The node behind a link of this name in one of the `by-id` or `by-path` folders below `/dev`, if it is there and
/// belongs to this class (`tty`, `hidraw` …; the kernel's name).
///
/// # Errors
/// When what is there is no character device of this class, or cannot be looked at.
pub fn by_link(folder: &str, name: &str, subsystem: &str) -> io::Result<Option<Node>> {
    for kind in subfolders(Path::new("/dev")) {
        let link = kind.join(folder).join(name);
        if let Ok(path) = fs::canonicalize(&link) {
            return node(&path, subsystem).map(Some);
        }
    }
    Ok(None)
}

/// The node of a USB device's function of this class; with `usb`, the device's own.
///
/// # Errors
/// When several fit, since one of them chosen by chance would be another one tomorrow.
pub fn by_usb(vendor: u16, product: u16, serial: Option<&str>, subsystem: &str) -> io::Result<Option<Node>> {
    let names = usb_names(Path::new("/sys/bus/usb/devices"), vendor, product, serial, subsystem)?;
    let found: Vec<PathBuf> =
        names.iter().map(|name| Path::new("/dev").join(name)).filter(|path| path.exists()).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => node(one, subsystem).map(Some),
        several => {
            let list: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(io::Error::other(format!(
                "several fit ({}): name one by its serial number, or by-id: or by-path:",
                list.join(", ")
            )))
        }
    }
}

/// Folders in which something appears when a device does.
#[must_use]
pub fn folders() -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::from([PathBuf::from("/dev")]);
    for kind in subfolders(Path::new("/dev")) {
        // Terminals and shared memory come and go all the time and are never in a slot.
        if ["pts", "shm", "mqueue", "fd"].iter().any(|name| kind.ends_with(name)) {
            continue;
        }
        all.extend(subfolders(&kind));
        all.insert(kind);
    }
    let buses = Path::new("/dev/bus/usb");
    all.extend(subfolders(buses));
    all
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .take(1000)
        .collect();
    found.sort();
    found
}

fn node(path: &Path, subsystem: &str) -> io::Result<Node> {
    let wrong = |why: String| io::Error::other(format!("`{}` {why}", path.display()));
    let there = fs::symlink_metadata(path)?;
    if !there.file_type().is_char_device() {
        return Err(wrong("is not a character device".to_owned()));
    }
    let number = there.rdev();
    let link = format!(
        "/sys/dev/char/{}:{}/subsystem",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    let class = fs::read_link(link).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
    if class.as_deref() != Some(subsystem) {
        let is = class.unwrap_or_else(|| "unknown".to_owned());
        return Err(wrong(format!("is of the class `{is}`, not `{subsystem}`")));
    }
    Ok(Node {
        path: path.to_owned(),
        number,
        inode: there.ino(),
        gid: there.gid(),
        mode: there.mode() & 0o777,
    })
}

/// Names below `/dev`.
fn usb_names(
    devices: &Path,
    vendor: u16,
    product: u16,
    serial: Option<&str>,
    subsystem: &str,
) -> io::Result<BTreeSet<PathBuf>> {
    let mut names = BTreeSet::new();
    let Ok(entries) = fs::read_dir(devices) else { return Ok(names) };
    for device in entries.flatten().map(|entry| entry.path()) {
        let attribute =
            |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim().to_owned());
        let number =
            |name: &str, radix| attribute(name).and_then(|text| u16::from_str_radix(&text, radix).ok());
        let fits = number("idVendor", 16) == Some(vendor)
            && number("idProduct", 16) == Some(product)
            && serial.is_none_or(|wanted| attribute("serial").as_deref() == Some(wanted));
        if !fits {
            continue;
        }
        if subsystem == "usb" {
            if let (Some(bus), Some(at)) = (number("busnum", 10), number("devnum", 10)) {
                names.insert(PathBuf::from(format!("bus/usb/{bus:03}/{at:03}")));
            }
        } else {
            let mut budget = ENTRIES_MAX;
            functions(&fs::canonicalize(&device)?, subsystem, 0, &mut budget, &mut names);
        }
    }
    Ok(names)
}

/// Collects the names of nodes of a class below a device, but not those of devices behind it (it may be a hub).
fn functions(
    folder: &Path,
    subsystem: &str,
    depth: usize,
    budget: &mut usize,
    names: &mut BTreeSet<PathBuf>,
) {
    let class = fs::read_link(folder.join("subsystem")).ok();
    if class.is_some_and(|to| to.ends_with(subsystem)) {
        let uevent = fs::read_to_string(folder.join("uevent")).unwrap_or_default();
        let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        names.extend(name.filter(|name| !name.split('/').any(|part| part == "..")).map(PathBuf::from));
    }
    if depth == DEPTH_MAX {
        return;
    }
    for below in subfolders(folder) {
        *budget = budget.saturating_sub(1);
        if *budget == 0 {
            return;
        }
        if !below.join("idVendor").exists() {
            functions(&below, subsystem, depth + 1, budget, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A hub with two adapters of the same kind behind it, one with two ports.
    fn sysfs() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let device = |at: &str, vendor: &str, product: &str, serial: &str, number: &str| {
            put(&format!("{at}/idVendor"), vendor);
            put(&format!("{at}/idProduct"), product);
            put(&format!("{at}/serial"), serial);
            put(&format!("{at}/busnum"), "1\n");
            put(&format!("{at}/devnum"), number);
        };
        device("hw/1-2", "1d6b\n", "0002\n", "hub\n", "2\n");
        device("hw/1-2/1-2.1", "0403\n", "6001\n", "A1\n", "7\n");
        device("hw/1-2/1-2.2", "0403\n", "6001\n", "B2\n", "8\n");
        fs::create_dir_all(sys.path().join("class/tty")).unwrap();
        for (device, name) in [("1-2.1", "ttyUSB0"), ("1-2.2", "ttyUSB1"), ("1-2.2", "ttyUSB2")] {
            let tty = format!("hw/1-2/{device}/{device}:1.0/{name}/tty/{name}");
            put(&format!("{tty}/uevent"), &format!("MAJOR=188\nMINOR=0\nDEVNAME={name}\n"));
            symlink(sys.path().join("class/tty"), sys.path().join(tty).join("subsystem")).unwrap();
        }
        fs::create_dir_all(sys.path().join("bus")).unwrap();
        for (name, at) in [("1-2", "1-2"), ("1-2.1", "1-2/1-2.1"), ("1-2.2", "1-2/1-2.2")] {
            symlink(format!("../hw/{at}"), sys.path().join("bus").join(name)).unwrap();
        }
        sys
    }

    fn names(vendor: u16, product: u16, serial: Option<&str>, subsystem: &str) -> Vec<String> {
        let sys = sysfs();
        let found = usb_names(&sys.path().join("bus"), vendor, product, serial, subsystem).unwrap();
        found.iter().map(|name| name.display().to_string()).collect()
    }

    #[test]
    fn a_usb_device_is_found_by_its_serial_number() {
        assert_eq!(names(0x403, 0x6001, Some("A1"), "tty"), ["ttyUSB0"]);
        assert_eq!(names(0x403, 0x6001, Some("B2"), "tty"), ["ttyUSB1", "ttyUSB2"]);
        assert_eq!(names(0x403, 0x6001, Some("B2"), "usb"), ["bus/usb/001/008"]);
        assert!(names(0x403, 0x6001, Some("C3"), "tty").is_empty());
        assert!(names(0x403, 0x6001, Some("A1"), "hidraw").is_empty());
    }

    #[test]
    fn twins_are_all_named_and_a_hub_does_not_count_what_is_behind_it() {
        assert_eq!(names(0x403, 0x6001, None, "tty").len(), 3);
        assert!(names(0x1d6b, 2, None, "tty").is_empty());
    }

    #[test]
    fn what_is_no_device_of_the_class_is_refused() {
        assert!(node(Path::new("/dev/null"), "tty").unwrap_err().to_string().contains("class `mem`"));
        assert!(node(Path::new("/etc"), "tty").is_err());
        assert_eq!(
            node(Path::new("/dev/null"), "mem").unwrap().number,
            fs::metadata("/dev/null").unwrap().rdev()
        );
    }
}

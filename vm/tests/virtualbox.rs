//! VirtualBox: the real `VBoxManage` of Debian's unstable suite up to the driver, in an environment of Hatchway's
//! (`cargo xtask virtualbox` makes it); and a stand-in for what comes after, which says so in its name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hatchway_vm::Error;
use hatchway_vm::machine::{Disk, Format, Identity, Machine, Network, Serial, Share, System, Uuid};
use hatchway_vm::virtualbox::{Programs, Reason, State, Stopped, VirtualBox};

const LONG: Duration = Duration::from_secs(60);

fn reason(error: Error) -> Option<Reason> {
    match error {
        Error::VirtualBox(refusal) => refusal.reason,
        error => panic!("{error}"),
    }
}

/// Words of a command line in an environment variable of the verb's.
fn words(variable: &str) -> Vec<OsString> {
    let text = std::env::var(variable).expect("run `cargo xtask virtualbox`, which makes the environment");
    text.lines().map(OsString::from).collect()
}

fn disk(folder: &Path) -> PathBuf {
    let path = folder.join("brought.vdi");
    let done = Command::new("qemu-img").args(["create", "-q", "-f", "vdi"]).arg(&path).arg("16M").status();
    assert!(done.expect("qemu-img is missing: apt-get install --no-install-recommends qemu-utils").success());
    path
}

/// Everything that a machine can be given.
fn machine(folder: &Path) -> Machine {
    Machine {
        name: "acme-win10".into(),
        cpus: 2,
        memory: 512 << 20,
        disks: vec![Disk { path: disk(folder), format: Format::Vdi, read_only: false }],
        system: System::Windows,
        serial: vec![Serial::Socket(folder.join("com1")), Serial::Socket(folder.join("com2"))],
        network: Network::Open,
        forwards: vec!["127.0.0.1:8080:80".parse().unwrap(), "2222:22".parse().unwrap()],
        usb: vec!["usb:0403:6001:A1".parse().unwrap(), "usb:1234:5678".parse().unwrap()],
        shares: vec![Share { name: "data".into(), path: folder.to_owned(), read_only: true }],
        identity: Identity {
            uuid: Some("99999999-2222-3333-4444-555555555556".parse().unwrap()),
            mac: Some("08:00:27:aa:bb:cc".parse().unwrap()),
            manufacturer: Some("ACME, Inc.".parse().unwrap()),
            product: None,
            serial: Some("0123".parse().unwrap()),
        },
        ..Machine::default()
    }
}

#[test]
#[ignore = "needs an environment of 300 MB: `cargo xtask virtualbox` makes it and runs this"]
fn the_real_one_does_everything_up_to_the_driver() {
    let folder = PathBuf::from(std::env::var("HATCHWAY_VIRTUALBOX_FOLDER").unwrap());
    let programs = Programs {
        manage: words("HATCHWAY_VIRTUALBOX_MANAGE"),
        headless: words("HATCHWAY_VIRTUALBOX_HEADLESS"),
    };
    let vbox = VirtualBox::find(programs).unwrap_or_else(|error| panic!("{error}"));
    assert!(vbox.version().major >= 7, "{:?}", vbox.version());
    println!("VirtualBox {}", vbox.version().text);
    let machine = machine(&folder);
    let uuid = Uuid::of_name(&machine.name);
    // Of a run that failed.
    drop(vbox.destroy(&machine, uuid, &folder));
    let image = fs::read(&machine.disks[0].path).unwrap();
    vbox.create(&machine, uuid, &folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(vbox.machines().unwrap().contains(&("acme-win10".to_owned(), uuid)));
    let info = vbox.info(uuid).unwrap();
    let overlay = folder.join("disk0.vdi").display().to_string();
    let expected = [
        ("name", "acme-win10".to_owned()),
        ("UUID", uuid.to_string()),
        ("hardwareuuid", "99999999-2222-3333-4444-555555555556".into()),
        ("memory", "512".into()),
        ("cpus", "2".into()),
        ("rtcuseutc", "off".into()),
        ("nic1", "nat".into()),
        ("nictype1", "82540EM".into()),
        ("macaddress1", "080027AABBCC".into()),
        ("Forwarding(0)", "tcp0,tcp,127.0.0.1,8080,,80".into()),
        ("Forwarding(1)", "tcp1,tcp,127.0.0.1,2222,,22".into()),
        ("uart1", "0x03f8,4".into()),
        ("uartmode1", format!("server,{}", folder.join("com1").display())),
        ("uart2", "0x02f8,3".into()),
        ("uart3", "off".into()),
        ("SATA-0-0", overlay.clone()),
        ("xhci", "on".into()),
        ("USBFilterSerialNumber1", "A1".into()),
        ("USBFilterVendorId2", "1234".into()),
        ("SharedFolderNameMachineMapping1", "data".into()),
        ("audio_out", "off".into()),
        ("vrde", "off".into()),
        ("clipboard", "disabled".into()),
    ];
    for (key, value) in expected {
        assert_eq!(info.get(key), Some(value.as_str()), "{key}");
    }
    assert_eq!(vbox.state(uuid).unwrap(), State::Off);
    // The sockets of a later run.
    let later = Machine { serial: vec![Serial::Socket(folder.join("later-com1"))], ..machine.clone() };
    vbox.set_lines(&later, uuid).unwrap();
    let moved = vbox.info(uuid).unwrap();
    let at = format!("server,{}", folder.join("later-com1").display());
    assert_eq!((moved.get("uartmode1"), moved.get("uart1")), (Some(at.as_str()), Some("0x03f8,4")));
    // A second one of that name and number is refused, and the first stays.
    assert!(vbox.create(&machine, uuid, &folder).is_err());
    assert_eq!(vbox.state(uuid).unwrap(), State::Off);

    assert!(vbox.snapshots(uuid).unwrap().is_empty());
    vbox.snapshot(uuid, "clean").unwrap();
    vbox.snapshot(uuid, "after").unwrap();
    let names = |vbox: &VirtualBox| -> Vec<(String, usize, bool)> {
        vbox.snapshots(uuid).unwrap().into_iter().map(|s| (s.name, s.depth, s.current)).collect()
    };
    assert_eq!(names(&vbox), [("clean".to_owned(), 0, false), ("after".to_owned(), 1, true)]);
    vbox.restore(uuid, "clean").unwrap();
    vbox.delete_snapshot(uuid, "after").unwrap();
    assert_eq!(names(&vbox), [("clean".to_owned(), 0, true)]);

    let error = vbox.start(uuid).unwrap_err();
    println!("{error}\nhint: {}", error.hint().unwrap_or_default());
    assert_eq!(reason(error), Some(Reason::NoDriver));
    assert_eq!(vbox.state(uuid).unwrap(), State::Off);
    // One that does not run has ended by itself.
    assert_eq!(vbox.stop(uuid, LONG).unwrap(), Stopped::ByItself);

    vbox.destroy(&machine, uuid, &folder).unwrap();
    assert_eq!(reason(vbox.state(uuid).unwrap_err()), Some(Reason::NoMachine));
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["brought.vdi"], "what was written is still there");
    assert!(fs::read(&machine.disks[0].path).unwrap() == image, "the image was written to");
    // The same name and number again: nothing was left registered.
    vbox.create(&machine, uuid, &folder).unwrap_or_else(|error| panic!("{error}"));
    vbox.destroy(&machine, uuid, &folder).unwrap();
    // What fails on the way leaves nothing.
    let broken = Machine { cpus: 999, ..machine };
    let error = vbox.create(&broken, uuid, &folder).unwrap_err();
    assert!(error.to_string().contains("Invalid virtual CPU count: 999"), "{error}");
    assert_eq!(reason(vbox.state(uuid).unwrap_err()), Some(Reason::NoMachine));
}

/// A script that answers as VirtualBox would: it keeps a machine's state in a file. What real guests do is not in it.
const STAND_IN: &str = r#"#!/bin/sh
# Stands in for VBoxManage after the driver: a machine that is on.
cd "$(dirname "$0")" || exit 1
state=$(cat state 2>/dev/null || echo poweroff)
echo "WARNING: a stand-in says this before every answer" >&2
case "$1" in
--version) cat version;;
startvm)
    test -e refuse && { cat refuse >&2; exit 1; }
    echo running > state
    echo "VM \"$2\" has been successfully started.";;
showvminfo) printf 'name="stand-in"\nVMState="%s"\n' "$state";;
controlvm)
    test "$state" = running || { echo "VBoxManage: error: Machine '$2' is not currently running." >&2; exit 1; }
    echo "$3" >> presses
    case "$3" in
    acpipowerbutton) test -e deaf || { echo stopping > state; (sleep 1; echo poweroff > state) & };;
    poweroff) echo poweroff > state;;
    esac;;
esac
"#;

/// What `VBoxHeadless` says of a driver of another version, as reports have it.
const HEADLESS_STAND_IN: &str = "#!/bin/sh\necho 'VBoxHeadless: Error -1912 in suplibOsInit!' >&2\nexit 1\n";

struct StandIn(tempfile::TempDir);

impl StandIn {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("vboxmanage-stand-in", STAND_IN), ("vboxheadless-stand-in", HEADLESS_STAND_IN)]
        {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(folder.path().join("version"), "7.2.22r175245\n").unwrap();
        Self(folder)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn find(&self) -> Result<VirtualBox, Error> {
        let program = |name: &str| vec![self.0.path().join(name).into_os_string()];
        VirtualBox::find(Programs {
            manage: program("vboxmanage-stand-in"),
            headless: program("vboxheadless-stand-in"),
        })
    }
}

#[test]
fn with_a_stand_in_a_guest_is_started_and_ends_by_its_power_button() {
    let stand_in = StandIn::new();
    let (vbox, uuid) = (stand_in.find().unwrap(), Uuid::of_name("x"));
    // One that does not run has ended by itself.
    assert_eq!(vbox.stop(uuid, LONG).unwrap(), Stopped::ByItself);
    vbox.start(uuid).unwrap();
    assert_eq!(vbox.state(uuid).unwrap(), State::Running);
    assert!(!vbox.until_off(uuid, Duration::from_millis(10)).unwrap());
    assert_eq!(vbox.stop(uuid, LONG).unwrap(), Stopped::ByItself);
    assert_eq!(vbox.state(uuid).unwrap(), State::Off);
}

#[test]
fn with_a_stand_in_a_deaf_guest_is_switched_off() {
    let stand_in = StandIn::new();
    stand_in.put("deaf", "");
    let (vbox, uuid) = (stand_in.find().unwrap(), Uuid::of_name("x"));
    vbox.start(uuid).unwrap();
    assert_eq!(vbox.stop(uuid, Duration::from_millis(700)).unwrap(), Stopped::Forced);
    let presses = fs::read_to_string(stand_in.0.path().join("presses")).unwrap();
    assert_eq!(presses, "acpipowerbutton\npoweroff\n");
}

#[test]
fn with_a_stand_in_reasons_are_found_where_they_are_said() {
    let stand_in = StandIn::new();
    let uuid = Uuid::of_name("x");
    // As Linux 6.12 and later with KVM loaded: NixOS/nixpkgs#363887.
    stand_in.put(
        "refuse",
        "VBoxManage: error: VirtualBox can't operate in VMX root mode. (VERR_VMX_IN_VMX_ROOT_MODE)\n",
    );
    let error = stand_in.find().unwrap().start(uuid).unwrap_err();
    assert!(error.hint().unwrap().contains("modprobe -r kvm_intel"), "{error}");
    assert_eq!(reason(error), Some(Reason::HeldByKvm));
    // `startvm` does not say why; `VBoxHeadless` does.
    stand_in.put("refuse", "VBoxManage: error: The virtual machine 'x' has terminated unexpectedly during startup with exit code 1 (0x1)\n");
    let error = stand_in.find().unwrap().start(uuid).unwrap_err();
    assert_eq!(reason(error), Some(Reason::DriverVersion));
}

#[test]
fn a_virtualbox_that_is_old_missing_or_none_is_said() {
    let stand_in = StandIn::new();
    stand_in.put("version", "6.1.50r161033\n");
    let error = stand_in.find().unwrap_err();
    assert_eq!(error.to_string(), "VirtualBox is 6.1.50r161033, and Hatchway drives 7.0 and later");
    stand_in.put("version", "usage: something else\n");
    assert!(matches!(stand_in.find(), Err(Error::VirtualBox(_))));
    let none = Programs { manage: vec!["/nonexistent/VBoxManage".into()], ..Programs::default() };
    let error = VirtualBox::find(none).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("apt-get install")), "{error}");
}

//! Guests on the QEMU of this machine, in software: what is started, and what it sees. The guest is `tests/fixtures/com1-guest`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "folders of the test's own, no store's")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hatchway_vm::Error;
use hatchway_vm::machine::{Disk, Display, Format, Identity, Machine, Network, Serial};
use hatchway_vm::qemu_image::{Accel, Ended, Fault, Guest, Start, Why, overlay};
use rustix::process::{Pid, Signal, kill_process};

/// A guest starts within a second or two; other tests run beside it.
const LONG: Duration = Duration::from_secs(60);

/// A folder with a disk.
struct Bench {
    folder: tempfile::TempDir,
    machine: Machine,
    user: Option<(u32, u32)>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/com1-guest/build.sh");
        let disk = folder.path().join("disk.raw");
        let built = Command::new("sh").arg(build).arg(&disk).status().unwrap();
        assert!(built.success(), "is gcc missing? apt-get install --no-install-recommends gcc");
        let machine = Machine {
            name: "acme".into(),
            memory: 32 << 20,
            disks: vec![Disk { path: disk, format: Format::Raw, read_only: false }],
            serial: vec![Serial::Socket(folder.path().join("com1"))],
            ..Machine::default()
        };
        Self { folder, machine, user: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fresh(&self) -> Vec<PathBuf> {
        overlay::fresh(&self.machine.disks, self.folder.path(), self.user).unwrap()
    }

    fn start(&self, overlays: &[PathBuf], snapshot: Option<&str>) -> Result<Guest, Error> {
        Guest::start(&Start {
            machine: &self.machine,
            accel: Accel::Tcg,
            folder: self.folder.path(),
            overlays,
            snapshot,
            user: self.user,
            program: Path::new("qemu-system-x86_64"),
            sys: &self.path("sys"),
        })
    }

    /// What the guest says at its start, and the line to it.
    fn boot(&self, overlays: &[PathBuf]) -> (Guest, Line) {
        let guest = self.start(overlays, None).unwrap_or_else(|error| panic!("{error}\n{:?}", error.hint()));
        (guest, Line::to(&self.path("com1")))
    }
}

/// The guest's serial line.
struct Line(UnixStream);

impl Line {
    fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(stream)
    }

    fn read(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\n") {
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "after {:?}", String::from_utf8_lossy(&bytes));
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn ask(&mut self, letter: u8) -> String {
        self.0.write_all(&[letter]).unwrap();
        self.read()
    }
}

fn ended(guest: &mut Guest) -> Ended {
    guest.wait(LONG).unwrap().expect("it does not end")
}

#[test]
fn a_guest_ends_by_its_power_button_and_its_image_stays() {
    let bench = Bench::new();
    let image = fs::read(&bench.machine.disks[0].path).unwrap();
    for _ in 0..2 {
        // Thrown away: each run is the first.
        let (mut guest, mut line) = bench.boot(&bench.fresh());
        assert_eq!(line.read(), "com1-guest: start 1");
        let (ended, by_itself) = guest.stop(LONG).unwrap();
        assert_eq!(line.read(), "power button");
        assert!(by_itself, "{ended:?}");
        assert_eq!((ended.why, ended.code, ended.said.as_str()), (Why::Guest, Some(0), ""));
    }
    assert!(fs::read(&bench.machine.disks[0].path).unwrap() == image, "the image was written to");
}

#[test]
fn a_kept_disk_is_gone_on_with() {
    let bench = Bench::new();
    let state = bench.path("state");
    fs::create_dir(&state).unwrap();
    for start in 1..=2 {
        let overlays = overlay::kept(
            &bench.machine.disks,
            &["acme 1".into()],
            overlay::Place { disks: &state, notes: &state },
            None,
        )
        .unwrap();
        let (mut guest, mut line) = bench.boot(&overlays);
        assert_eq!(line.read(), format!("com1-guest: start {start}"));
        assert_eq!(line.ask(b'o'), "off");
        assert_eq!(ended(&mut guest).why, Why::Guest);
    }
    // Two guests at once would write over each other's disk.
    let overlays = overlay::kept(
        &bench.machine.disks,
        &["acme 1".into()],
        overlay::Place { disks: &state, notes: &state },
        None,
    )
    .unwrap();
    let (_guest, _line) = bench.boot(&overlays);
    let error = bench.start(&overlays, None).unwrap_err();
    assert!(matches!(error, Error::Qemu(Fault::Start(_))), "{error}");
    assert_eq!(error.hint().as_deref(), Some("the guest runs already, or another program has its disk open"));
}

#[test]
fn formats_of_images_are_read_as_they_are_named() {
    for format in ["qcow2", "vdi", "vmdk"] {
        let mut bench = Bench::new();
        let path = bench.path(&format!("disk.{format}"));
        let done = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args([&bench.machine.disks[0].path, &path])
            .status()
            .expect("qemu-img is missing: apt-get install --no-install-recommends qemu-utils");
        assert!(done.success());
        bench.machine.disks[0] = Disk { path, format: format.parse().unwrap(), read_only: false };
        let (mut guest, mut line) = bench.boot(&bench.fresh());
        assert_eq!(line.read(), "com1-guest: start 1", "{format}");
        assert_eq!(line.ask(b'o'), "off");
        assert_eq!(ended(&mut guest).why, Why::Guest);
    }
}

#[test]
fn a_deaf_guest_is_switched_off_when_its_time_is_over() {
    let bench = Bench::new();
    let (mut guest, mut line) = bench.boot(&bench.fresh());
    line.read();
    assert_eq!(line.ask(b'd'), "deaf");
    let (ended, by_itself) = guest.stop(Duration::from_secs(1)).unwrap();
    assert_eq!((by_itself, ended.signal), (false, Some(9)));
    assert_eq!(line.read(), "power button");
}

#[test]
fn a_licences_identity_is_what_the_guest_sees() {
    let mut bench = Bench::new();
    bench.machine.identity = Identity {
        uuid: Some("99999999-2222-3333-4444-555555555556".parse().unwrap()),
        mac: Some("52:54:00:12:34:56".parse().unwrap()),
        manufacturer: Some("ACME, Inc.".parse().unwrap()),
        product: None,
        serial: Some("SN,0=1".parse().unwrap()),
    };
    let (mut guest, mut line) = bench.boot(&bench.fresh());
    line.read();
    assert_eq!(line.ask(b'i'), "identity ACME, Inc.|SN,0=1|99999999-2222-3333-4444-555555555556");
    assert_eq!(guest.mac().unwrap(), bench.machine.identity.mac);
}

#[test]
fn a_snapshot_brings_memory_and_disk_back() {
    let bench = Bench::new();
    let overlays = bench.fresh();
    let (mut guest, mut line) = bench.boot(&overlays);
    assert_eq!(line.read(), "com1-guest: start 1");
    assert_eq!(line.ask(b'c'), "count 1");
    guest.snapshot("one").unwrap();
    assert_eq!(line.ask(b'c'), "count 2");
    // It goes on counting, from the disk too.
    assert_eq!(line.ask(b'r'), "again");
    assert_eq!(line.read(), "com1-guest: start 2");
    guest.restore("one").unwrap();
    assert_eq!(line.ask(b'c'), "count 2");
    assert_eq!(guest.snapshots().unwrap(), ["one"]);
    let again = guest.restore("two").unwrap_err();
    assert!(again.to_string().starts_with("QEMU refuses `snapshot-load`: "), "{again}");
    assert!(matches!(guest.snapshot("a b"), Err(Error::SnapshotName(_))));
    drop(guest);
    // A new process can begin with it.
    let mut guest = bench.start(&overlays, Some("one")).unwrap();
    let mut line = Line::to(&bench.path("com1"));
    assert_eq!(line.ask(b'c'), "count 2");
    guest.delete_snapshot("one").unwrap();
    assert!(guest.snapshots().unwrap().is_empty());
    drop(guest);
    let error = bench.start(&overlays, Some("one")).unwrap_err();
    assert!(matches!(error, Error::Qemu(Fault::Start(_))), "{error}");
}

#[test]
fn whoever_kills_qemu_or_its_parent_leaves_nothing_behind() {
    let bench = Bench::new();
    let (mut guest, mut line) = bench.boot(&bench.fresh());
    line.read();
    let pid = Pid::from_raw(guest.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let end = ended(&mut guest);
    assert_eq!((end.why, end.signal), (Why::Unknown, Some(9)));
    // Let go of, a guest is gone at once.
    let (guest, _line) = bench.boot(&bench.fresh());
    let process = PathBuf::from(format!("/proc/{}", guest.pid()));
    assert!(process.exists());
    drop(guest);
    assert!(!process.exists());
    // QEMU ends with the thread that has started it, as it does with a process that is killed.
    let bench = std::sync::Arc::new(bench);
    let other = std::sync::Arc::clone(&bench);
    let mut guest = std::thread::spawn(move || other.boot(&other.fresh()).0).join().unwrap();
    assert_eq!(ended(&mut guest).why, Why::Asked);
}

#[test]
fn qemu_is_a_user_of_its_own_behind_its_sandbox() {
    let mut bench = Bench::new();
    // Others than root can only be themselves.
    let (uid, gid) = if rustix::process::geteuid().is_root() { (12_345, 12_346) } else { own_ids() };
    bench.user = Some((uid, gid));
    std::os::unix::fs::chown(bench.folder.path(), Some(uid), Some(gid)).unwrap();
    let overlays = bench.fresh();
    let (mut guest, mut line) = bench.boot(&overlays);
    assert_eq!(line.read(), "com1-guest: start 1");
    let status = fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("Uid:"), vec![uid.to_string(); 4].join("\t"));
    assert_eq!(field("Gid:"), vec![gid.to_string(); 4].join("\t"));
    // prctl(2), `PR_GET_SECCOMP`: 2 is a filter.
    assert_eq!((field("Seccomp:"), field("CapEff:")), ("2", "0000000000000000"));
    // Its snapshots and its end need nothing that the sandbox forbids.
    guest.snapshot("one").unwrap();
    assert!(guest.stop(LONG).unwrap().1);
}

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[test]
fn screens_ports_and_terminals_are_where_they_were_asked_for() {
    let mut bench = Bench::new();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    bench.machine.network = Network::Restricted;
    bench.machine.forwards = vec![format!("{port}:80").parse().unwrap()];
    bench.machine.display = Display::Vnc(bench.path("vnc"));
    bench.machine.serial.push(Serial::Pty);
    let (mut guest, mut line) = bench.boot(&bench.fresh());
    line.read();
    // The guest has no driver of a network card: somebody listens, and that is all that can be seen.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let terminals = guest.terminals().unwrap();
    assert_eq!(terminals.len(), 2);
    let terminal = terminals[1].as_ref().unwrap();
    assert!(
        terminals[0].is_none() && fs::metadata(terminal).unwrap().file_type().is_char_device(),
        "{terminals:?}"
    );
    // RFC 6143, "ProtocolVersion": a VNC server speaks first.
    let mut vnc = UnixStream::connect(bench.path("vnc")).unwrap();
    let mut hello = [0; 12];
    vnc.read_exact(&mut hello).unwrap();
    assert!(hello.starts_with(b"RFB 003."), "{hello:?}");
    let screen = fs::read(guest.screenshot().unwrap()).unwrap();
    assert!(screen.starts_with(b"\x89PNG"));
    // A second guest on the same port says so before it runs.
    let other = Bench { folder: tempfile::tempdir().unwrap(), machine: bench.machine.clone(), user: None };
    let error = other.start(&other.fresh(), None).unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("another program listens there"), "{error}");
}

#[test]
fn a_qemu_that_is_not_there_or_does_not_speak_is_said() {
    let bench = Bench::new();
    let overlays = bench.fresh();
    let start = |program: &str| {
        let begin = Start {
            machine: &bench.machine,
            accel: Accel::Tcg,
            folder: bench.folder.path(),
            overlays: &overlays,
            snapshot: None,
            user: None,
            program: Path::new(program),
            sys: Path::new("/sys"),
        };
        Guest::start(&begin).unwrap_err()
    };
    let error = start("/nonexistent/qemu");
    assert!(error.hint().is_some_and(|hint| hint.contains("apt-get install")), "{error}");
    let began = Instant::now();
    assert_eq!(start("false").to_string(), "QEMU ends at its start and does not say why");
    assert!(began.elapsed() < LONG);
}

#[test]
fn usb_devices_are_followed_by_their_names() {
    // No device is real here: what the kernel would tell is written to a folder, and QEMU is asked for a device that it
    // does not find, which it takes as one that may still come.
    let mut bench = Bench::new();
    bench.machine.usb = vec!["usb:0403:6001:A1".parse().unwrap()];
    let plug = |name: &str, device: &str, port: &str| {
        let folder = bench.path("sys/bus/usb/devices").join(name);
        fs::create_dir_all(&folder).unwrap();
        let attributes = [
            ("busnum", "9"),
            ("devnum", device),
            ("devpath", port),
            ("idVendor", "0403"),
            ("idProduct", "6001"),
            ("serial", "A1"),
        ];
        for (attribute, value) in attributes {
            fs::write(folder.join(attribute), format!("{value}\n")).unwrap();
        }
        folder
    };
    let (mut guest, mut line) = bench.boot(&bench.fresh());
    line.read();
    assert!(guest.follow_usb().unwrap().is_empty());
    let first = plug("9-1", "4", "1");
    assert_eq!(guest.follow_usb().unwrap(), ["`usb:0403:6001:A1` is plugged in, at 9-1"]);
    assert!(guest.follow_usb().unwrap().is_empty());
    // It enumerates again in its port, then moves to another one, then is gone.
    fs::write(first.join("devnum"), "5\n").unwrap();
    assert_eq!(guest.follow_usb().unwrap(), ["`usb:0403:6001:A1` is plugged in, at 9-1"]);
    fs::remove_dir_all(&first).unwrap();
    let second = plug("9-2.3", "6", "2.3");
    assert_eq!(guest.follow_usb().unwrap(), ["`usb:0403:6001:A1` is plugged in, at 9-2.3"]);
    fs::remove_dir_all(&second).unwrap();
    assert_eq!(guest.follow_usb().unwrap(), ["`usb:0403:6001:A1` is unplugged"]);
    assert_eq!(line.ask(b'c'), "count 1");
}

use std::cell::Cell;

use hatchway_wire::ExitReason;
use hatchway_wire::exit::Short;
use proptest::prelude::*;

use super::subjects::{kinds, signatures};
use super::*;

/// A machine that answers what a test wants to hear.
#[derive(Default)]
struct Fake {
    listener: Option<(u16, &'static str)>,
    there: &'static [&'static str],
    holder: Option<&'static str>,
    clock: Option<&'static str>,
    lacks: Option<&'static str>,
    asked: Cell<bool>,
}

impl Host for Fake {
    fn listener(&self, port: u16) -> Option<String> {
        self.listener.filter(|(own, _)| *own == port).map(|(_, who)| who.to_owned())
    }
    fn exists(&self, path: &str) -> Option<bool> {
        self.asked.set(true);
        Some(self.there.contains(&path))
    }
    fn holder(&self, _: &str) -> Option<String> {
        self.holder.map(str::to_owned)
    }
    fn free_bytes(&self) -> Option<u64> {
        Some(3_000_000)
    }
    fn clock(&self) -> Option<String> {
        self.clock.map(str::to_owned)
    }
    fn processor_has(&self, flag: &str) -> Option<bool> {
        Some(self.lacks != Some(flag))
    }
}

fn said(text: &str) -> Vec<Said> {
    text.lines().map(|line| Said { ours: false, text: line.to_owned() }).collect()
}

fn failed(code: i32, text: &str) -> Evidence {
    let words = Words { known: true, network: Net::Host, ..Words::default() };
    let standing = Standing::Ended(ExitReason::Exit { code });
    Evidence { unit: "acme".to_owned(), standing, lines: said(text), words, ..Evidence::default() }
}

fn first(evidence: &Evidence, host: &dyn Host) -> (&'static str, String) {
    let cause = diagnose(evidence, host).swap_remove(0);
    (cause.code, cause.says)
}

#[test]
fn tables_fit_together() {
    let mut codes: Vec<&str> = kinds().map(|kind| kind.code).collect();
    let count = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), count, "a code is there twice");
    for kind in kinds() {
        assert!(kind.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", kind.code);
        assert!(kind.means.ends_with('.') && !kind.says.ends_with('.'), "{}", kind.code);
        assert!(kind.says.matches("{}").count() <= 1 && !kind.means.contains("{}"), "{}", kind.code);
    }
    for signature in signatures() {
        assert!(codes.binary_search(&signature.code).is_ok(), "{}", signature.code);
        assert!((1..=9).contains(&signature.strength), "{}", signature.code);
        let groups = signature.also.iter().copied().chain([signature.any, signature.unless]);
        for pattern in groups.flatten() {
            let literal = pattern.replace("{}", "").replace(['*', '~'], "");
            assert!(!literal.trim().is_empty() && !literal.contains('{'), "{}: {pattern}", signature.code);
            assert_eq!(pattern.to_ascii_lowercase(), **pattern, "{}", signature.code);
        }
    }
}

#[test]
fn a_tool_that_goes_on_after_an_error_has_not_ended_for_it() {
    let log = "acme: warning: cannot open /etc/acme.conf: No such file or directory, using defaults\n\
               acme: ready\nacme: block 1\nacme: write /data/a.h5: No space left on device\nacme: stopping\n\
               acme: unlink /run/acme.pid: No such file or directory";
    let (code, says) = first(&failed(3, log), &Nothing);
    assert_eq!((code, says.contains("/data/a.h5")), ("disk-full", true), "{says}");
    // Where nothing else is there, nothing is made of it.
    let log = "acme: warning: cannot open /etc/acme.conf: No such file or directory, using defaults\n\
               acme: ready\nacme: block 1\nacme: block 2\ninterlock 7 open";
    let causes = diagnose(&failed(3, log), &Nothing);
    assert_eq!((causes[0].code, causes[0].confidence), ("unknown", Confidence::Guess), "{causes:?}");
    assert!(causes[0].says.contains("interlock 7 open"), "{causes:?}");
}

#[test]
fn the_machine_and_the_recipe_make_words_more_exact() {
    let host = Fake { listener: Some((5025, "`other` (process 7)")), ..Fake::default() };
    let mut evidence = failed(1, "connect to 127.0.0.1:5025: Connection refused");
    assert_eq!(first(&evidence, &host).0, "connection-refused");
    evidence.words.network = Net::Loopback;
    assert_eq!(
        first(&evidence, &host),
        ("network-closed", "its sandbox does not let it reach 127.0.0.1:5025".to_owned())
    );
    evidence.words.network = Net::Allow(vec!["10.0.0.5:5025".to_owned()]);
    evidence.lines = said("connect to 10.0.0.6:5025: Connection timed out");
    assert_eq!(first(&evidence, &host).0, "network-closed");
    evidence.lines = said("connect to 10.0.0.5:5025: Connection timed out");
    assert_eq!(first(&evidence, &host).0, "connection-timeout");
    // Who has the port.
    let causes = diagnose(&failed(1, "bind 0.0.0.0:5025: Address already in use"), &host);
    let shown = causes[0].evidence.iter().find(|shown| shown.source == Source::Host).unwrap();
    assert_eq!(shown.text, "`other` (process 7) listens there now");
    // A file of the machine's that the tool does not see; of a path that trees have, nobody is asked.
    let host = Fake { there: &["/srv/scans/a.mdf"], ..Fake::default() };
    assert_eq!(
        first(&failed(1, "cannot open /srv/scans/a.mdf: No such file or directory"), &host).0,
        "path-hidden"
    );
    let host = Fake { there: &["/usr/share/x"], ..Fake::default() };
    assert_eq!(
        first(&failed(1, "cannot open /usr/share/x: No such file or directory"), &host).0,
        "missing-file"
    );
    assert!(!host.asked.get());
    // A device slot that nobody has bound.
    let mut evidence = failed(1, "open /dev/stage: No such file or directory");
    assert_eq!(first(&evidence, &Nothing).0, "device-missing");
    evidence.words.devices =
        vec![Slot { name: "stage".to_owned(), at: "/dev/stage".to_owned(), bound: None }];
    assert_eq!(first(&evidence, &Nothing).0, "slot-not-bound");
    // A clock that cannot be right comes before what fails by it.
    let host = Fake { clock: Some("it says 1970-01-01"), ..Fake::default() };
    assert_eq!(first(&failed(1, "TLS: certificate is not yet valid"), &host).0, "clock-wrong");
    let host = Fake { lacks: Some("avx2"), holder: Some("`x` (process 1)"), ..Fake::default() };
    let mut evidence = failed(1, "");
    evidence.standing = Standing::Ended(ExitReason::Signal { signal: 4, core: false });
    assert!(first(&evidence, &host).1.contains("no avx2"));
}

#[test]
fn a_number_of_an_error_means_what_its_text_means() {
    for (log, code, thing) in [
        ("scpi.cc:97] bind [::]:5025 errno=98", "port-in-use", "5025"),
        ("listen tcp :8080 failed, os error 98", "port-in-use", "8080"),
        ("store: cannot append /data/x.h5 (errno 28)", "disk-full", "/data/x.h5"),
        ("acme: accept failed: error 24", "too-many-open-files", ""),
        ("open /home/user/x.key: os error 2", "missing-file", "/home/user/x.key"),
        ("connect to 10.0.0.5:5025: errno=111", "connection-refused", "10.0.0.5:5025"),
        ("rename /tmp/c.db -> /opt/x/c.db: errno=30", "read-only", "/opt/x/c.db"),
        ("writer: /data/s.raw: write failed (27)", "file-size-limit", "/data/s.raw"),
        ("libusb_open failed, -3", "device-permission", ""),
        ("axis 3: fault, error 24", "unknown", "error 24"),
        ("write block 17: code 28, see the manual", "unknown", "code 28"),
    ] {
        let (found, says) = first(&failed(1, log), &Nothing);
        assert!(found == code && says.contains(thing), "{log}: {found}, {says}");
    }
    // The loader's record has the library; why it could not be opened is in its line.
    let loader = |why: &str| {
        let line = format!(
            "x: error while loading shared libraries: libc.so.6: cannot open shared object file: {why}"
        );
        let library = "libc.so.6".to_owned();
        let standing = Standing::Ended(ExitReason::MissingLibrary { library });
        first(&Evidence { standing, ..failed(127, &line) }, &Nothing).0
    };
    assert_eq!(loader("Error 24"), "too-many-open-files");
    assert_eq!(loader("Permission denied"), "permission-denied");
    assert_eq!(loader("No such file or directory"), "missing-library");
}

#[test]
fn no_room_at_usb_is_no_full_disk() {
    for (log, code, thing) in [
        ("/dev/video2: VIDIOC_STREAMON: No space left on device", "usb-bandwidth", "/dev/video2"),
        (
            "opened /dev/video1\nSTREAMON failed\nerrno: No space left on device",
            "usb-bandwidth",
            "/dev/video1",
        ),
        ("uvc: usb_submit_urb returned -28", "usb-bandwidth", ""),
        ("write /media/usb0/x.raw: No space left on device", "disk-full", "/media/usb0/x.raw"),
        (
            "camera /dev/video0 opened\nsaving /data/f1.tif: No space left on device",
            "disk-full",
            "/data/f1.tif",
        ),
    ] {
        let (found, says) = first(&failed(1, log), &Nothing);
        assert!(found == code && says.contains(thing), "{log}: {found}, {says}");
    }
    let says = first(&failed(1, "cat: write error on /dev/full: No space left on device"), &Nothing).1;
    assert!(!says.contains("/dev/"), "{says}");
}

#[test]
fn a_device_that_has_worked_is_lost_and_another_is_missing() {
    for (log, code) in [
        ("frame 100\nframe 200\nread failed: No such device", "device-lost"),
        ("opened /dev/ttyUSB0\npos 1.25\nopen /dev/ttyUSB0: No such file or directory", "device-lost"),
        ("1024 samples received\nlibusb transfer failed: rc=-4", "device-lost"),
        ("/dev/video0: VIDIOC_DQBUF: No such device", "device-lost"),
        ("/dev/video0: streaming, 4 buffers\nopen /dev/video2: No such device", "device-missing"),
        ("temp 21.3 C\ntemp 21.4 C\nsensor: ENODEV", "device-lost"),
        ("link /dev/hidraw0 ok\nhid /dev/hidraw0: No such device", "device-lost"),
        ("attempt 1 of 2\nattempt 2 of 2\nsensor: ENODEV", "device-missing"),
        ("no frames yet, waiting\ndevice not connected", "device-missing"),
        ("opened /var/lib/acme/table\ndevice not connected", "device-missing"),
        ("frame rate 30 fps\n12 samples per channel requested\ndevice not connected", "device-missing"),
        ("connected to the display\ncould not open /dev/ttyUSB3: No such device", "device-missing"),
    ] {
        assert_eq!(first(&failed(1, log), &Nothing).0, code, "{log}");
    }
}

#[test]
fn forms_of_shells_and_of_go_decide() {
    let x509 =
        "Get \"https://lims.x.org/a\": x509: certificate has expired or is not yet valid: current time";
    let (before, after) = (format!("{x509} T is before T2"), format!("{x509} T is after T2"));
    for (log, code, thing) in [
        ("/usr/bin/dash: 1: LIMS_URL: put it into site.env", "variable-missing", "LIMS_URL"),
        ("env: 'acme-convert': No such file or directory", "program-missing", "acme-convert"),
        ("/usr/bin/env: ‘python3’: No such file or directory", "interpreter-missing", "python3"),
        (before.as_str(), "certificate-not-yet-valid", "lims.x.org"),
        (after.as_str(), "certificate-expired", "lims.x.org"),
        ("cp: cannot copy '/tmp/a' to '/srv/b': Permission denied", "permission-denied", "/srv/b"),
    ] {
        let causes = diagnose(&failed(1, log), &Nothing);
        assert!(causes[0].code == code && causes[0].says.contains(thing), "{log}: {causes:?}");
    }
    assert!(diagnose(&failed(1, &before), &Nothing).iter().all(|cause| cause.code != "certificate-expired"));
}

#[test]
fn what_hatchway_knows_comes_before_what_a_log_says() {
    let mut evidence = failed(1, "license expired");
    evidence.standing = Standing::Ended(ExitReason::Oom { kills: 1 });
    evidence.words.memory = Some("64M".to_owned());
    let causes = diagnose(&evidence, &Nothing);
    assert_eq!((causes[0].code, causes[0].confidence), ("memory-limit", Confidence::Certain));
    assert!(
        causes[0].says.contains("64M")
            && causes[0].evidence.iter().any(|shown| shown.source == Source::Recipe)
    );
    // Whose limit it was.
    let group = Short::Group { path: "/hatchway.slice".to_owned() };
    for (short, code) in [
        (Short::Unit, "memory-limit"),
        (group, "group-memory-limit"),
        (Short::Machine, "machine-memory"),
        (Short::Other, "memory-limit"),
    ] {
        evidence.short = Some(short);
        assert_eq!(diagnose(&evidence, &Nothing)[0].code, code);
    }
    // A code of 137 alone is no lack of memory.
    assert_eq!(first(&failed(137, "solving"), &Nothing).0, "killed");
    evidence.standing =
        Standing::Running { late: Some("not ready after 3 s: looked for `up`".to_owned()), unhealthy: false };
    evidence.lines = said("listening on port 5026");
    evidence.words.ready_port = Some(5025);
    assert_eq!(first(&evidence, &Nothing).0, "ready-elsewhere");
    evidence.lines = said("warming up");
    assert_eq!(
        first(&evidence, &Nothing),
        ("not-ready", "it runs, and was not ready in time: looked for `up`".to_owned())
    );
}

#[test]
fn nothing_that_a_tool_says_steers_a_terminal_or_takes_long() {
    let mut text = "\u{1b}[31mERROR\u{1b}[0m open '/x\u{7}\u{202e}y': No such file or directory\n".to_owned();
    text.push_str(&"license ".repeat(200_000));
    let causes = diagnose(&failed(1, &text), &Nothing);
    let all = format!("{causes:?}");
    assert!(!all.contains("\\u{1b}") && !all.contains("\\u{7}") && !all.contains("\\u{202e}"), "{all}");
    assert!(causes.iter().all(|cause| cause.says.len() <= 2 * evidence::LINE_BYTES_MAX), "{all}");
}

#[test]
fn a_name_that_a_shell_would_take_for_more_is_in_no_command() {
    let causes = diagnose(&failed(1, "cannot open '/x/$(reboot)': No such file or directory"), &Nothing);
    assert!(
        causes[0].says.contains("/x/$(reboot") && !causes[0].next.iter().any(|line| line.contains("reboot"))
    );
}

fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "license",
        "server",
        "/dev/ttyUSB0",
        "No such file or directory",
        "'",
        "\"",
        "://",
        ":",
        "@",
        "27000@",
        "port",
        "error",
        "expired",
        "\u{1b}[",
        "é",
        "…",
        "\u{0}",
        "{}",
        "*",
        "~",
        "10.0.0.1",
        "x:99999",
        "connection refused",
        "display",
        "(",
        ")",
    ]);
    let words = prop::collection::vec(prop_oneof![word.prop_map(str::to_owned), any::<String>()], 0..8);
    words.prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn whatever_is_said_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), lines in prop::collection::vec(line(), 0..12), code in 0..256_i32) {
        let mut lines: Vec<Said> = lines.into_iter().map(|text| Said { ours: false, text }).collect();
        lines.push(Said { ours: false, text: String::from_utf8_lossy(&bytes).into_owned() });
        let evidence = Evidence { lines, ..failed(code, "") };
        let causes = diagnose(&evidence, &Fake::default());
        prop_assert!((1..=CAUSES_MAX).contains(&causes.len()));
        for cause in &causes {
            let shown = cause.evidence.iter().map(|shown| &shown.text);
            for text in shown.chain([&cause.says]).chain(&cause.next) {
                prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    }
}

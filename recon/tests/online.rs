//! The online service as its users have it: the program, a source, subscribers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod desk;
mod service;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use hatchway_recon::online::{Counts, Door, Seen, Stop, Watcher, serve};
use hatchway_recon::run::read_plan;
use hatchway_wire::frames::{Head, Kind};
use service::{Service, scanned, slow};

/// All images until one of the frame of this number.
fn until(watcher: &mut Watcher<'_>, last: u64) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        let seen = watcher.image().unwrap().expect("the service ended");
        let is_last = seen.head.number == last;
        all.push(seen);
        if is_last {
            return all;
        }
    }
}

#[test]
fn images_are_those_of_the_file() {
    let desk = scanned();
    desk.change("serve-2d.toml", "policy = \"newest\"", "policy = \"every\"");
    desk.change("reconstruct-2d.toml", "average = 20", "average = 1");
    desk.change("reconstruct-2d.toml", "background = \"interpolated\"", "background = \"mean\"");
    desk.ok(&["reconstruct", "reconstruct-2d.toml"]);
    let expected = desk.image("image.mdf");
    let service = Service::new(&desk);
    let stop = Stop::new().unwrap();
    let mut watcher = Watcher::connect(service.door("images"), &stop).unwrap();
    assert_eq!(watcher.images().unit, "mmol/L");
    desk.ok(&["feed", "scan.mdf", &service.door("frames").to_string(), "--fast"]);
    // A subscriber may miss some, the last one never.
    let seen = until(&mut watcher, 29);
    for seen in &seen {
        let frame = usize::try_from(seen.head.number - 10).unwrap();
        let (found, expected) = (seen.image.frame(0), expected.frame(frame));
        let most = expected.iter().copied().fold(0.0, f32::max);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * most, "frame {frame}: {found} for {expected}");
        }
        assert!(seen.head.tai_ns > 0 && seen.head.monotonic_ns > 0 && seen.head.count == 1);
        assert!(seen.head.simulated);
    }
    let counts = service.end();
    assert_eq!(
        (&counts["images"], &counts["solved"], &counts["skipped"]),
        (&20.into(), &20.into(), &0.into())
    );
    assert_eq!(
        (&counts["frames"], &counts["background"], &counts["lost"]),
        (&30.into(), &10.into(), &0.into())
    );
    assert_eq!(counts["missed"].as_u64().unwrap(), 20 - seen.len() as u64);
}

#[test]
fn the_newest_frame_is_solved_and_the_others_are_counted() {
    let desk = scanned();
    slow(&desk, "newest");
    let service = Service::new(&desk);
    let stop = Stop::new().unwrap();
    let mut watcher = Watcher::connect(service.door("images"), &stop).unwrap();
    desk.ok(&["feed", "scan.mdf", &service.door("frames").to_string(), "--fast"]);
    let seen = until(&mut watcher, 29);
    assert!(seen.len() < 20);
    assert!((service.metric("frames_total") - 30.0).abs() < 0.5);
    let counts = service.end();
    let count = |name: &str| counts[name].as_u64().unwrap();
    assert!(count("skipped") > 0, "{counts}");
    assert_eq!(count("solved") + count("skipped"), 20, "{counts}");
    assert_eq!(count("images"), count("solved"));
}

#[test]
fn what_came_meanwhile_is_averaged() {
    let desk = scanned();
    slow(&desk, "average");
    let service = Service::new(&desk);
    let stop = Stop::new().unwrap();
    let mut watcher = Watcher::connect(service.door("images"), &stop).unwrap();
    desk.ok(&["feed", "scan.mdf", &service.door("frames").to_string(), "--fast"]);
    let seen = until(&mut watcher, 29);
    let counts = service.end();
    assert_eq!((counts["solved"].as_u64(), counts["skipped"].as_u64()), (Some(20), Some(0)), "{counts}");
    assert!(seen.iter().any(|seen| seen.head.count > 1), "{counts}");
    // A mean is as bright as a frame.
    let most = |seen: &Seen| seen.image.data.iter().copied().fold(0.0, f32::max);
    assert!(seen.iter().all(|of| (most(of) / most(&seen[0]) - 1.0).abs() < 0.1));
}

#[test]
fn a_bad_source_ends_nothing() {
    let desk = scanned();
    let mut service = Service::new(&desk);
    let frames = service.door("frames").clone();
    let mut bad = |bytes: &[u8]| {
        let mut stream = frames.connect().unwrap();
        // It may hang up before all is sent.
        stream.write_all(bytes).ok();
        drop(stream);
        service.says()
    };
    assert_eq!(
        bad(&[7; 100]),
        "the source was sent away: the stream cannot be used: a message of another kind or version came\n"
    );
    assert_eq!(
        bad(b"HWFRM\0\0\x01"),
        "the source was sent away: the stream broke off: unexpected end of file\n"
    );
    let described = |text: &str| {
        let head = Head::description(Kind::Frames, u32::try_from(text.len()).unwrap());
        [head.bytes().as_slice(), text.as_bytes()].concat()
    };
    let text = r#"{"periods":1,"channels":2,"samples":1000,"sample":"int16","bandwidth":1250000.0,
        "base-frequency":2500000.0,"dividers":[102,96],"strengths":[0.012,0.012]}"#;
    assert_eq!(
        bad(&described(text)),
        "the source was sent away: the stream cannot be used: its number of samples is 1000, and 1632 in the calibration\n"
    );
    let right = text.replace("1000", "1632");
    let half =
        [described(&right), Head { length: 6528, ..Head::description(Kind::Frame, 0) }.bytes().to_vec()];
    let said = bad(&half.concat());
    assert_eq!(said, "a source sends frames of 1 periods, 2 channels, 1632 samples\n");
    assert_eq!(
        service.says(),
        "the source was sent away: the stream broke off: failed to fill whole buffer\n"
    );
    // The next one is served.
    desk.ok(&["feed", "scan.mdf", &frames.to_string(), "--rate", "200"]);
    let stop = Stop::new().unwrap();
    let mut watcher = Watcher::connect(service.door("images"), &stop).unwrap();
    until(&mut watcher, 29);
    let counts = service.end();
    assert_eq!((counts["sources"].as_u64(), counts["rejected"].as_u64()), (Some(5), Some(4)));
}

#[test]
fn whoever_comes_does_not_keep_it_from_ending() {
    let desk = scanned();
    slow(&desk, "every");
    let service = Service::new(&desk);
    // Half a question, a subscriber that reads nothing, a viewer, a source in the middle of a frame, and one that waits behind it.
    let mut all: Vec<_> = ["metrics", "images", "viewers", "frames", "frames"]
        .map(|door| service.door(door).connect().unwrap())
        .into();
    all[0].write_all(b"GET /met").unwrap();
    all[3].write_all(b"HWFRM\0\0\x01").unwrap();
    let counts = service.end();
    assert_eq!(counts["frames"].as_u64(), Some(0));
}

#[test]
fn numbers_of_frames_may_be_any() {
    let desk = scanned();
    let service = Service::new(&desk);
    let mut bytes = described(false);
    for number in [0, u64::MAX - 1, 0, u64::MAX - 1, u64::MAX] {
        let head = Head { number, background: true, ..Head::description(Kind::Frame, 6528) };
        bytes.extend(head.bytes());
        bytes.extend([0; 6528]);
    }
    let mut source = service.door("frames").connect().unwrap();
    source.write_all(&bytes).unwrap();
    drop(source);
    while service.metric("frames_total") < 4.5 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let counts = service.end();
    assert_eq!((counts["lost"].as_u64(), counts["rejected"].as_u64()), (Some(u64::MAX), Some(0)));
}

#[test]
fn a_source_that_waits_ends_when_it_is_told_to() {
    let desk = scanned();
    let service = Service::new(&desk);
    let mut feed = Command::new(env!("CARGO_BIN_EXE_hatchway-recon"));
    feed.current_dir(desk.folder.path()).args(["feed", "scan.mdf", &service.door("frames").to_string()]);
    let mut feed = feed.args(["--rate", "0.001"]).stderr(Stdio::piped()).spawn().unwrap();
    while service.metric("sources_total") < 0.5 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(feed.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(feed.wait().unwrap().success());
    service.end();
}

/// A source that only says what it would send; `words` if it reads what it is told.
fn described(words: bool) -> Vec<u8> {
    let text = format!(
        r#"{{"periods":1,"channels":2,"samples":1632,"sample":"int16","bandwidth":1250000.0,
        "base-frequency":2500000.0,"dividers":[102,96],"strengths":[0.012,0.012],"words":{words}}}"#
    );
    let head = Head::description(Kind::Frames, u32::try_from(text.len()).unwrap());
    [head.bytes().as_slice(), text.as_bytes()].concat()
}

#[test]
fn a_source_that_waits_is_told_and_has_its_turn() {
    let desk = scanned();
    let mut service = Service::new(&desk);
    let frames = service.door("frames").clone();
    let mut first = frames.connect().unwrap();
    first.write_all(&described(false)).unwrap();
    assert!(service.says().starts_with("a source sends frames of 1 periods"));
    let mut feed = Command::new(env!("CARGO_BIN_EXE_hatchway-recon"));
    feed.current_dir(desk.folder.path()).args(["feed", "scan.mdf", &frames.to_string(), "--fast"]);
    let mut feed = feed.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(feed.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(told.next().unwrap(), "another source is taken first: 1 before it");
    assert_eq!(service.says(), "a source waits, 1 before it\n");
    drop(first);
    assert_eq!(
        told.collect::<Vec<_>>(),
        ["the service takes frames of 1 periods, 2 channels, 1632 samples", "sent 30 frames"]
    );
    assert!(feed.wait().unwrap().success());
    let counts = service.end();
    assert_eq!((counts["frames"].as_u64(), counts["sources"].as_u64()), (Some(30), Some(2)));
}

#[test]
fn a_source_that_is_not_taken_is_told_why() {
    let desk = scanned();
    let service = Service::new(&desk);
    let frames = service.door("frames").clone();
    let other = "import h5py, shutil; shutil.copy('scan.mdf', 'other.mdf'); h5py.File('other.mdf', 'r+')['/acquisition/drivefield/baseFrequency'][()] = 2e6";
    let output =
        Command::new("/usr/bin/python3").args(["-c", other]).current_dir(desk.folder.path()).status();
    assert!(output.unwrap().success());
    assert_eq!(
        // The first frame is due in hours.
        desk.fails(&["feed", "other.mdf", &frames.to_string(), "--rate", "0.0001"]),
        "error: the service does not take the frames: the stream cannot be used: its base frequency is 2000000, and 2500000 in the calibration\n"
    );
    // As many as may be here, which say nothing.
    let all: Vec<_> = (0..8).map(|_| frames.connect().unwrap()).collect();
    assert_eq!(
        desk.fails(&["feed", "scan.mdf", &frames.to_string()]),
        "error: the service does not take the frames: 8 sources are here already\n"
    );
    drop(all);
    service.end();
}

#[test]
fn who_asks_the_metrics_for_nothing_makes_room() {
    let desk = scanned();
    let service = Service::new(&desk);
    let all: Vec<_> = (0..20).map(|_| service.door("metrics").connect().unwrap()).collect();
    assert!(service.metric("sources_total") < 0.5);
    drop(all);
    service.end();
}

#[test]
fn a_stop_is_heard_while_the_matrix_is_read() {
    let desk = scanned();
    let plan = read_plan(&desk.path("serve-2d.toml")).unwrap();
    let stop = Stop::new().unwrap();
    stop.say();
    let say = |text: String| panic!("it went on: {text}");
    let served = serve(&plan, desk.folder.path(), &stop, &say, || panic!("it went on")).unwrap();
    assert_eq!(served.counts, Counts::default());
}

#[test]
fn a_calibration_without_its_receiver_is_refused() {
    let desk = scanned();
    let output = Command::new("/usr/bin/python3")
        .args(["-c", "import h5py; h5py.File('calibration.mdf', 'r+')['/measurement/isTransferFunctionCorrected'][()] = 1"])
        .current_dir(desk.folder.path())
        .status();
    assert!(output.unwrap().success());
    let said = desk.fails(&["serve", "serve-2d.toml"]);
    assert!(said.contains("`/measurement/isTransferFunctionCorrected` of `calibration.mdf` is 1"), "{said}");
}

#[test]
fn unix_sockets_go_with_the_service_which_says_that_it_is_ready() {
    let desk = scanned();
    desk.change("serve-2d.toml", "frames = \"tcp:127.0.0.1:0\"", "frames = \"unix:frames.sock\"");
    desk.change("serve-2d.toml", "images = \"tcp:127.0.0.1:0\"", "images = \"unix:images.sock\"");
    let supervisor = UnixDatagram::bind(desk.path("notify")).unwrap();
    let service = Service::with(&desk, |command| {
        command.env("NOTIFY_SOCKET", desk.path("notify"));
    });
    let mut word = [0; 64];
    let length = supervisor.recv(&mut word).unwrap();
    assert_eq!(&word[..length], b"READY=1\n");
    assert!(matches!(service.door("images"), Door::Unix(_)));
    desk.ok(&["feed", "scan.mdf", "unix:frames.sock", "--fast", "--times", "2"]);
    let seen = desk.ok(&["watch", "unix:images.sock", "--images", "1", "--json", "--nrrd", "seen.nrrd"]);
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert!(seen["number"].as_u64().unwrap() >= 10 && seen["unit"] == "mmol/L", "{seen}");
    assert!(desk.path("seen.nrrd").exists());
    service.end();
    assert!(!desk.path("frames.sock").exists() && !desk.path("images.sock").exists());
    let said = desk.fails(&["watch", "unix:images.sock"]);
    assert!(
        said.starts_with("error: cannot connect at `unix:images.sock`\n  because: No such file"),
        "{said}"
    );
}

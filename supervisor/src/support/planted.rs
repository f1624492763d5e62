//! Ten thousand secrets, planted wherever a tool or a person may leave some: none of them is in the archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hatchway_wire::exit::{ExitReason, ExitRecord, Stamp, Usage};
use hatchway_wire::log::{Head, Policy, Record, Stream};
use hatchway_wire::ready::ReadyRecord;
use hatchway_wire::unit::Unit;

use super::collect::{Wishes, collect};
use super::{Archive, Logs, Names};
use crate::daemon::files::Applied;
use crate::dirs::Dirs;

/// Each of its words is one that Hatchway uses itself, and its number is short.
const OF_KNOWN_WORDS: &str = "error: user admin waits for port 12345 of the unit";
/// Runs, and secrets in each.
const RUNS: u64 = 50;
const EACH: u64 = 200;

/// A generator of its own (xorshift64*), so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn of(&mut self, alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let count = u64::try_from(letters.len()).unwrap();
        (0..length).map(|_| letters[usize::try_from(self.next() % count).unwrap()]).collect()
    }

    /// A secret, and the parts of it that must not be seen.
    fn secret(&mut self, kind: u64) -> (String, Vec<String>) {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        const LOWER: &str = "bcdfghjklmnpqrstvwxz";
        let one = match kind % 10 {
            0 => self.of("0123456789abcdef", 32),
            1 => format!("{}==", self.of(&format!("{LETTERS}+/"), 30)),
            2 => self.of(LETTERS, 16),
            3 => self.of("123456789", 16),
            4 => {
                let hex = self.of("0123456789abcdef", 32);
                format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
            }
            5 => {
                let (user, word, host) = (self.of(LOWER, 8), self.of(LETTERS, 14), self.of(LOWER, 9));
                let url = format!(
                    "https://{user}:{word}@{host}.example/{}?token={}",
                    self.of(LETTERS, 9),
                    self.of(LETTERS, 20)
                );
                return (url.clone(), vec![url, word, user, host]);
            }
            6 => {
                let (name, host) = (self.of(LOWER, 9), self.of(LOWER, 8));
                let mail = format!("{name}@{host}.example");
                return (mail, vec![name, host]);
            }
            7 => format!("eyJ{}.{}.{}", self.of(LETTERS, 20), self.of(LETTERS, 40), self.of(LETTERS, 27)),
            8 => {
                let words: Vec<String> = (0..4).map(|_| self.of(LOWER, 7)).collect();
                return (words.join("-"), words);
            }
            _ => {
                let name = self.of(LOWER, 10);
                return (format!("/home/{name}/{}_0042.mdf", self.of(LOWER, 8)), vec![name]);
            }
        };
        (one.clone(), vec![one])
    }
}

/// The secrets of a run, by where they are.
struct Planted<'a> {
    dice: &'a mut Dice,
    looked_for: Vec<String>,
    count: u64,
}

impl Planted<'_> {
    fn one(&mut self) -> String {
        self.count += 1;
        let (text, parts) = self.dice.secret(self.count);
        self.looked_for.extend(parts);
        text
    }

    fn some(&mut self, count: u64, form: impl Fn(&str) -> String) -> Vec<String> {
        (0..count).map(|_| form(&self.one())).collect()
    }
}

fn run(dirs: &Dirs, number: u64, dice: &mut Dice) -> (Vec<String>, u64) {
    let mut planted = Planted { dice, looked_for: Vec::new(), count: number };
    let incarnation = format!("{}-{number}", 1_796_000_000_000 + number);
    let folder = dirs.runtime.join("units/daq").join(&incarnation);
    fs::create_dir_all(folder.join("log")).unwrap();
    let stamp = Stamp { realtime_ns: 1_796_000_000_000_000_000, tai_ns: 0, monotonic_ns: 0 };
    let put = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    // In arguments, in variables of the environment, in file names of bindings.
    let mut command = vec!["/usr/bin/hatchway".to_owned(), "run".to_owned()];
    command.extend(planted.some(20, |secret| format!("--password={secret}")));
    command.extend(planted.some(20, |secret| format!("--env=TOKEN={secret}")));
    command.extend(planted.some(10, |secret| format!("license={secret}")));
    let unit = Unit {
        version: 1,
        unit: "daq".to_owned(),
        incarnation: incarnation.clone(),
        command,
        logs: Policy::default(),
        begun: None,
        config: Some(planted.one()),
        linger_ms: 0,
        ready: None,
        terminal: false,
        hears_kept: false,
    };
    put("unit.json", serde_json::to_string(&unit).unwrap());
    let reason = match number % 4 {
        0 => ExitReason::ExecFailed {
            program: planted.one(),
            errno: 2,
            found: false,
            message: format!("cannot start `{}`", planted.one()),
        },
        1 => ExitReason::MissingLibrary { library: format!("lib{}.so.1", planted.one()) },
        2 => ExitReason::NotStarted {
            message: format!("error: the file {} is not there\nhint: {}", planted.one(), planted.one()),
        },
        _ => ExitReason::Engine { message: format!("no such image: {}", planted.one()), outcome: None },
    };
    let record = ExitRecord {
        version: 1,
        unit: "daq".to_owned(),
        incarnation,
        program: planted.one(),
        started: stamp,
        ended: stamp,
        code: 1,
        reason,
        shim_pid: 1,
        tool_pid: None,
        usage: Usage::default(),
        notes: planted.some(10, |secret| format!("cannot write `{secret}`: permission denied")),
        evidence: [
            planted.some(10, |secret| format!("login with {secret} failed")),
            vec![OF_KNOWN_WORDS.to_owned()],
        ]
        .concat(),
        memory: None,
        logged: None,
        exit_file: None,
    };
    put("exit.json", serde_json::to_string(&record).unwrap());
    let how = format!("looked for `{}`", planted.one());
    let ready = ReadyRecord { version: 1, stamp, after_ms: 5, how, late: true };
    put("ready.json", serde_json::to_string(&ready).unwrap());
    log(&folder, &mut planted);
    let count = planted.count - number;
    (planted.looked_for, count)
}

/// In free text, in base64, in structured lines: as values, as keys, as what looks like a time or a level.
fn log(folder: &Path, planted: &mut Planted<'_>) {
    let mut lines = planted.some(30, |secret| format!("connecting to {secret} (user {secret})"));
    lines.extend(planted.some(20, |secret| {
        use std::fmt::Write;
        secret.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }));
    lines.extend(planted.some(20, |secret| {
        serde_json::json!({ "level": "info", "msg": secret, "ts": 1_796_000_000 }).to_string()
    }));
    lines.extend(
        planted.some(20, |secret| serde_json::json!({ secret: 1, "nested": { "key": secret } }).to_string()),
    );
    while !planted.count.is_multiple_of(EACH) {
        lines.extend(planted.some(1, |secret| {
            serde_json::json!({ "level": secret, "time": secret, "code": secret }).to_string()
        }));
    }
    lines.push(OF_KNOWN_WORDS.to_owned());
    let mut bytes = Head { number: 1, before: [0; 3] }.bytes().to_vec();
    let mut before = 0;
    for (index, line) in lines.iter().enumerate() {
        let text = format!("{line}\n");
        // What tools say is on both streams; Hatchway's own remarks may quote somebody.
        let stream = if index % 2 == 0 || index + 1 == lines.len() { Stream::Out } else { Stream::Remark };
        let before_of = if stream == Stream::Out { &mut before } else { &mut 0 };
        bytes.extend(
            Record { length: text.len(), stream, realtime_ns: 1_796_000_000_000_000_000, before: *before_of }
                .bytes(),
        );
        bytes.extend(text.as_bytes());
        *before_of += u64::try_from(text.len()).unwrap();
    }
    fs::write(folder.join("log").join(hatchway_wire::log::name(1)), bytes).unwrap();
}

fn instrument(dirs: &Dirs, dice: &mut Dice) -> Vec<String> {
    let mut planted = Planted { dice, looked_for: Vec::new(), count: 0 };
    let args = serde_json::to_string(&planted.some(20, |secret| format!("--key={secret}"))).unwrap();
    let text = format!(
        "schema = 1\n[instrument]\nname = \"{}\"\n[unit.daq]\nrecipe = \"daq\"\nargs = {args}\nfiles.license = \"/etc/{}\"\nidentity = {{ mac = \"{}\" }}\n",
        planted.one(),
        planted.one(),
        planted.one()
    );
    Applied::new("/etc/hatchway/instrument.toml".into(), text, BTreeMap::new()).store(dirs).unwrap();
    let events = dirs.data.join("daemon/events");
    fs::create_dir_all(&events).unwrap();
    let lines: Vec<String> = (1..=200)
        .map(|seq| {
            let (text, by) = (format!("it was not started: no `{}` at {}", planted.one(), planted.one()), planted.one());
            serde_json::json!({ "seq": seq, "realtime_ns": 1, "monotonic_ns": 1, "boot": "b", "kind": "failed", "unit": "daq", "text": text, "by": by }).to_string()
        })
        .collect();
    fs::write(events.join("00000000000000000001.jsonl"), lines.join("\n") + "\n").unwrap();
    planted.looked_for
}

#[test]
fn no_secret_of_ten_thousand_is_in_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let own = |name: &str| folder.path().join(name);
    let dirs = Dirs { data: own("data"), cache: own("cache"), runtime: own("run"), config: Vec::new() };
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut secrets = instrument(&dirs, &mut dice);
    let mut planted = u64::try_from(secrets.len()).unwrap();
    for number in 0..RUNS {
        let (looked_for, count) = run(&dirs, number * EACH, &mut dice);
        secrets.extend(looked_for);
        planted += count;
    }
    assert!(planted >= 10_000, "{planted}");
    let wishes = |logs| Wishes { logs, size_max: 50 << 20, keep: Vec::new(), driver_root: own("no") };
    let (files, manifest, packed) = collect(&dirs, &wishes(Logs::Structured)).unwrap();
    let all: String =
        files.0.values().map(|content| String::from_utf8_lossy(content).into_owned() + "\n").collect();
    assert!(!all.contains(OF_KNOWN_WORDS) && !all.contains("port 12345"));
    let leaks: Vec<&String> = secrets.iter().filter(|secret| all.contains(secret.as_str())).collect();
    assert_eq!(leaks, Vec::<&String>::new());
    let left_out: Vec<&String> =
        manifest.left_out.iter().filter(|what| !what.starts_with("kernel")).collect();
    assert_eq!(left_out, Vec::<&String>::new(), "something was not collected at all");
    // Not because nothing is in it: the same collectors let all of it through where somebody asks for that.
    let raw = collect(&dirs, &wishes(Logs::Raw)).unwrap().0;
    let raw: String = raw.0.values().map(|content| String::from_utf8_lossy(content).into_owned()).collect();
    assert!(secrets.iter().filter(|secret| raw.contains(secret.as_str())).count() > 5_000);
    // It can be asked, and what its stand-ins stand for is known here.
    let path = own("archive");
    fs::write(&path, packed).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.events().unwrap().len(), 200);
    assert_eq!(crate::units::all(&archive.dirs(), Some("daq")).len(), usize::try_from(RUNS).unwrap());
    let names = Names::load(&dirs).unwrap();
    assert!(names.stands_for("path-1").is_some_and(|text| text.contains('/')));
}

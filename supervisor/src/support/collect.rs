//! What an archive is made of: one collector for each file, each field chosen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hatchway_wire::exit::{ExitReason, ExitRecord};
use hatchway_wire::log;
use hatchway_wire::unit::Unit;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CAUSES, DOCTOR, EVENTS, Entry, Files, HOST, INSTRUMENT, KERNEL, Logs, MANIFEST, Manifest, Names,
    Redactor, STATUS, UNITS, VERSION, digest, lines,
};
use crate::causes::subjects::kind_of;
use crate::causes::{Cause, Source as Said};
use crate::clock;
use crate::daemon::files::Applied;
use crate::daemon::journal::{self, Event};
use crate::daemon::report::UnitStatus;
use crate::daemon::source::Source;
use crate::dirs::{Dirs, names_in};
use crate::doctor::Check;
use crate::error::Error;
use crate::instrument::{Instrument, UnitConfig};
use crate::report::one_line;
use crate::units::{self, COLLECTED, Collected, Seen};
use crate::{doctor, kernel_log, why};

/// Of each log so much at first; less where there are many, and where the archive gets too big.
const LOG_MAX: usize = 8 << 20;
/// Of all logs so much in memory.
const LOGS_MAX: usize = 128 << 20;
/// What the smallest part of a log is worth.
const LOG_MIN: usize = 16 << 10;
/// Runs whose causes are looked for: the last of them.
const RUNS_MAX: usize = 200;
/// Events that are collected: the last of them.
const EVENTS_MAX: usize = 20_000;

/// What somebody wants in it.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// What becomes of the logs.
    pub logs: Logs,
    /// Bytes of the archive at most.
    pub size_max: usize,
    /// Words that may leave the machine beside those that always may.
    pub keep: Vec<String>,
    /// Where the graphics driver is, for `doctor`.
    pub driver_root: PathBuf,
}

/// Collects what is known, redacted, no larger than wanted. What could not be collected is in the manifest.
///
/// # Errors
/// The stand-ins cannot be kept, or the archive gets too big even without logs.
pub fn collect(dirs: &Dirs, wishes: &Wishes) -> Result<(Files, Manifest, Vec<u8>), Error> {
    // Two at a time would give out the same stand-in for different things.
    let _alone = Names::lock(dirs)?;
    let names = Names::load(dirs)?;
    let mut collector = Collector::new(dirs, wishes, names);
    collector.all();
    let recorded = collector.runs.iter().filter(|seen| seen.is_recorded()).count();
    let mut most = LOG_MAX.min(LOGS_MAX / recorded.max(1));
    loop {
        collector.logs(most);
        let (files, manifest) = collector.finished()?;
        let packed = files.packed().map_err(Error::io("pack", MANIFEST))?;
        if packed.len() <= wishes.size_max {
            // Before anybody sees one of them.
            collector.redactor.names.store(dirs)?;
            return Ok((files, manifest, packed));
        }
        if most == 0 {
            let hint = "`--max-size` says how big it may be".to_owned();
            return Err(Error::Host {
                message: format!("the archive has {} bytes without any log", packed.len()),
                hints: vec![hint],
            });
        }
        most = if most / 2 < LOG_MIN { 0 } else { most / 2 };
    }
}

/// What makes one file.
type Collect<'a> = fn(&mut Collector<'a>) -> Result<Vec<u8>, Error>;

struct Collector<'a> {
    dirs: &'a Dirs,
    wishes: &'a Wishes,
    redactor: Redactor,
    runs: Vec<Seen>,
    files: Files,
    left_out: Vec<String>,
    /// Of the logs, for this size of them.
    logs: (Files, Vec<String>),
}

impl<'a> Collector<'a> {
    fn new(dirs: &'a Dirs, wishes: &'a Wishes, names: Names) -> Self {
        let runs = units::all(dirs, None);
        let of_runs = runs.iter().flat_map(|seen| [seen.tool.clone(), seen.run.clone()]);
        let instrument = Applied::load(dirs).ok().flatten().and_then(|applied| applied.instrument().ok());
        let of_instrument = instrument.iter().flat_map(names_of);
        let known: Vec<String> = of_runs.chain(of_instrument).chain(wishes.keep.clone()).collect();
        let redactor = Redactor::new(known, names);
        Self {
            dirs,
            wishes,
            redactor,
            runs,
            files: Files::default(),
            left_out: Vec::new(),
            logs: Default::default(),
        }
    }

    fn all(&mut self) {
        let collectors: [(&str, Collect<'a>); 7] = [
            (STATUS, Self::status),
            (CAUSES, Self::causes),
            (EVENTS, Self::events),
            (DOCTOR, Self::doctor),
            (KERNEL, Self::kernel),
            (HOST, Self::host),
            (INSTRUMENT, Self::instrument),
        ];
        for (name, collect) in collectors {
            match collect(self) {
                Ok(content) => self.files.put(name, content),
                Err(error) => {
                    let why = self.redactor.text(&one_line(&error));
                    self.left_out.push(format!("{name}: {why}"));
                }
            }
        }
        for seen in std::mem::take(&mut self.runs) {
            if let Err(error) = self.run(&seen) {
                let why = self.redactor.text(&one_line(&error));
                self.left_out.push(format!("{} {}: {why}", seen.tool, seen.run));
            }
            self.runs.push(seen);
        }
    }

    fn status(&mut self) -> Result<Vec<u8>, Error> {
        let mut units = Source::find(self.dirs)?.units()?;
        for UnitStatus { why, record, .. } in &mut units {
            *why = why.take().map(|why| self.redactor.text(&why));
            *record = record.take().map(|record| self.record(record));
        }
        text(&units)
    }

    /// As they are found here, where the machine can be asked.
    fn causes(&mut self) -> Result<Vec<u8>, Error> {
        let units = Source::find(self.dirs)?.units()?;
        let mut all: BTreeMap<String, Vec<Cause>> =
            units.iter().map(|unit| (unit.name.clone(), why::of_unit(self.dirs, &units, unit))).collect();
        let newest = self.runs.iter().rev().take(RUNS_MAX);
        all.extend(newest.map(|seen| (format!("{}/{}", seen.tool, seen.run), why::of_run(self.dirs, seen))));
        let raw = self.wishes.logs == Logs::Raw;
        if !raw {
            all.values_mut().flatten().for_each(|cause| self.without_words_of_tools(cause));
        }
        text(&all)
    }

    /// Its sentence and its hints may have a thing in them that a tool has named: then those of its kind are taken, which have none.
    fn without_words_of_tools(&mut self, cause: &mut Cause) {
        cause.evidence.retain(|shown| !matches!(shown.source, Said::Log | Said::Exit));
        cause.evidence.iter_mut().for_each(|shown| shown.text = self.redactor.text(&shown.text));
        let kind = kind_of(cause.code);
        cause.says = kind.map_or(cause.code, |kind| kind.means).to_owned();
        let next = kind.map_or(&[][..], |kind| kind.next).iter();
        cause.next =
            next.filter(|line| !line.contains("{}")).map(|line| line.replace("{unit}", "UNIT")).collect();
    }

    fn events(&mut self) -> Result<Vec<u8>, Error> {
        let mut all = journal::since(&journal::folder(self.dirs), 0, usize::MAX);
        let skip = all.len().saturating_sub(EVENTS_MAX);
        let mut lines = Vec::new();
        for mut event in all.drain(skip..) {
            event = Event {
                text: self.redactor.text(&event.text),
                by: event.by.map(|by| self.redactor.text(&by)),
                ..event
            };
            line(&mut lines, &event)?;
        }
        Ok(lines)
    }

    fn doctor(&mut self) -> Result<Vec<u8>, Error> {
        let mut checks: Vec<Check> =
            doctor::examine(&doctor::Look::here(), self.dirs, &self.wishes.driver_root);
        for check in &mut checks {
            for text in [&mut check.found, &mut check.means, &mut check.fix] {
                *text = self.redactor.text(text);
            }
        }
        text(&checks)
    }

    fn kernel(&mut self) -> Result<Vec<u8>, Error> {
        let mut lines = Vec::new();
        let messages = kernel_log::read().map_err(Error::io("read", "/dev/kmsg"))?;
        for mut message in messages.into_iter().filter(kernel_log::Message::is_notable) {
            message.text = self.redactor.text(&message.text);
            line(&mut lines, &message)?;
        }
        Ok(lines)
    }

    /// The host in numbers; nothing that names it.
    fn host(&mut self) -> Result<Vec<u8>, Error> {
        let name = rustix::system::uname();
        let about = rustix::system::sysinfo();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let of = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let disk = |path: &Path| {
            let stat = rustix::fs::statvfs(path).ok()?;
            Some(
                json!({ "free": stat.f_bavail.saturating_mul(stat.f_frsize), "size": stat.f_blocks.saturating_mul(stat.f_frsize) }),
            )
        };
        text(&json!({
            "kernel": self.redactor.text(&name.release().to_string_lossy()),
            "machine": name.machine().to_string_lossy(),
            "os": of("ID").map(|id| self.redactor.text(&id)),
            "os-version": of("VERSION_ID").map(|id| self.redactor.text(&id)),
            "cpus": std::thread::available_parallelism().map(usize::from).ok(),
            "memory": about.totalram.saturating_mul(about.mem_unit.into()),
            "memory-free": about.freeram.saturating_mul(about.mem_unit.into()),
            "uptime-s": about.uptime,
            "load-1m": f64::from(u32::try_from(about.loads[0]).unwrap_or(u32::MAX)) / 65536.0,
            "time": clock::shown(clock::now_ns()),
            "data": disk(&self.dirs.data),
            "runtime": disk(&self.dirs.runtime),
            "trees": names_in(&self.dirs.store().join("trees")).len(),
        }))
    }

    fn instrument(&mut self) -> Result<Vec<u8>, Error> {
        let Some(applied) = Applied::load(self.dirs)? else { return text(&Value::Null) };
        let instrument = applied.instrument()?;
        let mut units = serde_json::Map::new();
        for (name, config) in instrument.in_order() {
            units.insert(name.to_owned(), self.unit(config));
        }
        text(&json!({ "name": self.redactor.text(&instrument.about.name), "unit": units }))
    }

    fn unit(&mut self, config: &UnitConfig) -> Value {
        let mut told = |text: &String| self.redactor.text(text);
        let channels: Vec<Value> = config
            .channels
            .iter()
            .map(|(name, channel)| json!({ name.as_str(): told(&channel.to) }))
            .collect();
        let devices: Vec<Value> =
            config.devices.iter().map(|(name, device)| json!({ name.as_str(): told(device) })).collect();
        let files: Vec<&str> = config.files.keys().map(|name| name.as_str()).collect();
        json!({
            "recipe": config.recipe.as_ref().map(&mut told), "service": config.service.as_ref().map(&mut told), "rung": config.rung, "start": config.start, "after": config.after,
            "args": config.args.len(), "user": config.user.as_ref().map(&mut told),
            "channels": channels, "devices": devices, "files": files, "identity": config.identity.len(),
        })
    }

    fn run(&mut self, seen: &Seen) -> Result<(), Error> {
        let Collected { state, record, unit, mut ready, mut standing } = seen.collected();
        if let Some(ready) = &mut ready {
            ready.how = self.redactor.text(&ready.how);
        }
        if let Some(standing) = &mut standing {
            standing.how = standing.how.take().map(|text| self.redactor.text(&text));
            // What it says of itself are its own words.
            standing.status = standing.status.take().filter(|_| self.wishes.logs == Logs::Raw);
        }
        let record = record.map(|record| self.record(record));
        let unit = unit.map(told);
        let collected = Collected { state, record, unit, ready, standing };
        self.files.put(format!("{UNITS}/{}/{}/{COLLECTED}", seen.tool, seen.run), text(&collected)?);
        Ok(())
    }

    /// Why a run has ended, without what its tool said.
    fn record(&mut self, record: ExitRecord) -> ExitRecord {
        let evidence = match (self.wishes.logs, record.evidence.len()) {
            (Logs::Raw, _) => record.evidence,
            (_, 0) => Vec::new(),
            (_, lines) => vec![format!("[{lines} lines of what it said are not in this archive]")],
        };
        let notes = record.notes.iter().map(|note| self.redactor.text(note)).collect();
        let program = self.redactor.text(&record.program);
        let reason = self.reason(record.reason);
        ExitRecord { evidence, notes, program, reason, exit_file: None, ..record }
    }

    fn reason(&mut self, reason: ExitReason) -> ExitReason {
        let mut told = |text: String| self.redactor.text(&text);
        match reason {
            ExitReason::ExecFailed { program, errno, found, message } => {
                ExitReason::ExecFailed { program: told(program), errno, found, message: told(message) }
            }
            ExitReason::MissingLibrary { library } => ExitReason::MissingLibrary { library: told(library) },
            ExitReason::SandboxFailed { operation, path, errno, message } => ExitReason::SandboxFailed {
                operation: told(operation),
                path: path.map(&mut told),
                errno,
                message: told(message),
            },
            ExitReason::Engine { message, outcome } => ExitReason::Engine { message: told(message), outcome },
            ExitReason::Unhealthy { message, forced, outcome } => {
                ExitReason::Unhealthy { message: told(message), forced, outcome }
            }
            ExitReason::NotStarted { message } => ExitReason::NotStarted { message: told(message) },
            ExitReason::Unknown { word } => ExitReason::Unknown { word: told(word) },
            // Numbers only.
            other @ (ExitReason::Exit { .. }
            | ExitReason::Signal { .. }
            | ExitReason::Requested { .. }
            | ExitReason::Oom { .. }
            | ExitReason::Seccomp
            | ExitReason::LogFull { .. }
            | ExitReason::Lost { .. }) => other,
        }
    }

    fn logs(&mut self, most: usize) {
        let (mut files, mut left_out) = (Files::default(), Vec::new());
        if most == 0 {
            left_out.push("all logs: the archive would be too big with them".to_owned());
        }
        let mut cut = 0_usize;
        if most > 0 && self.wishes.logs != Logs::None {
            for seen in self.runs.iter().filter(|seen| seen.is_recorded()) {
                match lines::segment(&seen.folder, self.wishes.logs, most, &mut self.redactor) {
                    Ok((bytes, is_cut)) => {
                        cut = cut.saturating_add(usize::from(is_cut));
                        let name =
                            format!("{UNITS}/{}/{}/{}/{}", seen.tool, seen.run, log::FOLDER, log::name(1));
                        files.put(name, bytes);
                    }
                    Err(error) => {
                        left_out.push(format!("log of {} {}: {}", seen.tool, seen.run, error.kind()));
                    }
                }
            }
        }
        if cut > 0 {
            left_out.push(format!("of {cut} logs all but the last {} KiB", most >> 10));
        }
        self.logs = (files, left_out);
    }

    fn finished(&mut self) -> Result<(Files, Manifest), Error> {
        let mut files = std::mem::take(&mut self.logs.0);
        for (name, content) in &self.files.0 {
            files.put(name, content.clone());
        }
        let entry = |(name, content): (&String, &Vec<u8>)| Entry {
            name: name.clone(),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
            sha256: digest(content),
        };
        let manifest = Manifest {
            version: VERSION,
            hatchway: env!("CARGO_PKG_VERSION").to_owned(),
            made_ns: clock::now_ns(),
            logs: self.wishes.logs,
            files: files.0.iter().map(entry).collect(),
            left_out: self.left_out.iter().chain(&self.logs.1).cloned().collect(),
        };
        files.put(MANIFEST, text(&manifest)?);
        Ok((files, manifest))
    }
}

/// Names that people have given to units, recipes and slots: Hatchway's own kind of names, of few characters.
fn names_of(instrument: &Instrument) -> Vec<String> {
    let mut names = Vec::new();
    for (name, config) in instrument.in_order() {
        names.push(name.to_owned());
        names.extend(config.recipe.clone().filter(|recipe| !recipe.contains('/')));
        names.extend(config.service.clone());
        let slots = config.channels.keys().chain(config.devices.keys()).chain(config.files.keys());
        names.extend(slots.map(|slot| slot.as_str().to_owned()));
    }
    names
}

/// What its recorder was told, but for the arguments.
fn told(unit: Unit) -> Unit {
    let count = unit.command.len();
    let ready = unit.ready.filter(|wish| {
        matches!(wish.what, hatchway_wire::ready::Ready::Tcp { .. } | hatchway_wire::ready::Ready::Fd { .. })
    });
    // A digest over arguments would let somebody try which they were.
    let config = unit.config.map(|_| "[digest]".to_owned());
    Unit { command: vec![format!("[{count} words]")], ready, config, ..unit }
}

fn text(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))
}

fn line(lines: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(&mut *lines, value).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
    lines.push(b'\n');
    Ok(())
}

//! Evidence of a unit: from its folder, its recipe and the instrument. What cannot be read is not there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use hatchway_wire::ExitRecord;
use hatchway_wire::control::Condition;
use hatchway_wire::log::Stream;
use hatchway_wire::ready::{Ready, Stage};

use crate::causes::evidence::LINES_MAX;
use crate::causes::{Evidence, Net, Said, Slot, Standing, Words};
use crate::dirs::Dirs;
use crate::recipe::{self, Audio, Display, Network, Recipe};
use crate::units::{Reader, Seen, State, late_told};

/// Evidence of a run.
#[must_use]
pub(super) fn of_run(dirs: &Dirs, seen: &Seen) -> Evidence {
    let mut evidence = Evidence {
        unit: seen.tool.clone(),
        standing: standing(seen),
        lines: said(&seen.folder),
        ..Evidence::default()
    };
    if let Some(record) = &seen.record {
        add(&mut evidence, record);
    }
    let command = seen.told().map_or(&[][..], |told| told.command.as_slice());
    if let Some(recipe) = recipe_of(dirs, command, &seen.tool) {
        evidence.words = words(&recipe, &bound(command));
    }
    evidence
}

/// Evidence where only the record is there: of a unit whose folder is another user's.
#[must_use]
pub(super) fn of_record(unit: &str, record: Option<&ExitRecord>, late: Option<&str>) -> Evidence {
    let mut evidence = Evidence { unit: unit.to_owned(), ..Evidence::default() };
    match record {
        Some(record) => {
            evidence.standing = Standing::Ended(record.reason.clone());
            add(&mut evidence, record);
        }
        None => evidence.standing = Standing::Running { late: late.map(str::to_owned), unhealthy: false },
    }
    evidence
}

fn add(evidence: &mut Evidence, record: &ExitRecord) {
    evidence.program.clone_from(&record.program);
    evidence.shown.clone_from(&record.evidence);
    evidence.notes.clone_from(&record.notes);
    evidence.short = record.memory.as_ref().and_then(|memory| memory.short.clone());
    // A run whose log is gone has left its last lines in its record.
    if evidence.lines.is_empty() {
        evidence.lines =
            record.evidence.iter().map(|text| Said { ours: false, text: text.clone() }).collect();
    }
}

fn standing(seen: &Seen) -> Standing {
    match (seen.state, &seen.record) {
        (State::Ended, Some(record)) => Standing::Ended(record.reason.clone()),
        (State::Ended | State::Lost, _) => Standing::Gone,
        (State::Running, _) => {
            let standing = seen.standing();
            let late = standing.as_ref().filter(|standing| standing.ready == Stage::Late).map(late_told);
            let unhealthy = standing.is_some_and(|standing| standing.health == Some(Condition::Unhealthy));
            Standing::Running { late, unhealthy }
        }
        (State::Foreground | State::Ending, _) => Standing::Running { late: None, unhealthy: false },
    }
}

/// The last lines of its log. Those of a log that grows meanwhile are as many as there were at the beginning.
fn said(folder: &Path) -> Vec<Said> {
    let mut reader = Reader::new(folder);
    let mut kept: VecDeque<Said> = VecDeque::new();
    if reader.hold().is_err() {
        return Vec::new();
    }
    while let Ok(lines) = reader.lines(true) {
        if lines.is_empty() {
            break;
        }
        for line in lines {
            kept.push_back(Said { ours: line.stream == Stream::Remark, text: line.text });
            if kept.len() > LINES_MAX {
                kept.pop_front();
            }
        }
    }
    kept.into()
}

/// The recipe that a run was started with, as it is now.
fn recipe_of(dirs: &Dirs, command: &[String], tool: &str) -> Option<Recipe> {
    // A native service has none, also where one bears its name.
    if command.get(2).is_some_and(|verb| verb == "native") {
        return None;
    }
    let named = command.iter().take_while(|word| *word != "--").find(|word| word.ends_with(".toml"));
    let named = named.map(PathBuf::from).filter(|path| path.is_file());
    let path = named.or_else(|| recipe::locate_in(tool, &dirs.recipes()).ok())?;
    recipe::read(&path).ok().map(|located| located.recipe)
}

/// What was bound to slots: `NAME=VALUE`.
fn bound(command: &[String]) -> Vec<(String, String)> {
    let words = command.iter().take_while(|word| *word != "--");
    let pairs = words.clone().zip(words.skip(1)).filter(|(option, _)| *option == "--bind");
    pairs
        .filter_map(|(_, value)| value.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn words(recipe: &Recipe, bound: &[(String, String)]) -> Words {
    let run = &recipe.run;
    let bound = |name: &str| bound.iter().find(|(slot, _)| slot == name).map(|(_, value)| value.clone());
    let devices = recipe.devices.iter().map(|slot| {
        let name = slot.name.get_ref().as_str();
        let at = slot.at.as_ref().map_or_else(|| format!("/dev/{name}"), |at| at.as_str().to_owned());
        Slot { name: name.to_owned(), at, bound: bound(name) }
    });
    let files = recipe.files.iter().map(|slot| {
        let name = slot.name.get_ref().as_str();
        Slot { name: name.to_owned(), at: slot.at.as_str().to_owned(), bound: bound(name) }
    });
    let limits = run.limits.as_ref();
    let ready = recipe.service.as_ref().and_then(|service| service.ready.as_ref());
    Words {
        known: true,
        network: match &run.network {
            Network::None => Net::None,
            Network::Loopback => Net::Loopback,
            Network::Host => Net::Host,
            Network::Allow { allow } => {
                Net::Allow(allow.iter().map(|server| server.endpoint().address.to_string()).collect())
            }
        },
        state: run.state.iter().map(|path| path.get_ref().as_str().to_owned()).collect(),
        memory: limits.and_then(|limits| limits.memory).map(|size| shown(size.bytes())),
        tasks: limits.and_then(|limits| limits.tasks),
        shm: run.shm.map(|size| shown(size.bytes())),
        display: run.display != Display::None,
        gpu: run.gpu,
        audio: run.audio != Audio::None,
        dbus: run.dbus.is_some(),
        devices: devices.collect(),
        files: files.collect(),
        ready_port: ready.and_then(|ready| match ready.get_ref().what {
            Ready::Tcp { port } => Some(port),
            _ => None,
        }),
    }
}

/// A size as recipes have it.
fn shown(bytes: u64) -> String {
    let unit = [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

//! `hatchway attach`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hatchway_wire::exit::{CODE_HATCHWAY_FAILED, ExitRecord};
use hatchway_wire::unit::Attach;

use super::instrument;
use super::units::{Which, row};
use crate::attach::{self, Left, Way};
use crate::daemon::api;
use crate::daemon::client::Client;
use crate::daemon::problem::Code;
use crate::daemon::report::UnitStatus;
use crate::dirs::Dirs;
use crate::error::Error;
use crate::launch::vm::Terminal;
use crate::report::Printer;
use crate::units::{Seen, State};

/// A unit whose terminal is gone has ended, or does so within this.
const END_MAX: Duration = Duration::from_secs(30);
/// So long is waited for the record of one that is gone.
const RECORD_MAX: Duration = Duration::from_secs(3);
/// From one look at it to the next.
const LOOK: Duration = Duration::from_millis(50);
/// A shell adds it to the number of a signal.
const BY_SIGNAL: i32 = 128;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only watch: what is typed goes nowhere
    #[arg(long)]
    read_only: bool,
    /// Take the terminal over from whoever writes there; they are told so, and watch from then on
    #[arg(long, conflicts_with = "read_only")]
    take: bool,
}

/// 0 where the person leaves, the tool's own code where it ends.
pub(super) fn main(args: &Args, quiet: bool) -> Result<ExitCode, Error> {
    let mut printer = Printer::new(quiet);
    printer.failing_with(super::RUN_FAILURE);
    let terminal = Terminal::find();
    let write = !args.read_only;
    let typed = terminal.streams()[0];
    // A script that asks wants the answer alone.
    let (take, recent) = (args.take, typed || !write);
    let wish = Attach { write, take, recent, who: api::own_name(), window: attach::window(&terminal) };
    let name = &args.which.name;
    let (way, place) = come(args, &wish)?;
    if typed {
        let or = if write { "" } else { " (you only watch: Ctrl-C leaves, too)" };
        printer.say(format!("`{name}`: Ctrl-] three times within a second leaves it, and it runs on{or}"));
    }
    let left = attach::serve(&way, write, &terminal);
    let left = left.map_err(Error::io("stay at the terminal of", name))?;
    // The tool may be in the middle of a line.
    let line = if typed { "\n" } else { "" };
    match left {
        Left::Detached | Left::InputOver => {
            printer.say(format!("{line}`{name}` runs on"));
            Ok(ExitCode::SUCCESS)
        }
        Left::Signal(number) => Ok(code(BY_SIGNAL.saturating_add(number))),
        Left::Ended => {
            let (text, ended) = place.ended(name, &way)?;
            printer.say(format!("{line}{text}"));
            Ok(code(ended))
        }
    }
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Where one has come to.
enum Place {
    Own(Box<Seen>),
    /// This run of a daemon's unit.
    Daemons(Option<String>),
}

/// By the unit's folder where there is one for this user, else by the daemon.
fn come(args: &Args, wish: &Attach) -> Result<(Way, Place), Error> {
    let own = args.which.find();
    if let Ok(seen) = &own
        && seen.runs()
    {
        return Ok((Way::Folder(seen.attach(wish)?), Place::Own(Box::new(seen.clone()))));
    }
    let of_own = |own: Result<Seen, Error>| {
        let seen = own?;
        Ok((Way::Folder(seen.attach(wish)?), Place::Own(Box::new(seen))))
    };
    let client = if args.which.run.is_none() { Client::find(&Dirs::discover())? } else { None };
    let Some(client) = client else { return of_own(own) };
    let path = format!("/v1/units/{}", instrument::segment(&args.which.name));
    let unit: UnitStatus = match client.get(&path) {
        // What this user knows of it says more.
        Err(Error::Problem { code: Code::NoSuchUnit, .. }) => return of_own(own),
        other => other?,
    };
    let size = wish.window.map(|window| format!("&rows={}&cols={}", window.rows, window.columns));
    let Attach { write, take, recent, .. } = wish;
    let query = format!("write={write}&take={take}&recent={recent}{}", size.unwrap_or_default());
    let (stream, said, run) = client.attach(&format!("{path}/attach?{query}"))?;
    let resize = format!("{path}/resize");
    Ok((Way::Daemon { client, resize, stream, said }, Place::Daemons(run.or(unit.run))))
}

impl Place {
    /// What became of it, and the exit code.
    fn ended(&self, name: &str, way: &Way) -> Result<(String, i32), Error> {
        let code = |record: Option<&ExitRecord>| record.map_or(CODE_HATCHWAY_FAILED, |record| record.code);
        match (self, way) {
            (Self::Own(seen), _) => {
                let end = Instant::now() + END_MAX;
                let Some(mut ended) = seen.ended(Some(END_MAX)) else {
                    return Ok((format!("the terminal of `{name}` is gone"), CODE_HATCHWAY_FAILED));
                };
                // What kept it was killed, and it is asked to end. It answers nobody a moment before its record is there.
                let gone = Instant::now() + RECORD_MAX;
                while ended.state == State::Ending && Instant::now() < end
                    || ended.state == State::Lost && Instant::now() < gone
                {
                    std::thread::sleep(LOOK);
                    ended = seen.ended(None).unwrap_or(ended);
                }
                Ok((row(&ended), code(ended.record.as_ref())))
            }
            (Self::Daemons(run), Way::Daemon { client, .. }) => {
                let end = Instant::now() + END_MAX;
                loop {
                    let unit: UnitStatus = client.get(&format!("/v1/units/{}", instrument::segment(name)))?;
                    if unit.run != *run {
                        let text = format!("`{name}` has ended, and another run of it has begun");
                        return Ok((text, CODE_HATCHWAY_FAILED));
                    }
                    if unit.record.is_some() || Instant::now() >= end {
                        return Ok((instrument::row(&unit, 0), code(unit.record.as_ref())));
                    }
                    std::thread::sleep(LOOK);
                }
            }
            (Self::Daemons(_), Way::Folder(_)) => Ok((String::new(), CODE_HATCHWAY_FAILED)),
        }
    }
}

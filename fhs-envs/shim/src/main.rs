//! One unit: the sandbox, standard streams, terminal, `exit.json`. An own small static binary, since it stays beside
//! every unit and is PID 1 in it.
//!
//! It is two processes. The *attendant* stays on the host: it passes signals on, relays the terminal, waits, writes
//! `exit.json` and exits with the tool's own code. The *inner half* is PID 1 of the new process namespace: it applies
//! the plan, gives up every privilege, starts the tool, reaps what is orphaned, and ends everything when the tool ends
//! or when the attendant is gone. In a container, which has namespaces already, the attendant is PID 1 and the inner half
//! adopts what is orphaned ([`lease`]). In a guest it is the machine's init first ([`guest`]). Both halves run from a sealed copy in memory, so that nothing can write to the binary
//! through `/proc/PID/exe`, and neither has a second thread.
//!
//! Beside a unit that stays when whoever started it goes there is a third one, which keeps what the unit says ([`recorder`]).
#![forbid(unsafe_code)]

mod ahead;
mod apply;
mod attendant;
mod channel;
mod clients;
mod companions;
mod control_group;
mod doors;
mod error;
mod fence;
mod follow;
mod guest;
mod health;
mod host;
mod init;
mod inside;
mod keeper;
mod lease;
mod link;
mod mapping;
mod oom;
mod privileges;
mod ready;
mod reaper;
mod record;
mod recorder;
mod relay;
mod root;
mod sealed;
mod services;
mod slots;
mod spawn;
mod terminal;
mod visits;
mod watch;

use error::Error;
use hatchway_wire::{Bootstrap, VERSION};
use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            complain(&error.to_string(), std::error::Error::source(&error), error.hint().as_deref());
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<i32, Error> {
    if std::env::args().skip(1).eq(["--guest"]) {
        return guest::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, folder] = arguments.as_slice()
        && option == "--unit"
    {
        return recorder::run(folder);
    }
    if let Some((way, process, ms)) = watched()? {
        return watch::run(&way, &process, ms);
    }
    let fd = self::arguments()?;
    let bootstrap = read(fd)?;
    if !sealed::is_sealed()? {
        return Err(sealed::run_sealed(fd, &bootstrap.keep_fds));
    }
    attendant::attend(&bootstrap, fd)
}

/// `--watch PIPE PROCESS MILLISECONDS`, with two descriptors by number: see [`watch`].
fn watched() -> Result<Option<(OwnedFd, OwnedFd, u64)>, Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, way, process, ms] = arguments.as_slice() else { return Ok(None) };
    if name != "--watch" {
        return Ok(None);
    }
    let fd = |text: &str| -> Result<OwnedFd, Error> {
        let number = text.parse().map_err(|_| Error::Usage)?;
        hatchway_sys::descriptors::copy_of(number).map_err(Error::ReadBootstrap)
    };
    Ok(Some((fd(way)?, fd(process)?, ms.parse().map_err(|_| Error::Usage)?)))
}

/// `--bootstrap-fd N` is all it takes, or `--bootstrap FILE` in a container or a guest, which nobody hands descriptors;
/// people use `hatchway run`.
fn arguments() -> Result<RawFd, Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [name, number] if name == "--bootstrap-fd" => {
            number.parse().ok().filter(|fd| *fd > 2).ok_or(Error::Usage)
        }
        [name, path] if name == "--bootstrap" => {
            let open = || -> std::io::Result<RawFd> {
                // Standard streams that are closed must not become it.
                let file = rustix::fs::open(path.as_str(), OFlags::RDONLY, Mode::empty())?;
                Ok(rustix::io::fcntl_dupfd_cloexec(&file, 3)?.into_raw_fd())
            };
            open().map_err(Error::ReadBootstrap)
        }
        _ => Err(Error::Usage),
    }
}

/// The descriptor is opened anew, which needs no claim on its number and starts reading at the front.
fn read(fd: RawFd) -> Result<Bootstrap, Error> {
    let text = std::fs::read(format!("/proc/self/fd/{fd}")).map_err(Error::ReadBootstrap)?;
    let bootstrap: Bootstrap = serde_json::from_slice(&text).map_err(Error::ParseBootstrap)?;
    if bootstrap.version != VERSION {
        return Err(Error::Version { theirs: bootstrap.version, ours: VERSION });
    }
    if let Some(fd) = bootstrap.keep_fds.iter().find(|fd| **fd <= 2) {
        return Err(Error::KeepFd(*fd));
    }
    Ok(bootstrap)
}

/// A `warning:` line on standard error, about a unit that goes on.
fn warn(message: &str) {
    let text: String = message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    // A reader that rests must not hold up who looks after the unit.
    let mut fds = [nix::poll::PollFd::new(rustix::stdio::stderr(), nix::poll::PollFlags::POLLOUT)];
    if !nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        return;
    }
    std::io::stderr().write_all(format!("warning: {text}\n").as_bytes()).ok();
}

/// How long whoever reads standard error may take, in milliseconds.
const COMPLAIN_MAX_MS: u16 = 2000;

/// `error:` and `hint:` lines on standard error. There is nobody to tell if that fails.
fn complain(message: &str, source: Option<&dyn std::error::Error>, hint: Option<&str>) {
    let mut text = format!("error: {message}");
    let mut next = source;
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    // Names in it may be the tool's or the tree's: nothing in them may steer the terminal.
    text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    text.push('\n');
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // A reader that rests for good must not keep a unit from its end.
    let mut fds = [nix::poll::PollFd::new(rustix::stdio::stderr(), nix::poll::PollFlags::POLLOUT)];
    if !nix::poll::poll(&mut fds, COMPLAIN_MAX_MS).is_ok_and(|ready| ready > 0) {
        return;
    }
    std::io::stderr().write_all(text.as_bytes()).ok();
}

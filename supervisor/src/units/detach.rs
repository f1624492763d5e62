//! `hatchway run --detach`: the recorder takes over, and this process only waits until the tool has started.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hatchway_wire::VERSION;
use hatchway_wire::log::Policy;
use hatchway_wire::unit::{self, Unit};

use super::{Seen, is_kept, see};
use crate::error::Error;
use crate::{launch, visit};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);
/// What of a recorder's complaint is shown.
const COMPLAINT_MAX: u64 = 4096;

/// What came of it.
#[derive(Debug)]
pub enum Detached {
    /// The tool runs.
    Runs(Seen),
    /// It has ended already.
    Ended(Seen),
}

/// Starts the recorder of a unit in its folder, which is there, with this command line as what runs the tool.
///
/// # Errors
/// The folder cannot be written, or the recorder does not start.
pub fn detach(
    (tool, run, folder): (&str, &str, &Path),
    command: Vec<String>,
    logs: Policy,
) -> Result<Detached, Error> {
    let told = Unit { version: VERSION, unit: tool.to_owned(), incarnation: run.to_owned(), command, logs };
    // From the first moment on nobody takes the folder for one that is left: the lock goes on to the recorder.
    let path = folder.join(unit::LOCK);
    let mut options = fs::File::options();
    let lock =
        options.write(true).create_new(true).mode(0o600).open(&path).map_err(Error::io("create", &path))?;
    hatchway_sys::lock::lock_exclusive(&lock).map_err(Error::io("lock", &path))?;
    write(&folder.join(unit::FILE), &told)?;
    start(folder, lock)?;
    // A guest from an image has nothing of ours inside that could say that it runs.
    let folder = folder.to_owned();
    loop {
        let kept = is_kept(&folder);
        if kept && visit::answers(&folder) && visit::has_started(&folder) {
            return Ok(Detached::Runs(see(tool, run, folder)));
        }
        if !kept {
            return Ok(Detached::Ended(see(tool, run, folder)));
        }
        std::thread::sleep(LOOK);
    }
}

/// This process's own command line, for another one that runs the tool as this run: without what asks for a recorder.
///
/// # Errors
/// A word that is no text, which a plan cannot carry.
pub fn command_line(words: impl IntoIterator<Item = OsString>, run: &str) -> Result<Vec<String>, Error> {
    let own = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    let mut words = words.into_iter().map(|word| {
        word.into_string().map_err(|word| {
            Error::Usage(format!("`{}` is no text, which `--detach` cannot pass on", word.display()))
        })
    });
    let mut line = vec![own.to_string_lossy().into_owned()];
    // Global options come before the verb.
    for word in words.by_ref() {
        let word = word?;
        let verb = word == "run";
        line.push(word);
        if verb {
            line.extend(["--incarnation".to_owned(), run.to_owned()]);
            break;
        }
    }
    let mut ours = true;
    for word in words {
        let word = word?;
        ours &= word != "--";
        if !(ours && word == "--detach") {
            line.push(word);
        }
    }
    Ok(line)
}

fn write(path: &PathBuf, told: &Unit) -> Result<(), Error> {
    let text =
        serde_json::to_vec_pretty(told).map_err(|e| Error::Usage(format!("cannot write JSON: {e}")))?;
    let mut options = fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(&text));
    written.map_err(Error::io("write", path))
}

/// The recorder closes its standard error once the unit is kept; what it says before is why it is not.
fn start(folder: &Path, lock: fs::File) -> Result<(), Error> {
    let shim = launch::shim()?;
    // What this process was started with (the other end of somebody's pipe) would stay open as long as the unit lives.
    hatchway_sys::descriptors::close_on_exec_from(3, &[]).map_err(Error::io("keep to", "this process"))?;
    let mut child = Command::new(&shim)
        .arg("--unit")
        .arg(folder)
        .stdin(lock)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("execute", &shim))?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(COMPLAINT_MAX).read_to_end(&mut said).map_err(Error::io("hear from", &shim))?;
    }
    if said.is_empty() {
        return Ok(());
    }
    drop(child.wait());
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let said = said.strip_prefix("error: ").unwrap_or(&said).to_owned();
    Err(Error::Host { message: format!("nothing keeps the unit: {said}"), hints: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_same_but_for_the_recorder() {
        let line = |words: &[&str]| command_line(words.iter().map(OsString::from), "7-1").unwrap();
        let found = line(&["-q", "run", "acme", "--detach", "--rung", "vm", "--", "--detach"]);
        assert_eq!(
            found[1..],
            ["-q", "run", "--incarnation", "7-1", "acme", "--rung", "vm", "--", "--detach"]
        );
    }
}

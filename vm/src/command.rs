//! Running another program to its end: bounded in time and in what it may say.
//!
//! Output goes to files in memory, not through pipes: `VBoxManage` starts a server that outlives it and may keep what it
//! inherited open, and a reader of a pipe would wait for that server's end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) use crate::plain::plain;

/// Bytes of output that are kept, each of both streams. The longest answer of `VBoxManage` is its help, of 60 KB.
const OUTPUT_MAX: usize = 1 << 20;
/// A program that writes more than this is ended.
const WRITTEN_MAX: u64 = 64 << 20;
/// How often an end is looked for: short beside the shortest call, of 40 ms.
const POLL: Duration = Duration::from_millis(5);

/// What a program gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it. Bytes that are no text are replaced.
///
/// # Errors
/// When it cannot be started, takes longer than `time` or writes without end.
pub(crate) fn run(command: &[OsString], time: Duration) -> io::Result<Said> {
    run_as(None, command, time)
}

/// Takes all variables away but where programs and temporary files are: those of a program that runs as a unit's user can be read by
/// whatever else runs as that user, and the caller's may be secrets of root's.
pub(crate) fn bare(command: &mut Command) {
    command.env_clear();
    for name in ["PATH", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
}

/// Runs it as this user and group, where they are given.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_as(user: Option<(u32, u32)>, command: &[OsString], time: Duration) -> io::Result<Said> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let memory = |name| rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let (stdout, stderr) = (memory("stdout")?, memory("stderr")?);
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        bare(&mut command);
        command.uid(uid).gid(gid);
    }
    hatchway_sys::process::start_unblocked(&mut command);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        // So that what it started can be ended with it, and a key at the terminal is ours to act on.
        .process_group(0)
        .spawn()?;
    let written = || -> io::Result<u64> { Ok(stdout.metadata()?.len() + stderr.metadata()?.len()) };
    let until = Instant::now() + time;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        let over = match written() {
            Ok(bytes) if bytes > WRITTEN_MAX => "it writes without end",
            _ if Instant::now() > until => "it takes too long",
            _ => {
                std::thread::sleep(POLL);
                continue;
            }
        };
        end(&mut child)?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, over));
    };
    Ok(Said { code, stdout: text(&stdout)?, stderr: text(&stderr)? })
}

/// Ends it with everything in its process group.
fn end(child: &mut Child) -> io::Result<()> {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        match kill_process_group(group, Signal::KILL) {
            // It has just ended by itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    child.wait().map(drop)
}

fn text(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; OUTPUT_MAX];
    let mut length = 0;
    while length < OUTPUT_MAX {
        match file.read_at(&mut bytes[length..], u64::try_from(length).unwrap_or(u64::MAX))? {
            0 => break,
            read => length += read,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_program_has_the_callers_places_and_nothing_else_of_its_variables() {
        let mut command = Command::new("env");
        command.env("SECRET", "1");
        bare(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("PATH="), "{text}");
        assert!(text.lines().all(|line| line.starts_with("PATH=") || line.starts_with("TMPDIR=")), "{text}");
    }

    fn shell(text: &str) -> Vec<OsString> {
        ["sh", "-c", text].map(OsString::from).to_vec()
    }

    #[test]
    fn output_and_code_come_back() {
        let said = run(&shell("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).unwrap();
        assert_eq!(said, Said { code: Some(3), stdout: "out\n".into(), stderr: "err\n".into() });
    }

    #[test]
    fn it_starts_with_no_signal_blocked() {
        use nix::sys::signal::{SigSet, SigmaskHow};
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
        let said = run(&shell("grep SigBlk /proc/self/status"), Duration::from_secs(10)).unwrap();
        before.thread_set_mask().unwrap();
        assert_eq!(said.stdout.trim(), "SigBlk:\t0000000000000000");
    }

    #[test]
    fn a_server_that_keeps_the_streams_open_is_not_waited_for() {
        let began = Instant::now();
        let said = run(&shell("sleep 60 & echo started; echo $!"), Duration::from_secs(50)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(40));
        let server: i32 = said.stdout.lines().nth(1).unwrap().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(server).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn what_takes_too_long_or_writes_without_end_is_ended() {
        let late = run(&shell("sleep 60 & sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert_eq!(late.to_string(), "it takes too long");
        let loud = run(&shell("exec cat /dev/zero"), Duration::from_secs(60)).unwrap_err();
        assert_eq!(loud.to_string(), "it writes without end");
        assert!(run(&["/nonexistent".into()], Duration::from_secs(1)).is_err());
    }
}

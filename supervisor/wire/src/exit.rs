//! `exit.json`: how a unit ended, with the evidence; and the exit codes of `hatchway run`.
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// Hatchway failed before the tool ran.
pub const CODE_HATCHWAY_FAILED: i32 = 125;
/// The program is there but cannot be executed.
pub const CODE_NOT_EXECUTABLE: i32 = 126;
/// The program is not there.
pub const CODE_NOT_FOUND: i32 = 127;
/// Added to the number of the signal that ended the tool.
pub const CODE_SIGNAL_BASE: i32 = 128;

/// The number of the signal that nobody survives, the same on every architecture of Linux.
const SIGKILL: i32 = 9;
/// The number of the signal for a forbidden system call, the same on x86 and ARM.
pub const SIGSYS: i32 = 31;

/// A moment on three clocks, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// `CLOCK_REALTIME`: for people; may jump.
    pub realtime_ns: i64,
    /// `CLOCK_TAI`: for comparing machines.
    pub tai_ns: i64,
    /// `CLOCK_MONOTONIC`: for differences on this machine since it started.
    pub monotonic_ns: i64,
}

/// What the tool and everything it started used, as far as it was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processor time in user code, microseconds.
    pub user_us: i64,
    /// Processor time in the kernel, microseconds.
    pub system_us: i64,
    /// Largest resident set of a single process, KiB.
    pub max_rss_kib: i64,
    /// Page faults that needed the disk.
    pub major_faults: i64,
}

/// How a process that ran came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// It ended by itself.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core: bool,
    },
}

impl Outcome {
    /// What `hatchway run` exits with.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exit { code } => code,
            Self::Signal { signal, .. } => CODE_SIGNAL_BASE + signal,
        }
    }
}

/// Why a unit is not running any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExitReason {
    /// The tool ended by itself.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// A signal nobody asked Hatchway to send ended the tool.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core: bool,
    },
    /// Hatchway was asked to end it.
    Requested {
        /// The signal Hatchway got and passed on.
        signal: i32,
        /// The grace period ran out and the tool was killed.
        forced: bool,
        /// How the tool then ended.
        outcome: Outcome,
    },
    /// The program could not be started.
    ExecFailed {
        /// The program as asked for.
        program: String,
        /// The error number of `execve`.
        errno: i32,
        /// The program is there; what it needs to run is not, or may not be used.
        found: bool,
        /// What a person should read.
        message: String,
    },
    /// The program started but its dynamic loader did not find a library.
    MissingLibrary {
        /// The library's name.
        library: String,
    },
    /// The sandbox could not be made.
    SandboxFailed {
        /// The operation, as `Display` of [`crate::Op`] gives it.
        operation: String,
        /// The path it was about, if it was about one.
        path: Option<String>,
        /// The error number, if a system call failed.
        errno: Option<i32>,
        /// What a person should read.
        message: String,
    },
    /// The unit took more memory than its control group has, and the kernel killed the tool for it.
    Oom {
        /// How many processes of the group the kernel has killed, as the group itself counts them.
        kills: u64,
    },
    /// The engine of containers or virtual machines ended the unit, or could not say how it ended.
    Engine {
        /// What a person should read.
        message: String,
        /// How the tool then ended, if that is known.
        outcome: Option<Outcome>,
    },
    /// Its check of health failed too often in a row, and its recipe ends it then.
    Unhealthy {
        /// What a person should read: when, how often, and how the last check failed.
        message: String,
        /// The grace period ran out and the tool was killed.
        forced: bool,
        /// How the tool then ended.
        outcome: Outcome,
    },
    /// A system call that the filter forbids ended the tool.
    Seccomp,
    /// The log had no room, and the unit is to be ended then.
    LogFull {
        /// How the tool then ended, if that is known.
        outcome: Option<Outcome>,
    },
    /// Hatchway failed before there was a sandbox.
    NotStarted {
        /// What it said.
        message: String,
    },
    /// A version that is newer than the reader has a word for it that this one does not know.
    Unknown {
        /// That word.
        word: String,
    },
    /// The inner half of the shim was killed, or ended without a word.
    Lost {
        /// How it ended.
        outcome: Outcome,
    },
}

impl ExitReason {
    /// What `hatchway run` exits with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Exit { code } => *code,
            Self::Signal { signal, .. } => CODE_SIGNAL_BASE + signal,
            Self::Requested { outcome, .. } | Self::Unhealthy { outcome, .. } => outcome.code(),
            Self::ExecFailed { found: true, .. } => CODE_NOT_EXECUTABLE,
            Self::ExecFailed { found: false, .. } => CODE_NOT_FOUND,
            Self::MissingLibrary { .. } => CODE_NOT_FOUND,
            Self::Oom { .. } => CODE_SIGNAL_BASE + SIGKILL,
            Self::Seccomp => CODE_SIGNAL_BASE + SIGSYS,
            Self::Engine { outcome: Some(outcome), .. } | Self::LogFull { outcome: Some(outcome) } => {
                outcome.code()
            }
            Self::SandboxFailed { .. }
            | Self::Engine { outcome: None, .. }
            | Self::LogFull { outcome: None }
            | Self::NotStarted { .. }
            | Self::Unknown { .. }
            | Self::Lost { .. } => CODE_HATCHWAY_FAILED,
        }
    }
}

/// How much a unit said, where its output was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Logged {
    /// Bytes on standard output.
    pub out: u64,
    /// Bytes on standard error.
    pub err: u64,
    /// Bytes of both that were thrown away, for want of room or because somebody cleared the log.
    pub dropped: u64,
}

/// What the kernel has killed of a unit for want of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryKills {
    /// How many processes.
    pub kills: u64,
    /// Whose memory was at its end; `None` where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<Short>,
}

/// Whose memory was at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// The unit has a limit of its own, and reached it.
    Unit,
    /// A control group that the unit's is in has a limit.
    Group {
        /// Its path, as `/proc/PID/cgroup` has it.
        path: String,
    },
    /// No limit was reached: the machine had no more.
    Machine,
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// A record is not thrown away for a word that a newer version has: all else in it is as it was.
fn known<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ExitReason, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let word = match &value {
        serde_json::Value::String(word) => Some(word.clone()),
        serde_json::Value::Object(one) => one.keys().next().cloned(),
        _ => None,
    };
    match (serde_json::from_value(value), word) {
        (Ok(reason), _) => Ok(reason),
        (Err(_), Some(word)) => Ok(ExitReason::Unknown { word }),
        (Err(error), None) => Err(serde::de::Error::custom(error)),
    }
}

/// The content of `exit.json`. Fields that a reader does not know are a newer version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Name of the unit.
    pub unit: String,
    /// Which run of it.
    pub incarnation: String,
    /// The program as asked for.
    pub program: String,
    /// When the shim began.
    pub started: Stamp,
    /// When the tool ended.
    pub ended: Stamp,
    /// Why.
    #[serde(deserialize_with = "known")]
    pub reason: ExitReason,
    /// What `hatchway run` exited with.
    pub code: i32,
    /// The shim's process id on the host.
    pub shim_pid: i32,
    /// The tool's process id inside; `None` if it never ran.
    pub tool_pid: Option<i32>,
    /// What was used.
    pub usage: Usage,
    /// What was done otherwise than planned (no overlay on this kernel, for instance).
    pub notes: Vec<String>,
    /// What shows that the reason is the reason: lines that were said, counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What the kernel has killed of it for want of memory, also where that was not its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryKills>,
    /// How much was said, where the output was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged: Option<Logged>,
    /// Where this record was written.
    pub exit_file: Option<HostPath>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_versions_word_is_no_reason_to_lose_the_record() {
        let stamp = Stamp::default();
        let record = ExitRecord {
            version: 1,
            unit: "acme".to_owned(),
            incarnation: "1-2".to_owned(),
            program: "x".to_owned(),
            started: stamp,
            ended: stamp,
            reason: ExitReason::Seccomp,
            code: 159,
            shim_pid: 1,
            tool_pid: None,
            usage: Usage::default(),
            notes: Vec::new(),
            evidence: vec!["e".to_owned()],
            memory: None,
            logged: None,
            exit_file: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ExitRecord>(&text).unwrap(), record);
        for newer in [r#""melted""#, r#"{"melted":{"degrees":3000}}"#, r#"{"exit":{"code":1,"melted":true}}"#]
        {
            let text = text.replace("\"seccomp\"", newer);
            let read: ExitRecord = serde_json::from_str(&text).unwrap();
            let word = if newer.contains("exit") { "exit" } else { "melted" }.to_owned();
            assert_eq!((read.reason, &read.evidence), (ExitReason::Unknown { word }, &record.evidence));
        }
        assert!(serde_json::from_str::<ExitRecord>(&text.replace("\"seccomp\"", "7")).is_err());
    }
}

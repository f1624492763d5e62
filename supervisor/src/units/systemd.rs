//! Recorders as transient services of systemd's, where it is the machine's first process: then it gives each unit a control group,
//! accounts for it, and ends it in order when the machine goes down. The recorder is started as everywhere: with the folder's lock as
//! standard input, and what it complains of on standard error.
//!
//! What the properties mean: systemd.exec(5), systemd.kill(5), systemd.resource-control(5); their types on the bus:
//! org.freedesktop.systemd1(5).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use zbus::Connection;
use zbus::zvariant::{Fd, OwnedObjectPath, Value};

/// All units are below this slice: `systemctl status hatchway.slice` shows them.
const SLICE: &str = "hatchway.slice";
/// How long the bus and systemd may take to an answer, each start anew: more than a busy machine takes, and less than a person waits.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What systemd tells the daemon alone.
const OWN_VARIABLES: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
];
/// What a service is given: what `hatchway run` asks for, and nothing that may be secret, since everybody may read the variables of a
/// service.
const SHOWN: [&str; 14] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "DOCKER_HOST",
    "SUDO_UID",
    "SUDO_GID",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "PULSE_SERVER",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
];
/// And all that begin so.
const SHOWN_PREFIXES: [&str; 3] = ["HATCHWAY_", "XDG_", "LC_"];

/// Whether systemd is the machine's first process, as sd_booted(3) tells it, and takes services from this one.
pub(super) fn is_there() -> bool {
    crate::dirs::is_root() && Path::new("/run/systemd/system").is_dir()
}

/// The variables of this process that are not for it alone.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
}

fn is_shown(name: &str) -> bool {
    SHOWN.contains(&name) || SHOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What is started.
#[derive(Debug)]
pub(super) struct Service<'a> {
    /// Of the unit.
    pub(super) unit: &'a str,
    /// Which run of it.
    pub(super) run: &'a str,
    /// The program and its arguments.
    pub(super) words: &'a [String],
    /// How long it has to end.
    pub(super) stop: Duration,
}

/// Starts it; whoever reads the other end of `errors` hears when it keeps the unit.
///
/// # Errors
/// systemd does not take it, or nobody answers. In the latter case it may be started later all the same.
pub(super) fn start(service: &Service<'_>, lock: BorrowedFd<'_>, errors: BorrowedFd<'_>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A bus that hangs takes a connection and says nothing.
    let answer = runtime.block_on(async {
        tokio::time::timeout(ANSWER_MAX, ask(service, properties(service, lock, errors)?)).await?
    });
    runtime.shutdown_background();
    answer.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            io::Error::new(error.kind(), format!("no answer within {} s", ANSWER_MAX.as_secs()))
        }
        _ => error,
    })
}

async fn ask(service: &Service<'_>, properties: Vec<(&'static str, Value<'_>)>) -> io::Result<()> {
    let bus = Connection::system().await.map_err(other)?;
    let name = format!("hatchway-{}-{}.service", service.unit, service.run);
    let nothing: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
    let answer = bus
        .call_method(
            Some("org.freedesktop.systemd1"),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "StartTransientUnit",
            &(name.as_str(), "fail", properties, nothing),
        )
        .await;
    // The job; how it goes is heard on standard error.
    answer.and_then(|message| message.body().deserialize::<OwnedObjectPath>()).map(drop).map_err(other)
}

fn properties<'a>(
    service: &'a Service<'_>,
    lock: BorrowedFd<'a>,
    errors: BorrowedFd<'a>,
) -> io::Result<Vec<(&'static str, Value<'a>)>> {
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    let program = service.words.first().ok_or(io::ErrorKind::InvalidInput)?.as_str();
    let stop = u64::try_from(service.stop.as_micros()).unwrap_or(u64::MAX);
    let variables =
        environment().filter(|(name, value)| is_shown(name) && !value.chars().any(char::is_control));
    let variables: Vec<String> = variables.map(|(name, value)| format!("{name}={value}")).collect();
    Ok(vec![
        ("Description", Value::from(format!("Hatchway unit {}", service.unit))),
        ("ExecStart", Value::from(vec![(program.to_owned(), service.words.to_vec(), false)])),
        ("Type", Value::from("exec")),
        ("Slice", Value::from(SLICE)),
        ("Environment", Value::from(variables)),
        ("StandardInputFileDescriptor", Value::from(Fd::from(lock.try_clone_to_owned()?))),
        ("StandardOutputFileDescriptor", Value::from(Fd::from(null.as_fd().try_clone_to_owned()?))),
        ("StandardErrorFileDescriptor", Value::from(Fd::from(errors.try_clone_to_owned()?))),
        // TERM is for the recorder, which passes it on and waits; what is left when the time is up is killed.
        ("KillMode", Value::from("mixed")),
        ("TimeoutStopUSec", Value::from(stop)),
        // The shim makes a group of its own below for what the recipe limits.
        ("Delegate", Value::from(true)),
        // That something of it was killed for want of memory is told by the recorder, not by ending it, too.
        ("OOMPolicy", Value::from("continue")),
        // Nobody looks at the service once it has ended: the unit's folder says how.
        ("CollectMode", Value::from("inactive-or-failed")),
    ])
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

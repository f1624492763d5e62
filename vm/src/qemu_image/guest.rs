//! A guest that runs.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::Fault;
use super::argv::{self, Given, QMP};
use super::qmp::{Client, Event};
use crate::command::plain;
use crate::error::Error;
use crate::machine::{Mac, Machine};
use crate::qemu::accel::Accel;
use crate::usb::{self, Name, Place};
use crate::virtualbox::check_tag;

/// From its start to its greeting. With much memory and a slow disk QEMU takes seconds.
const GREETING_MAX: Duration = Duration::from_secs(30);
/// A command that only sets or asks something.
const COMMAND_MAX: Duration = Duration::from_secs(30);
/// Pressing the power button: who does so waits to switch off.
const PRESS_MAX: Duration = Duration::from_secs(5);
/// Writing or reading a guest's memory: 16 GiB at 50 MB/s.
const SNAPSHOT_MAX: Duration = Duration::from_secs(360);
/// How long the guest may take to let go of a USB device.
const UNPLUG_MAX: Duration = Duration::from_secs(5);
/// Where the kernel and udev put the nodes of USB devices.
const NODES: &str = "/dev/bus/usb";
/// How often a snapshot is asked whether it is done.
const POLL: Duration = Duration::from_millis(20);
/// Between two presses of the power button: Windows takes the first one as a wish for its screen when that is dark.
pub const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// What is kept of QEMU's messages.
const SAID_MAX: usize = 4096;

/// What a guest is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What executes its instructions.
    pub accel: Accel,
    /// A folder for sockets, of whom QEMU runs as and of nobody else.
    pub folder: &'a Path,
    /// What is written instead of the disks: [`super::overlay`].
    pub overlays: &'a [PathBuf],
    /// A snapshot to begin with.
    pub snapshot: Option<&'a str>,
    /// User and group of QEMU's process; this process's own otherwise. Files and folders above have to be theirs.
    pub user: Option<(u32, u32)>,
    /// The program.
    pub program: &'a Path,
    /// Where the kernel tells about devices: `/sys`.
    pub sys: &'a Path,
}

/// Why a guest has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It switched itself off.
    Guest,
    /// QEMU was asked to end, by a signal or a command.
    Asked,
    /// QEMU ended without a word: it was killed, or it failed.
    Unknown,
}

/// How a guest has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub why: Why,
    /// QEMU's exit code.
    pub code: Option<i32>,
    /// The signal that ended QEMU.
    pub signal: Option<i32>,
    /// QEMU's last words.
    pub said: String,
}

/// A running guest. Let go of, it is killed.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    client: Client,
    folder: PathBuf,
    said: Said,
    why: Why,
    usb: Vec<(Name, Option<Place>)>,
    user: Option<(u32, u32)>,
    sys: PathBuf,
    disks: usize,
    ended: Option<Ended>,
}

impl Guest {
    /// Starts QEMU, and with it the guest. Call it from a thread that lives as long as the guest is to: QEMU ends with it.
    ///
    /// # Errors
    /// What QEMU cannot give, a USB name that fits several devices, a QEMU that is not there or ends at once.
    pub fn start(start: &Start<'_>) -> Result<Self, Error> {
        if let Some(tag) = start.snapshot {
            check_tag(tag)?;
        }
        let find = |name: &Name| {
            usb::find(start.sys, name).map_err(Error::io("find the USB device", name.to_string()))
        };
        let places: Vec<Option<Place>> = start.machine.usb.iter().map(find).collect::<Result<_, _>>()?;
        let given = Given {
            accel: start.accel,
            folder: start.folder,
            overlays: start.overlays,
            places: &places,
            snapshot: start.snapshot,
        };
        let arguments = argv::arguments(start.machine, &given)?;
        let listener = listen(start)?;
        let mut child = spawn(start, &arguments)?;
        let said = Said::of(child.stderr.take());
        let client = match greeted(&listener, &mut child) {
            Ok(client) => client,
            Err(fault) => {
                drop(child.kill());
                drop(child.wait());
                let fault = if fault == Fault::Gone { Fault::Start(said.last()) } else { fault };
                return Err(Error::Qemu(fault));
            }
        };
        // Nobody else comes in.
        drop(fs::remove_file(start.folder.join(QMP)));
        Ok(Self {
            child,
            client,
            folder: start.folder.to_owned(),
            said,
            why: Why::Unknown,
            usb: start.machine.usb.iter().cloned().zip(places).collect(),
            user: start.user,
            sys: start.sys.to_owned(),
            disks: start.overlays.len(),
            ended: None,
        })
    }

    /// QEMU's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the guest's end, at most for `time`.
    ///
    /// # Errors
    /// When QEMU speaks nonsense: it is then killed when this is let go of.
    pub fn wait(&mut self, time: Duration) -> Result<Option<Ended>, Error> {
        let until = Instant::now() + time;
        loop {
            if let Some(ended) = &self.ended {
                return Ok(Some(ended.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.client.event(left) {
                Ok(Some(event)) => {
                    self.note(&event);
                    // A QEMU that talks without end is not listened to for longer than asked for.
                    if Instant::now() >= until && !self.client.has_more() {
                        return Ok(None);
                    }
                }
                // Its end of the conversation is closed by its exit, which takes a moment more.
                Err(Fault::Gone) => {
                    let status = self.child.wait().map_err(Error::io("wait for", "QEMU"))?;
                    self.over(status);
                }
                Err(fault) => return Err(Error::Qemu(fault)),
                Ok(None) => return Ok(None),
            }
        }
    }

    fn note(&mut self, event: &Event) {
        if event.name == "SHUTDOWN" {
            self.why = if event.data["guest"] == true { Why::Guest } else { Why::Asked };
        }
    }

    fn over(&mut self, status: ExitStatus) {
        let said = self.said.last();
        self.ended = Some(Ended { why: self.why, code: status.code(), signal: status.signal(), said });
    }

    /// Presses the power button once.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn press(&mut self) -> Result<(), Error> {
        let answer = self.client.execute("system_powerdown", &json!({}), PRESS_MAX);
        answer.map(drop).map_err(Error::Qemu)
    }

    /// Presses the power button, as often as it takes within `grace`, then switches off. `true` where the guest went by itself.
    ///
    /// # Errors
    /// When QEMU cannot be ended.
    pub fn stop(&mut self, grace: Duration) -> Result<(Ended, bool), Error> {
        let until = Instant::now() + grace;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok((self.kill()?, false));
            }
            match self.press() {
                Ok(()) | Err(Error::Qemu(Fault::Gone)) => {}
                // Whatever it has become, it is not asked again.
                Err(_) => return Ok((self.kill()?, false)),
            }
            match self.wait(left.min(PRESS_AGAIN)) {
                Ok(Some(ended)) => return Ok((ended, true)),
                Ok(None) => {}
                Err(_) => return Ok((self.kill()?, false)),
            }
        }
    }

    /// Switches off at once.
    ///
    /// # Errors
    /// When QEMU cannot be ended.
    pub fn kill(&mut self) -> Result<Ended, Error> {
        if self.ended.is_none() {
            self.child.kill().map_err(Error::io("kill", "QEMU"))?;
            let status = self.child.wait().map_err(Error::io("wait for", "QEMU"))?;
            self.over(status);
        }
        Ok(self.ended.clone().unwrap_or(Ended {
            why: Why::Unknown,
            code: None,
            signal: None,
            said: String::new(),
        }))
    }

    /// Keeps memory and disks under this name, in the files that are written instead of the disks.
    ///
    /// # Errors
    /// When the name is not one or is taken, or QEMU cannot.
    pub fn snapshot(&mut self, tag: &str) -> Result<(), Error> {
        self.job("snapshot-save", tag)
    }

    /// Goes back to what was kept; the guest goes on there.
    ///
    /// # Errors
    /// When there is no such snapshot, or QEMU cannot.
    pub fn restore(&mut self, tag: &str) -> Result<(), Error> {
        self.job("snapshot-load", tag)?;
        self.command("cont", &json!({})).map(drop)
    }

    /// Forgets what was kept.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub fn delete_snapshot(&mut self, tag: &str) -> Result<(), Error> {
        self.job("snapshot-delete", tag)
    }

    /// The names of what was kept.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn snapshots(&mut self) -> Result<Vec<String>, Error> {
        let nodes = self.command("query-named-block-nodes", &json!({ "flat": true }))?;
        let first = nodes.as_array().into_iter().flatten().find(|node| node["node-name"] == "disk0");
        let kept = first.and_then(|node| node["image"]["snapshots"].as_array());
        Ok(kept.into_iter().flatten().filter_map(|one| Some(plain(one["name"].as_str()?))).collect())
    }

    /// QEMU's jobs for snapshots, of its QAPI reference: begun by a command, then asked until they are concluded.
    fn job(&mut self, command: &'static str, tag: &str) -> Result<(), Error> {
        const JOB: &str = "snapshot";
        check_tag(tag)?;
        let devices: Vec<String> = (0..self.disks).map(|number| format!("disk{number}")).collect();
        let mut arguments = json!({ "job-id": JOB, "tag": tag, "devices": devices });
        if command != "snapshot-delete" {
            arguments["vmstate"] = json!("disk0");
        }
        self.command(command, &arguments)?;
        let until = Instant::now() + SNAPSHOT_MAX;
        let said = loop {
            let jobs = self.command("query-jobs", &json!({}))?;
            let job = jobs.as_array().into_iter().flatten().find(|job| job["id"] == JOB);
            match job {
                Some(job) if job["status"] == "concluded" => break job["error"].as_str().map(plain),
                Some(_) if Instant::now() < until => std::thread::sleep(POLL),
                Some(_) => return Err(Error::Qemu(Fault::Silent(command))),
                None => return Err(Error::Qemu(Fault::Protocol("it has forgotten a job".into()))),
            }
        };
        self.command("job-dismiss", &json!({ "id": JOB }))?;
        match said {
            None => Ok(()),
            Some(said) => Err(Error::Qemu(Fault::Refused { command, said })),
        }
    }

    /// Writes what the guest's screen shows to a PNG file in its folder; gives the path.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub fn screenshot(&mut self) -> Result<PathBuf, Error> {
        let name = "screen.png";
        self.command("screendump", &json!({ "filename": name, "format": "png" }))?;
        Ok(self.folder.join(name))
    }

    /// The pseudo terminals of its serial lines; none for those at sockets.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn terminals(&mut self) -> Result<Vec<Option<PathBuf>>, Error> {
        let lines = self.command("query-chardev", &json!({}))?;
        let named = |number: usize| {
            let label = format!("com{number}");
            lines.as_array().into_iter().flatten().find(|line| line["label"] == label.as_str())
        };
        let of = |line: &Value| {
            let name = line["filename"].as_str()?.strip_prefix("pty:")?;
            // QEMU's word, and a path that somebody will open.
            let digits = name.strip_prefix("/dev/pts/")?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| PathBuf::from(name))
        };
        Ok((0..).map_while(named).take(crate::machine::SERIAL_MAX).map(of).collect())
    }

    /// The address of its network card as the card has it.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn mac(&mut self) -> Result<Option<Mac>, Error> {
        let path = "/machine/peripheral/nic0";
        let mac = self.command("qom-get", &json!({ "path": path, "property": "mac" }))?;
        Ok(mac.as_str().and_then(|text| text.parse().ok()))
    }

    /// The nodes of its USB devices that QEMU's user may not write to.
    #[must_use]
    pub fn closed_usb(&self) -> Vec<PathBuf> {
        let Some(user) = self.user else { return Vec::new() };
        let places = self.usb.iter().filter_map(|(_, place)| place.as_ref());
        places.filter_map(|place| usb::closed_to(Path::new(NODES), place, user)).collect()
    }

    /// Looks where the USB devices are now: what is gone is unplugged in the guest, what is back or elsewhere is plugged in.
    /// Gives a line for each change.
    ///
    /// # Errors
    /// When QEMU does not answer. What it refuses for one device is one of the lines.
    pub fn follow_usb(&mut self) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for number in 0..self.usb.len() {
            let (name, before) = self.usb[number].clone();
            // Several that fit may be one that has not left yet.
            let Ok(now) = usb::find(&self.sys, &name) else { continue };
            if now == before {
                continue;
            }
            if before.is_some() {
                self.unplug(number)?;
                self.usb[number].1 = None;
            }
            let Some(place) = now else {
                lines.push(format!("`{name}` is unplugged"));
                continue;
            };
            match self.plug(number, &place) {
                Ok(_) => {
                    lines.push(format!("`{name}` is plugged in, at {}-{}", place.bus, place.port));
                    self.usb[number].1 = Some(place);
                }
                // Its node may not be there yet, or not be ours yet: the next look tries again.
                Err(Error::Qemu(Fault::Refused { said, .. })) => {
                    lines.push(format!("`{name}` is not taken: {said}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(lines)
    }

    fn plug(&mut self, number: usize, place: &Place) -> Result<Value, Error> {
        let arguments = json!({
            "driver": "usb-host", "id": format!("usb{number}"), "bus": "xhci.0",
            "hostbus": place.bus, "hostport": place.port,
        });
        self.command("device_add", &arguments)
    }

    /// A device has left when QEMU says so, and its name is free only then.
    fn unplug(&mut self, number: usize) -> Result<(), Error> {
        let id = format!("usb{number}");
        match self.command("device_del", &json!({ "id": id })) {
            Err(Error::Qemu(Fault::Refused { .. })) => return Ok(()),
            other => other?,
        };
        let until = Instant::now() + UNPLUG_MAX;
        while let Some(event) =
            self.client.event(until.saturating_duration_since(Instant::now())).map_err(Error::Qemu)?
        {
            let left = event.name == "DEVICE_DELETED" && event.data["device"] == id.as_str();
            if left || Instant::now() >= until {
                break;
            }
            self.note(&event);
        }
        Ok(())
    }

    fn command(&mut self, command: &'static str, arguments: &Value) -> Result<Value, Error> {
        self.client.execute(command, arguments, COMMAND_MAX).map_err(Error::Qemu)
    }
}

/// Readable when [`Guest::wait`] has something to do.
impl AsFd for Guest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.kill());
        drop(fs::remove_file(self.folder.join(QMP)));
    }
}

/// QEMU comes to us: so its folder's path may be longer than a socket's, and nobody waits for a file to appear.
fn listen(start: &Start<'_>) -> Result<UnixListener, Error> {
    let path = start.folder.join(QMP);
    let folder = fs::File::open(start.folder).map_err(Error::io("open", start.folder))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(QMP);
    // Of a guest that was killed.
    drop(fs::remove_file(&path));
    let listener = UnixListener::bind(short).map_err(Error::io("listen at", &path))?;
    if let Some((uid, gid)) = start.user {
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid))
            .map_err(Error::io("change the owner of", &path))?;
    }
    Ok(listener)
}

fn spawn(start: &Start<'_>, arguments: &[String]) -> Result<Child, Error> {
    let mut command = Command::new(start.program);
    crate::command::bare(&mut command);
    command
        .args(arguments)
        .current_dir(start.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A key at the terminal is ours to act on.
        .process_group(0);
    if let Some((uid, gid)) = start.user {
        command.uid(uid).gid(gid);
    }
    hatchway_sys::process::end_with_parent(&mut command);
    hatchway_sys::process::start_unblocked(&mut command);
    command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NoProgram { program: start.program.to_owned(), package: "qemu-system-x86" }
        }
        _ => Error::io("run", start.program)(source),
    })
}

/// Waits until QEMU has come and greeted, or has ended.
fn greeted(listener: &UnixListener, child: &mut Child) -> Result<Client, Fault> {
    const LOOK_MS: i64 = 50;
    let until = Instant::now() + GREETING_MAX;
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
    while Instant::now() < until {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&look)), Ok(1)) {
            let (stream, _) = listener.accept().map_err(|_| Fault::Gone)?;
            return Client::new(stream, GREETING_MAX);
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(Fault::Gone);
        }
    }
    Err(Fault::Silent("its start"))
}

/// What QEMU says on its stderr: read always, so that it never waits; the last of it is kept.
#[derive(Debug)]
struct Said {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn of(stream: Option<ChildStderr>) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        let reader = stream.map(|mut stream| {
            // Signals are for the thread that started the guest.
            let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
            let reader = std::thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    let mut tail = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.extend(&chunk[..read]);
                    let over = tail.len().saturating_sub(SAID_MAX);
                    tail.drain(..over);
                }
            });
            if let Ok(before) = blocked {
                before.thread_set_mask().ok();
            }
            reader
        });
        Self { tail, reader }
    }

    /// All of it, once QEMU has ended.
    fn last(&self) -> String {
        // Its end closes the stream, unless something that it started still has it: then what there is has to do.
        let until = Instant::now() + Duration::from_secs(1);
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        plain(&String::from_utf8_lossy(&bytes))
    }
}

//! Programs of a tree that run while it is built: offline, in a sandbox, over the tree that is being put together.
//!
//! Two ways. Over a read-only tree ([`Room::run`] with [`Root::ReadOnly`]), for a program that writes its result to
//! standard output or to a folder that is bound for it. Over a writable copy ([`stage`], [`Root::Writable`],
//! [`Staged::capture`]), for a program that writes where it likes: what it changed comes back as nodes of a manifest.
//! What is run is hostile: after it has ended nothing it left is followed as a link on the host.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hatchway_wire::{ExitReason, ExitRecord};

use super::capture;
use super::watch::{self, Watch};
use crate::error::Error;
use crate::sandbox::{self, BuildSpec, HostFacts, HostPath, InsidePath};
use crate::store::Workspace;
use crate::store::manifest::{Manifest, Node};

pub use capture::Captured;

/// Seconds since the epoch that programs are to write where they write the time: the modification time of everything in
/// the store. `SOURCE_DATE_EPOCH` as reproducible-builds.org specifies it.
pub const SOURCE_DATE_EPOCH: &str = "1";
/// How much of each output stream is kept, in bytes, where a step does not say.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// How long a step may take where it does not say.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The exit code of what SIGXFSZ ended: 128 and the signal's number.
const FILE_TOO_LARGE: i32 = 153;
/// The lines of a failed step's output that its error shows.
const LINES_SHOWN: usize = 12;

/// A command to run over a tree.
#[derive(Debug, Clone)]
pub struct Step {
    /// Names it in messages.
    pub name: String,
    /// A path inside, or a bare name that is looked up in `PATH`.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Added to the default environment (`PATH`, `HOME=/root`, `LC_ALL=C.UTF-8`, `SOURCE_DATE_EPOCH` …), or replacing
    /// parts of it.
    pub env: BTreeMap<String, String>,
    /// Working folder inside.
    pub cwd: String,
    /// What it can read from standard input, before that ends.
    pub stdin: Vec<u8>,
    /// Folders of the host: where from, where to, whether read-only. Below `/run` there is always room for them.
    pub binds: Vec<(PathBuf, String, bool)>,
    /// After that it is ended.
    pub timeout: Duration,
    /// How much of each output stream is kept, in bytes; more is an error.
    pub output_bytes_max: u64,
    /// 32-bit programs in it may make sockets.
    pub i386: bool,
}

impl Step {
    /// A command with the defaults.
    #[must_use]
    pub fn new(name: &str, program: &str, args: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: BTreeMap::new(),
            cwd: "/".to_owned(),
            stdin: Vec::new(),
            binds: Vec::new(),
            timeout: TIMEOUT,
            output_bytes_max: OUTPUT_BYTES_MAX,
            i386: false,
        }
    }
}

/// What is `/` for a step.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// This folder, which cannot be written.
    ReadOnly(&'a Path),
    /// This folder; writes stay in it.
    Writable(&'a Path),
}

/// What a step that ended by itself left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 plus the signal's number where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output of a step that succeeded.
    ///
    /// # Errors
    /// [`Error::BuildStep`] with the last lines it wrote, where its exit code is not 0.
    pub fn success(self, step: &str) -> Result<Vec<u8>, Error> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        let said = [self.stdout, self.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let why = if self.code == FILE_TOO_LARGE { " (file size limit exceeded)" } else { "" };
        Err(failed(step, format!("it ended with exit code {}{why}{}", self.code, last_lines(&said))))
    }
}

/// Where steps run.
#[derive(Debug)]
pub struct Room<'a> {
    shim: &'a Path,
    /// On the store's file system; removed with the workspace.
    folder: PathBuf,
    host: HostFacts,
    /// How many steps were begun.
    steps: AtomicUsize,
}

impl<'a> Room<'a> {
    /// `shim` is `hatchway-shim`.
    pub(crate) fn new(shim: &'a Path, workspace: &Workspace<'_>) -> Result<Self, Error> {
        let folder = workspace.scratch("room")?;
        Ok(Self { shim, folder, host: HostFacts::detect(Vec::new()), steps: AtomicUsize::new(0) })
    }

    /// Runs a step to its end, with an empty `/tmp`.
    ///
    /// # Errors
    /// The sandbox cannot be made, the program cannot be started, it takes too long or says too much. A program that
    /// fails is no error here: see [`Output::success`].
    pub fn run(&self, root: Root<'_>, step: &Step) -> Result<Output, Error> {
        // Steps may run at the same time.
        let own = self.folder.join(self.steps.fetch_add(1, Ordering::Relaxed).to_string());
        let (tmp, exit_file) = (own.join("tmp"), own.join("exit.json"));
        std::fs::create_dir_all(&tmp).map_err(Error::io("create", &tmp))?;
        self.hand_over(root, step, &tmp)?;
        let spec = self.spec(root, step, &own)?;
        let bootstrap = sandbox::build_plan(&spec, &self.host)?;
        let stdin = stdin(step, &own)?;
        let watch = Watch::begin(&self.folder, writable(root, step, &tmp))?;
        let child = sandbox::spawn_shim(self.shim, &bootstrap, &[], |command| {
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        })?;
        let (status, stdout, stderr) = wait(child, step, watch)?;
        let record = std::fs::read(&exit_file).ok();
        let record = record.and_then(|text| serde_json::from_slice::<ExitRecord>(&text).ok());
        remove(&own)?;
        judge(step, status, record, stdout, stderr)
    }

    /// Gives what the step may write to whom it runs as. Nothing runs in it now.
    fn hand_over(&self, root: Root<'_>, step: &Step, tmp: &Path) -> Result<(), Error> {
        let (uid, gid) = sandbox::build_user(&self.host);
        if uid == self.host.uid {
            return Ok(());
        }
        writable(root, step, tmp).iter().try_for_each(|folder| give(folder, uid, gid))
    }

    fn spec(&self, root: Root<'_>, step: &Step, own: &Path) -> Result<BuildSpec, Error> {
        let (folder, writable) = match root {
            Root::ReadOnly(folder) => (folder, false),
            Root::Writable(folder) => (folder, true),
        };
        let inside = |path: &str| InsidePath::new(path).map_err(sandbox::Error::from);
        let binds = step
            .binds
            .iter()
            .map(|(from, to, read_only)| Ok((sandbox::host_path(from)?, inside(to)?, *read_only)));
        Ok(BuildSpec {
            name: step.name.clone(),
            folder: sandbox::host_path(folder)?,
            writable,
            tmp: sandbox::host_path(own.join("tmp"))?,
            binds: binds.collect::<Result<Vec<(HostPath, InsidePath, bool)>, sandbox::Error>>()?,
            program: step.program.clone(),
            args: step.args.clone(),
            env: environment(step),
            cwd: inside(&step.cwd)?,
            exit_file: sandbox::host_path(own)?.join("exit.json").map_err(sandbox::Error::from)?,
            i386: step.i386,
        })
    }
}

/// The folders of the host that a step may write.
fn writable(root: Root<'_>, step: &Step, tmp: &Path) -> Vec<PathBuf> {
    let bound = step.binds.iter().filter(|(.., read_only)| !read_only).map(|(from, ..)| from.as_path());
    let tree = match root {
        Root::Writable(folder) => Some(folder),
        Root::ReadOnly(_) => None,
    };
    bound.chain(tree).chain([tmp]).map(Path::to_owned).collect()
}

/// A file, not a pipe: nobody has to write while the step runs.
fn stdin(step: &Step, folder: &Path) -> Result<Stdio, Error> {
    if step.stdin.is_empty() {
        return Ok(Stdio::null());
    }
    let path = folder.join("stdin");
    std::fs::write(&path, &step.stdin).map_err(Error::io("write", &path))?;
    Ok(std::fs::File::open(&path).map_err(Error::io("open", &path))?.into())
}

/// All that a step finds in its environment.
pub(super) fn environment(step: &Step) -> Vec<(String, String)> {
    let mut env: BTreeMap<&str, &str> = BTreeMap::from([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/sh"),
        ("LC_ALL", "C.UTF-8"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH),
        // Hash tables that are written out in their order are the same then.
        ("G_RANDOM_SEED", "0"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PERL_HASH_SEED", "0"),
    ]);
    env.extend(step.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Reads both streams to their ends, then the status. The two threads end with the shim, which closes the pipes.
fn wait(mut child: Child, step: &Step, mut watch: Watch) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Error> {
    let (sender, receiver) = mpsc::channel();
    let max = step.output_bytes_max;
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
    ];
    for (number, stream) in streams.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            // Nobody listens any more when the step took too long.
            drop(sender.send((number, stream.map_or_else(|| Ok((Vec::new(), false)), |s| bounded(s, max)))));
        });
    }
    let failure = |reason: String| failed(&step.name, reason);
    let end = std::time::Instant::now() + step.timeout;
    let mut outputs = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let (number, read) = loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match receiver.recv_timeout(left.min(watch::INTERVAL)) {
                Ok(read) => break read,
                Err(_) if left.is_zero() => {
                    stop(&mut child);
                    return Err(failure(format!("it was ended after {} s", step.timeout.as_secs())));
                }
                Err(_) => {}
            }
            if let Some(limit) = watch.look(child.id()).transpose() {
                stop(&mut child);
                return Err(Error::StepLimit { step: step.name.clone(), limit: limit? });
            }
        };
        let (bytes, truncated) = read.map_err(|source| failure(format!("its output was lost: {source}")))?;
        if truncated {
            stop(&mut child);
            return Err(failure(format!("it wrote more than {max} bytes to one stream")));
        }
        outputs[number] = bytes;
    }
    let status = child.wait().map_err(|source| failure(format!("waiting for it failed: {source}")))?;
    // A full disk has no room for the record of how it ended either.
    if let Some(limit) = watch.disk(None)? {
        return Err(Error::StepLimit { step: step.name.clone(), limit });
    }
    let [stdout, stderr] = outputs;
    Ok((status, stdout, stderr))
}

/// Reads up to `max` bytes; true when there were more.
fn bounded(mut stream: Box<dyn Read + Send>, max: u64) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let read = stream.by_ref().take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes, u64::try_from(read).is_ok_and(|read| read > max)))
}

/// The shim passes the signal on and kills what is left after its grace period.
fn stop(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Ended already, or not to be signalled: then waiting does not take long.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
    drop(child.wait());
}

fn judge(
    step: &Step,
    status: ExitStatus,
    record: Option<ExitRecord>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
) -> Result<Output, Error> {
    let said = String::from_utf8_lossy(&stderr);
    let Some(record) = record else {
        // No namespaces, no sandbox to write about: the shim says why, and what to do.
        let line = said.lines().next().unwrap_or("the shim said nothing");
        let hint = said.lines().find_map(|line| line.strip_prefix("hint: ")).map(str::to_owned);
        return Err(Error::BuildSandbox { step: step.name.clone(), reason: line.to_owned(), hint });
    };
    match record.reason {
        ExitReason::SandboxFailed { operation, message, .. } => Err(Error::BuildSandbox {
            step: step.name.clone(),
            reason: format!("cannot {operation}: {message}"),
            hint: said.lines().find_map(|line| line.strip_prefix("hint: ")).map(str::to_owned),
        }),
        ExitReason::ExecFailed { message, .. } => Err(failed(&step.name, message)),
        ExitReason::Lost { .. } => Err(failed(&step.name, "the sandbox ended without a word".to_owned())),
        _ => {
            let code = status.code().unwrap_or(record.code);
            Ok(Output { code, stdout, stderr })
        }
    }
}

fn failed(step: &str, reason: String) -> Error {
    Error::BuildStep { step: step.to_owned(), reason }
}

fn last_lines(said: &str) -> String {
    // Of a line that was drawn again and again, what it was in the end.
    let drawn = |line: &str| {
        line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or("").replace('\u{8}', "")
    };
    let lines: Vec<String> = said.lines().map(drawn).filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    let escaped = lines[from..].iter().map(|line| line.escape_debug().to_string().replace("\\'", "'"));
    let shown: Vec<String> = escaped.map(|line| line.replace("\\\"", "\"")).collect();
    if shown.is_empty() { String::new() } else { format!(":\n  {}", shown.join("\n  ")) }
}

/// A writable copy of a tree, with the files that programs of a running system expect.
#[derive(Debug)]
pub struct Staged {
    folder: PathBuf,
    before: Manifest,
}

/// What is there while a step runs and never part of the result: the machine's files, and what is mounted over.
pub(crate) const MACHINES: [(&str, &str); 6] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 build\n"),
    ("etc/hostname", "build\n"),
    ("etc/machine-id", "00000000000000000000000000000000\n"),
    ("etc/resolv.conf", "# no network\n"),
];

/// Copies the tree of `manifest` into the workspace, writable: files and folders belong to the caller, who is root inside.
/// `extra` are files that only this run sees; the machine's files are added where the tree has none.
///
/// # Errors
/// When something cannot be read or written.
pub(crate) fn stage(
    workspace: &Workspace<'_>,
    name: &str,
    manifest: &Manifest,
    extra: &BTreeMap<String, Vec<u8>>,
) -> Result<Staged, Error> {
    let mut before = manifest.clone();
    let machines = MACHINES.iter().filter(|(path, _)| {
        !extra.contains_key(*path) && manifest.resolve(path).is_ok_and(|p| !manifest.nodes.contains_key(&p))
    });
    let machines = machines.map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()));
    for (number, (path, content)) in machines.chain(extra.clone()).enumerate() {
        let (sha256, size) = workspace.add(&mut &content[..], false, &format!("stage-{number}"))?;
        before.insert(&path, Node::File { sha256, size, executable: false });
    }
    let bad = |reason| Error::BadLayout { package: "the tree to run in".into(), reason };
    before.check().map_err(bad)?;
    let folder = workspace.scratch(name)?.join("root");
    workspace.copy_tree(&folder, &before)?;
    Ok(Staged { folder, before })
}

impl Staged {
    /// The copy, for [`Root::Writable`].
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is different now. New content goes into the workspace's objects.
    ///
    /// # Errors
    /// A name that no manifest can hold, too many files, or one that cannot be read.
    pub(crate) fn capture(&self, workspace: &Workspace<'_>) -> Result<Captured, Error> {
        capture::capture(workspace, &self.folder, &self.before)
    }

    /// Removes the copy.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub(crate) fn remove(self) -> Result<(), Error> {
        remove(&self.folder)
    }
}

/// Gives a folder and all in it to another user; links are not followed.
fn give(path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))?;
    if std::fs::symlink_metadata(path).map_err(Error::io("read", path))?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
            give(&entry.map_err(Error::io("read", path))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Removes what a step left, which may have taken every permission from its folders.
pub(super) fn remove(folder: &Path) -> Result<(), Error> {
    capture::open_up(folder)?;
    crate::store::remove_tree(folder)
}

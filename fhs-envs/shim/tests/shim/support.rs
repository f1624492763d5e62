//! A tree, a plan, a run.
use hatchway_envs::sandbox::{HostFacts, HostPath, Mode, Spec, User, host_path, plan, spawn_shim};
use hatchway_wire::{Bootstrap, ExitRecord, StdioMode};
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An id nobody on the host has.
pub(crate) const STRANGER: u32 = 12345;
const PROGRAMS: [&str; 15] = [
    "bash", "cat", "ls", "id", "sleep", "mount", "unshare", "stat", "touch", "rm", "perl", "stty", "mkdir",
    "mkfifo", "ln",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Root,
    User,
}

/// Every way in that this test run can try.
pub(crate) fn ways() -> Vec<As> {
    if rustix::process::geteuid().is_root() { vec![As::Root, As::User] } else { vec![As::User] }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) record: ExitRecord,
}

/// A world for one test: a tree, folders on the host, a copy of the shim that anybody can execute.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) way: As,
    pub(crate) facts: HostFacts,
    pub(crate) spec: Spec,
}

impl World {
    pub(crate) fn new(way: As) -> Self {
        let folder = tempfile::Builder::new().prefix("hatchway-shim-").tempdir_in("/tmp").unwrap();
        open_up(folder.path());
        let shim = folder.path().join("hatchway-shim");
        std::fs::copy(env!("CARGO_BIN_EXE_hatchway-shim"), &shim).unwrap();
        make_tree(&folder.path().join("tree"));
        let (uid, gid) = ids();
        for name in ["record", "state", "share"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            give(&path, uid, gid);
        }
        let mode = match way {
            As::Root => Mode::Root { groups: vec![] },
            As::User => Mode::User,
        };
        if way == As::User {
            give_all(&folder.path().join("tree"), uid, gid);
        }
        let mut facts = HostFacts::detect(vec![]);
        if way == As::User {
            (facts.uid, facts.gid) = (uid, gid);
        }
        let tree = host_path(folder.path().join("tree")).unwrap();
        let user = User::new("tool", uid, gid).unwrap();
        let mut spec = Spec::new("trial", tree, "bash", user, mode);
        spec.incarnation = "1".to_owned();
        spec.grace_ms = 700;
        // The tree has no locales, and perl complains at length.
        spec.env.insert("LC_ALL".to_owned(), "C".to_owned());
        spec.exit_file =
            Some(HostPath::new(folder.path().join("record/exit.json").to_str().unwrap()).unwrap());
        Self { folder, way, facts, spec }
    }

    pub(crate) fn script(mut self, script: &str) -> Self {
        self.spec.args = vec!["-c".to_owned(), script.to_owned()];
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn host(&self, name: &str) -> HostPath {
        HostPath::new(self.path(name).to_str().unwrap()).unwrap()
    }

    pub(crate) fn plan(&self) -> Bootstrap {
        plan(&self.spec, &self.facts).unwrap()
    }

    /// Starts the shim without waiting.
    pub(crate) fn start(&self) -> Child {
        self.start_plan(&self.plan())
    }

    pub(crate) fn start_plan(&self, bootstrap: &Bootstrap) -> Child {
        let streams = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            if self.way == As::User && rustix::process::geteuid().is_root() {
                command.uid(STRANGER).gid(STRANGER);
            }
        };
        spawn_shim(&self.path("hatchway-shim"), bootstrap, &[], streams).unwrap()
    }

    pub(crate) fn finish(&self, child: Child) -> Ran {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let text =
            std::fs::read(self.path("record/exit.json")).unwrap_or_else(|_| panic!("no exit.json: {err}"));
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err,
            record: serde_json::from_slice(&text).unwrap(),
        }
    }

    pub(crate) fn run(&self) -> Ran {
        self.finish(self.start())
    }

    /// A plan on disk, and the command a shell starts the shim with.
    pub(crate) fn command_line(&mut self) -> String {
        self.spec.stdio = StdioMode::Auto;
        std::fs::write(self.path("plan.json"), serde_json::to_vec(&self.plan()).unwrap()).unwrap();
        format!(
            "{} --bootstrap-fd 9 9<{}",
            self.path("hatchway-shim").display(),
            self.path("plan.json").display()
        )
    }
}

/// The tool's ids: a stranger's if we may choose.
fn ids() -> (u32, u32) {
    if rustix::process::geteuid().is_root() {
        return (STRANGER, STRANGER);
    }
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn open_up(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn give(path: &Path, uid: u32, gid: u32) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn give_all(path: &Path, uid: u32, gid: u32) {
    if !path.is_symlink() {
        give(path, uid, gid);
    }
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give_all(&entry.unwrap().path(), uid, gid));
    }
}

/// Merged `/usr`, a few programs with the libraries `ldd` names, and a vendor's corner.
fn make_tree(tree: &Path) {
    for name in ["usr/bin", "usr/lib", "usr/lib64", "etc", "var/lib/vendor", "opt/vendor"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    for (name, to) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("usr/bin/sh", "bash")]
    {
        symlink(to, tree.join(name)).unwrap();
    }
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let Some(source) =
            ["/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(program)).find(|p| p.exists())
        else {
            continue;
        };
        std::fs::copy(&source, tree.join("usr/bin").join(program)).unwrap();
        let output = Command::new("ldd").arg(&source).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        libraries.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    for library in libraries {
        // The loader's path is in every program; the others are found in /usr/lib by name.
        let folder = if library.contains("ld-linux") { "usr/lib64" } else { "usr/lib" };
        std::fs::copy(&library, tree.join(folder).join(Path::new(&library).file_name().unwrap())).unwrap();
    }
    std::fs::write(tree.join("etc/vendor.conf"), "vendor\n").unwrap();
    std::fs::write(tree.join("opt/vendor/data"), "data\n").unwrap();
    let file = |path: &str, content: &[u8], mode| {
        std::fs::write(tree.join(path), content).unwrap();
        std::fs::set_permissions(tree.join(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    file("opt/vendor/not-executable", b"#!/bin/sh\n", 0o644);
    file("opt/vendor/no-interpreter", b"#!/opt/missing/python\n", 0o755);
    file("opt/vendor/wrong-format", b"\x7fELF\x02\x01\x01\0not really", 0o755);
}

/// Waits for something that must come true soon.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < end, "not in ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Host process ids with this text in their command line, zombies excluded.
pub(crate) fn processes(text: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.parse::<i32>().ok());
    all.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
    .collect()
}

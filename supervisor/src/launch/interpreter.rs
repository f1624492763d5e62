//! What the program is started by, and who would bring that where the tree has not got it. The shim notices such a lack but
//! knows no packages, and when it does this process is gone: so it is looked for before, in the tree alone. What it costs is
//! to open two files, as long as nothing is missing.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use hatchway_envs::Quiet;
use hatchway_envs::debian::archive::{Archive, Scope};
use hatchway_envs::debian::index::SuiteIndex;
use hatchway_envs::digest::Sha256;
use hatchway_envs::fetch::Client;
use hatchway_envs::lock::Lock;
use hatchway_inspect::resolve::read_object;
use hatchway_wire::bootstrap::{Missing, Process};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::context::Context;
use crate::recipe::Located;
use crate::scripts::{self, Line};
use crate::steps;

/// Bytes of a script in which its first line ends: the kernel reads 256.
const HEAD_BYTES_MAX: usize = 4096;
/// The loader that Linux Standard Base named; Debian has it no more, and it was the usual one by another name.
const LSB: (&str, &str) = ("/lib64/ld-lsb-x86-64.so.", "/lib64/ld-linux-x86-64.so.2");
/// glibc's loader of 32-bit programs.
const I386: &str = "/lib/ld-linux.so.2";
const I386_HINT: &str = "`libc6:i386` has it, which comes with the libraries for 32-bit programs: `architectures = [\"amd64\", \"i386\"]` in \
                         [environment] of the recipe";
const BASE_HINT: &str =
    "an environment of Debian's packages has it: `base = \"debian:SUITE\"` in [environment] of the recipe";

/// What of the program's start the tree lacks.
pub(super) fn missing(
    context: &Context,
    located: &Located,
    tree: Sha256,
    process: &Process,
) -> Option<Missing> {
    let root = Root::open(context.store.tree(tree))?;
    let mut head = [0; HEAD_BYTES_MAX];
    let program = root.find(process, &process.program)?;
    let file = root.read(&program)?;
    let read = file.read_at(&mut head, 0).ok()?;
    let wanted = Wanted::of(&head[..read], &file)?.first_missing(&root, process)?;
    if let Wanted::ReturnedLine(name) = &wanted {
        return Some(Missing { name: format!("{name}\\r"), hint: returned(&program) });
    }
    let lock = steps::read_lock(located).ok()?;
    let index = || index(context, &lock);
    let has = |path: &str| root.has(path);
    let i386 = lock.architectures.iter().any(|one| one == "i386");
    let hint = lock.suite().map(|suite| wanted.hint(suite, i386, &index, &has));
    Some(Missing { name: wanted.name().to_owned(), hint: hint.unwrap_or_else(|| BASE_HINT.to_owned()) })
}

/// What starts a program.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Loader(String),
    Script(Line),
    /// A script's interpreter, or what `env` is to look for, with a carriage return behind its name.
    ReturnedLine(String),
}

impl Wanted {
    fn of(head: &[u8], file: &File) -> Option<Self> {
        if let Some(line) = head.strip_prefix(b"#!") {
            let text = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?).into_owned();
            return Line::of(&text).map(|line| Self::Script(line.with_return_of(&text)));
        }
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        read_object(file).ok()?.interpreter.map(Self::Loader)
    }

    /// What of it the tree lacks, in the order in which it is looked for.
    fn first_missing(self, root: &Root, process: &Process) -> Option<Self> {
        let returned = |name: &str| name.strip_suffix('\r').map(|name| Self::ReturnedLine(name.to_owned()));
        match self {
            Self::Loader(ref path) => (!root.has(path)).then_some(self),
            Self::Script(line) if !root.has(&line.path) => {
                let first = Line { path: line.path.clone(), by_env: None };
                Some(returned(&line.path).unwrap_or(Self::Script(first)))
            }
            Self::Script(line) => {
                let name = line.by_env.as_deref().filter(|name| root.find(process, name).is_none())?;
                Some(returned(name).unwrap_or(Self::Script(line.clone())))
            }
            Self::ReturnedLine(_) => Some(self),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Loader(path) | Self::ReturnedLine(path) => path,
            Self::Script(line) => line.by_env.as_deref().unwrap_or(&line.path),
        }
    }

    fn hint(
        &self,
        suite: &str,
        i386: bool,
        index: &dyn Fn() -> Option<SuiteIndex>,
        has: &dyn Fn(&str) -> bool,
    ) -> String {
        match self {
            Self::Loader(path) if path == I386 && !i386 => I386_HINT.to_owned(),
            Self::Loader(path) => loader_hint(path, suite, index, has),
            Self::Script(line) => script_hint(line, suite, index, has),
            Self::ReturnedLine(name) => returned(name),
        }
    }
}

/// `program` is the script's path inside.
fn returned(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or(program);
    format!(
        "the first line of `{program}` ends in a carriage return, as lines of DOS do, and for the kernel that belongs to the name; take them \
         out by a patch: `sed 's/\\r$//' {name} >new; diff -u {name} new >{name}.patch`, put it beside the recipe, and \
         `patch = {{ \"{program}\" = \"{name}.patch\" }}` in [environment]"
    )
}

fn loader_hint(
    path: &str,
    suite: &str,
    index: &dyn Fn() -> Option<SuiteIndex>,
    has: &dyn Fn(&str) -> bool,
) -> String {
    if path.starts_with(LSB.0) && has(LSB.1) {
        return links(path, LSB.1);
    }
    let plain = |path: &str| path.strip_prefix("/usr").unwrap_or(path).to_owned();
    let package = index().and_then(|index| {
        let name = path.rsplit('/').next()?;
        let mut providers = index.libraries.values().filter_map(|all| all.get(name)).flatten();
        providers.find(|one| plain(&one.path) == plain(path)).map(|one| one.package.clone())
    });
    package.map_or_else(|| unknown(path, suite), |package| packages(&package, suite))
}

fn script_hint(
    line: &Line,
    suite: &str,
    index: &dyn Fn() -> Option<SuiteIndex>,
    has: &dyn Fn(&str) -> bool,
) -> String {
    let name = line.name();
    let usual = format!("/usr/bin/{name}");
    if line.by_env.is_none() && !line.is_usual() && has(&usual) {
        return links(&line.path, &usual);
    }
    let index = index();
    // Without an index the table alone says it; with one, only what this suite has is named.
    let there = |package: &str| index.as_ref().is_none_or(|index| !index.named(package).is_empty());
    // Whoever takes `env` out of the base is who lacks it.
    let known = if name == "env" { Some("coreutils") } else { scripts::package_of(name) };
    let known = known.filter(|package| there(package));
    let same = || index.is_some().then_some(name).filter(|name| there(name));
    let Some(package) = known.or_else(same) else { return unknown(name, suite) };
    let hint = packages(package, suite);
    // A vendor's own place: the package alone would not be found there.
    if line.by_env.is_some() || line.is_usual() {
        hint
    } else {
        format!("{hint}; and {}", links(&line.path, &usual))
    }
}

fn packages(package: &str, suite: &str) -> String {
    format!(
        "`{package}` of {suite} has it: `packages = [\"{package}\"]` in [environment] of the recipe, then `hatchway lock` it again"
    )
}

fn links(from: &str, to: &str) -> String {
    format!(
        "the usual one does as well: `links = {{ \"{from}\" = \"{to}\" }}` in [environment] of the recipe"
    )
}

fn unknown(what: &str, suite: &str) -> String {
    let name = what.rsplit('/').next().unwrap_or(what);
    format!(
        "`apt-file search /{name}` on a Debian {suite} says which package has it; `packages = [\"…\"]` in [environment] of the \
         recipe adds that"
    )
}

/// What the cache knows of the suite, however old; nothing is fetched.
fn index(context: &Context, lock: &Lock) -> Option<SuiteIndex> {
    let archive = Archive { client: Client::new(true), max_age: Duration::MAX, ..context.archive().clone() };
    let components = ["main".to_owned()];
    let scope = Scope {
        suite: lock.suite()?,
        components: &components,
        architectures: &lock.architectures,
        required: false,
    };
    archive.suite(scope, &Quiet).ok()
}

/// The tree, out of which no link of a vendor's leads.
struct Root(OwnedFd);

impl Root {
    fn open(folder: PathBuf) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(folder, flags, Mode::empty()).ok().map(Self)
    }

    fn at(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(self.0.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }

    fn has(&self, path: &str) -> bool {
        self.at(path, OFlags::PATH).is_some()
    }

    fn read(&self, path: &str) -> Option<File> {
        self.at(path, OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
    }

    /// A program by its path, or from `PATH`.
    fn find(&self, process: &Process, program: &str) -> Option<String> {
        if program.contains('/') {
            return self.has(program).then(|| program.to_owned());
        }
        let path = process.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str())?;
        path.split(':').map(|folder| format!("{folder}/{program}")).find(|path| self.has(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(wanted: &Wanted, i386: bool, there: &[&str]) -> String {
        wanted.hint("bookworm", i386, &|| None, &|path| there.contains(&path))
    }

    #[test]
    fn loaders_that_need_more_than_a_package_are_known() {
        let of = |path: &str| Wanted::Loader(path.to_owned());
        assert!(hint(&of(I386), false, &[]).contains("architectures = [\"amd64\", \"i386\"]"));
        assert!(hint(&of(I386), true, &[]).contains("apt-file search /ld-linux.so.2"));
        let lsb = of("/lib64/ld-lsb-x86-64.so.3");
        assert!(
            hint(&lsb, false, &[LSB.1])
                .contains("links = { \"/lib64/ld-lsb-x86-64.so.3\" = \"/lib64/ld-linux")
        );
        assert!(hint(&lsb, false, &[]).contains("apt-file search"));
    }

    #[test]
    fn interpreters_are_named_by_their_package_and_place() {
        let of = |line: &str| Wanted::Script(Line::of(line).unwrap());
        for (line, there, says) in [
            ("/usr/bin/tclsh -x", "", "`tcl` of bookworm has it"),
            ("/usr/bin/env wish", "", "`tk` of bookworm has it"),
            ("/usr/local/bin/perl", "", "`perl` of bookworm has it"),
            (
                "/opt/perl/bin/perl",
                "",
                "; and the usual one does as well: `links = { \"/opt/perl/bin/perl\" = \"/usr/bin/perl\" }`",
            ),
            ("/opt/perl/bin/perl", "/usr/bin/perl", "the usual one does as well: `links = {"),
            ("/usr/bin/acmescript", "", "`apt-file search /acmescript` on a Debian bookworm"),
        ] {
            let hint = hint(&of(line), false, &[there]);
            assert!(hint.contains(says), "{line}: {hint}");
        }
    }
}

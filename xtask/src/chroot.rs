//! `cargo xtask chroot`: an environment beside a system that `debootstrap`'s kin installed from the same packages, with their
//! maintainer scripts run as root. Which libraries the loader chooses for every program that both have, and what fonts,
//! locales, databases, certificates and character sets a program finds, must be the same.
//!
//! It needs root, the network, `mmdebstrap`, and 1.5 GB.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{acme, build, setup, sh};

/// What the environment has beside the base: many programs, and those that read what scripts and triggers make.
const PACKAGES: [&str; 12] = [
    "libgtk-3-0",
    "libgtk-3-bin",
    "python3",
    "fontconfig",
    "fonts-dejavu",
    "curl",
    "procps",
    "util-linux",
    "diffutils",
    "xz-utils",
    "file",
    "sqlite3",
];
const TOOL: &str = "beside-chroot";
/// The issue asks for a hundred programs.
const PROGRAMS_MIN: usize = 100;

/// A part of a line, and why such a line may differ.
type Reason = (&'static str, &'static str);

/// What is asked, by name, and what may differ.
const QUESTIONS: [(&str, &str, &[Reason]); 6] = [
    ("fonts", "fc-list | sort", &[]),
    ("locales", "locale -a", &[]),
    (
        "databases",
        "getent passwd root www-data nobody | cut -d: -f1-5; getent group dialout video; getent services ssh domain/udp; \
         getent protocols tcp; getent rpc portmapper; getent networks loopback",
        &[],
    ),
    (
        "certificates",
        "python3 -c 'import ssl,hashlib; c=ssl.create_default_context(); \
         print(ssl.OPENSSL_VERSION, *sorted(hashlib.sha256(d).hexdigest() for d in c.get_ca_certs(True)), sep=\"\\n\")'",
        &[],
    ),
    ("character sets", "iconv -l", &[]),
    (
        "cache of the loader",
        "ldconfig -p | grep -v -e '^Cache generated' -e 'libs found in cache' | sort",
        &[
            ("/usr/local/lib/acme/", "the vendor's package is in the environment only"),
            ("=>", "the library's package is in one of the two only"),
        ],
    ),
];

/// The suites of the lock: both take the newest version of each package that one of them has.
const SUITES: [&str; 3] = ["bookworm", "bookworm-updates", "bookworm-security"];

pub(crate) fn verb(mut args: sh::Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::setup(yes)?;
    build::build(false)?;
    part()
}

/// The comparison as a part of the tests.
pub(crate) fn part() -> Result<()> {
    ensure!(
        sh::is_root()?,
        "a system is installed with its own scripts, which takes root\nhint: run the tests as root"
    );
    let scratch = sh::Scratch::new("hatchway-chroot")?;
    let pair = Pair::new(&scratch.path, &build::program()?)?;
    print!("{}", pair.compare()?);
    Ok(())
}

/// The two, with a folder in each that the answers go to.
struct Pair {
    hatchway: std::path::PathBuf,
    work: std::path::PathBuf,
    tree: std::path::PathBuf,
    chroot: std::path::PathBuf,
}

impl Pair {
    fn new(scratch: &Path, hatchway: &Path) -> Result<Self> {
        let work = scratch.join("work");
        let vendor = acme::build(&work)?;
        let mut pair = Self {
            hatchway: hatchway.to_owned(),
            work,
            tree: Path::new("").into(),
            chroot: scratch.join("system"),
        };
        sh::run(
            pair.command(&["new", vendor.to_str().context("not UTF-8")?, "--name", TOOL])
                .stderr(std::process::Stdio::null()),
        )?;
        let recipe = pair.work.join("recipes").join(TOOL).join("recipe.toml");
        let list: Vec<String> = PACKAGES.iter().map(|package| format!("\"{package}\"")).collect();
        let environment =
            format!("[environment]\nbase = \"debian:bookworm\"\npackages = [{}]\n", list.join(", "));
        fs::write(&recipe, fs::read_to_string(&recipe)?.replace("[environment]\n", &environment))?;
        for step in ["lock", "build"] {
            sh::run(&mut pair.command(&[step, TOOL]))?;
        }
        let trees = scratch.join("data/store/trees");
        pair.tree = fs::read_dir(trees)?.next().context("no tree")??.path();
        pair.install()?;
        Ok(pair)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.hatchway);
        let data = self.work.with_file_name("data");
        command.args(args).current_dir(&self.work).env("HATCHWAY_DATA_DIR", data);
        command
    }

    /// The lock's packages, installed by dpkg, from where the lock's come from.
    fn install(&self) -> Result<()> {
        let lock = fs::read_to_string(self.work.join("recipes").join(TOOL).join("recipe.lock"))?;
        let text = |table: &str, key: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
            line.split('"').next().map(str::to_owned)
        };
        let names: Vec<String> =
            lock.split("[[package]]").skip(1).filter_map(|table| text(table, "name")).collect();
        ensure!(!names.is_empty(), "the lock has no packages");
        // With no mirror named, mmdebstrap takes what the host's apt has for the suite.
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
        mmdebstrap.arg(format!("--include={}", names.join(","))).arg("bookworm").arg(&self.chroot);
        mmdebstrap.args(sources(&SUITES)?);
        sh::run(&mut mmdebstrap)
    }

    fn compare(&self) -> Result<String> {
        let programs = self.programs()?;
        ensure!(programs.len() >= PROGRAMS_MIN, "only {} programs are in both", programs.len());
        let mut script = String::from("export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
        for program in &programs {
            script += &format!(
                "echo '## {program}'\n/lib64/ld-linux-x86-64.so.2 --list {program} 2>&1 | sed 's/ (0x.*//'\n"
            );
        }
        for (name, question, _) in QUESTIONS {
            script += &format!("echo '## {name}'\n{question}\n");
        }
        let (ours, theirs) = (self.inside(&script)?, self.chrooted(&script)?);
        let mut report =
            String::from("| what | in both | differing | of these explained |\n| --- | --- | --- | --- |\n");
        let mut wrong = Vec::new();
        let mut row = |what: &str, names: &[&str], explained: &[(&str, &str)]| {
            let (mut lines, mut differing, mut known) = (0, 0, 0);
            for name in names {
                let (our, their) = (
                    ours.get(*name).map_or("", String::as_str),
                    theirs.get(*name).map_or("", String::as_str),
                );
                lines += our.lines().filter(|line| their.lines().any(|other| other == *line)).count();
                for line in difference(our, their) {
                    differing += 1;
                    let reason = explained.iter().find(|(part, _)| line.contains(part));
                    if reason.is_some_and(|(part, _)| *part != "=>" || self.is_elsewhere(&line)) {
                        known += 1;
                    } else {
                        wrong.push(format!("{name}: {line}"));
                    }
                }
            }
            if lines == 0 {
                wrong.push(format!("{what}: there was no answer"));
            }
            report += &format!("| {what} | {lines} | {differing} | {known} |\n");
        };
        let names: Vec<&str> = programs.iter().map(String::as_str).collect();
        row(&format!("libraries that the loader chooses for {} programs", names.len()), &names, &[]);
        for (name, _, explained) in QUESTIONS {
            row(name, &[name], explained);
        }
        if wrong.is_empty() {
            return Ok(report);
        }
        print!("{report}");
        bail!("{} lines differ without a reason:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"))
    }

    /// Programs in machine code that both have, and whose libraries the environment is meant to have: a package that only
    /// its installation's scripts need brings programs that nothing of the environment starts.
    fn programs(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for folder in ["usr/bin", "usr/sbin"] {
            for entry in fs::read_dir(self.tree.join(folder))? {
                let path = entry?.path();
                let relative = path.strip_prefix(&self.tree)?.to_owned();
                let is_elf = !path.is_symlink() && fs::read(&path)?.starts_with(b"\x7fELF");
                if is_elf && self.chroot.join(&relative).is_file() && !relative.ends_with("update-passwd") {
                    found.push(format!("/{}", relative.display()));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// A line of the cache for a library whose file one of the two does not have.
    fn is_elsewhere(&self, line: &str) -> bool {
        let Some((_, path)) = line.split_once("=> /") else { return false };
        !(self.tree.join(path.trim()).exists() && self.chroot.join(path.trim()).exists())
    }

    fn inside(&self, script: &str) -> Result<BTreeMap<String, String>> {
        let mut run = self.command(&[
            "run",
            "--quiet",
            TOOL,
            "--program",
            "/bin/sh",
            "--",
            "-c",
            "cat > /tmp/q && sh /tmp/q",
        ]);
        answers(&mut run, script)
    }

    fn chrooted(&self, script: &str) -> Result<BTreeMap<String, String>> {
        // In a mount namespace of its own, so that its /proc goes with it.
        let mut chroot = Command::new("unshare");
        chroot.args([
            "--mount",
            "sh",
            "-c",
            "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" /bin/sh -s",
            "sh",
        ]);
        answers(chroot.arg(&self.chroot), script)
    }
}

/// The lines of the host's apt sources for suites.
pub(crate) fn sources(suites: &[&str]) -> Result<Vec<String>> {
    let listed =
        sh::capture(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(RELEASE)"]))?;
    let mut lines: Vec<String> = Vec::new();
    for line in listed.lines() {
        let Some((site, release)) = line.split_once(' ') else { continue };
        let source = format!("deb {site} {release} main");
        if suites.contains(&release) && !lines.contains(&source) {
            lines.push(source);
        }
    }
    if lines.is_empty() {
        bail!("the host's apt has no source for {}; `/etc/apt/sources.list.d` names them", suites.join(", "));
    }
    Ok(lines)
}

/// Runs a shell that reads the questions; gives its sections.
fn answers(command: &mut Command, script: &str) -> Result<BTreeMap<String, String>> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no input")?;
    let text = script.to_owned();
    // Answers may fill the pipe before all questions are asked.
    let asking = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    drop(asking.join());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sections = text.split("## ").skip(1).filter_map(|section| section.split_once('\n'));
    Ok(sections.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect())
}

/// Lines of one and not of the other.
fn difference(ours: &str, theirs: &str) -> Vec<String> {
    let only = |of: &str, other: &str, mark: &str| -> Vec<String> {
        let lines = of.lines().filter(|line| !other.lines().any(|there| there == *line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    [only(ours, theirs, "ours:"), only(theirs, ours, "theirs:")].concat()
}

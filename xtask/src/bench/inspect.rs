//! `cargo xtask bench inspect`: what reading a vendor's files costs, against programs that do a part of the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Pair, machine, median, milliseconds, timed};
use crate::corpus::{self, Corpus, Extent};
use crate::sh;

/// Rounds over all files; the reading side takes seconds.
const ROUNDS: usize = 5;
/// Rounds of what takes milliseconds.
const QUICK_ROUNDS: usize = 21;
/// Libraries of the made-up program.
const LIBRARIES: usize = 200;
/// The vendors' files and what is built like them; Debian's small ones would measure the start of a file only.
const VENDORS: [&str; 4] = ["pypylon-", "nvidia_", "numpy-", "scipy-"];

pub(super) fn measure() -> Result<String> {
    let corpus = corpus::prepare(Extent::All)?;
    let facts = build()?;
    let scratch = sh::Scratch::new("hatchway-bench")?;
    let mut text = String::from("| what | value |\n| --- | --- |\n");
    let mut row = |what: &str, value: String| text.push_str(&format!("| {what} | {value} |\n"));
    row("machine", machine()?);
    for (what, value) in [
        files(&corpus, &facts, &scratch.path)?,
        one_library(&facts)?,
        closure(&facts, &scratch.path)?,
        memory(&facts)?,
    ]
    .concat()
    {
        row(&what, value);
    }
    Ok(text)
}

type Rows = Vec<(String, String)>;

/// The library's example, as a program to time.
fn build() -> Result<PathBuf> {
    let args = ["build", "--release", "--package", "hatchway-inspect", "--example", "facts"];
    sh::run(sh::cargo().args(args))?;
    Ok(sh::target_folder()?.join("release/examples/facts"))
}

/// All facts of all vendors' files, their hash among them, against the hash alone.
fn files(corpus: &Corpus, facts: &Path, scratch: &Path) -> Result<Rows> {
    let mut paths = Vec::new();
    for (path, _) in corpus::binaries(&corpus.files())? {
        let relative = path.strip_prefix(corpus.files())?.to_string_lossy().into_owned();
        if VENDORS.iter().any(|vendor| relative.starts_with(vendor)) {
            paths.push(path);
        }
    }
    let bytes: u64 = paths.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
    let list = scratch.join("files");
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    fs::write(&list, names.join("\n"))?;
    let is_cold = sh::is_root()?;
    // `sha256sum` of some systems is built without the instructions that processors have for it, `openssl` never is.
    let mut inspect = Command::new(facts);
    inspect.arg(format!("@{}", list.display()));
    let mut sum = Command::new("sha256sum");
    sum.arg("--").args(&paths);
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256"]).args(&paths);
    let mut sides = [("facts", inspect), ("`sha256sum`", sum), ("`openssl dgst -sha256`", openssl)];
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..=ROUNDS {
        // They take turns at being the first.
        for step in 0..sides.len() {
            let index = (round + step) % sides.len();
            if is_cold {
                drop_caches()?;
            }
            let took = timed(&mut sides[index].1, Stdio::null())?;
            if round > 0 {
                times[index].push(took);
            }
        }
    }
    let what = format!("{} ELF and PE files, {} MB, {}", paths.len(), bytes / 1_000_000, cache(is_cold));
    let mut rows = Rows::new();
    for (index, (name, _)) in sides.iter().enumerate() {
        let value = format!("median {:.2} s", median(&times[index])?.as_secs_f64());
        rows.push((format!("{name} of {what}"), value));
    }
    for (index, (name, _)) in sides.iter().enumerate().skip(1) {
        let pair = Pair { ours: times[0].clone(), theirs: times[index].clone() };
        rows.push((format!("facts / {name}, {ROUNDS} pairs"), pair.ratio()?));
    }
    Ok(rows)
}

fn cache(is_cold: bool) -> &'static str {
    if is_cold { "not in the page cache" } else { "in the page cache (only root can empty it)" }
}

fn drop_caches() -> Result<()> {
    sh::run(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot empty the page cache")
}

/// One large library without the hash; the start of the program is in it.
fn one_library(facts: &Path) -> Result<Rows> {
    let corpus = sh::cache()?.join("corpus/files");
    let wanted = |path: &Path| {
        fs::metadata(path).is_ok_and(|metadata| (45_000_000..65_000_000).contains(&metadata.len()))
    };
    let all = corpus::binaries(&corpus)?;
    let found = all.iter().find(|(path, kind)| *kind == corpus::Kind::Elf && wanted(path));
    let (library, _) = found.context("the corpus has no library of 50 MB")?;
    let times = (0..=QUICK_ROUNDS)
        .map(|_| timed(Command::new(facts).arg("--no-hash").arg(library), Stdio::null()))
        .collect::<Result<Vec<_>>>()?;
    let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let size = fs::metadata(library)?.len() / 1_000_000;
    let value = format!("median {:.1} ms", milliseconds(median(&times[1..])?));
    Ok(vec![(format!("`{name}`, {size} MB, in the page cache, without its hash"), value)])
}

/// A program that loads many libraries, made the same way every time: library `n` needs `n / 2` and `n - 1`.
fn closure(facts: &Path, scratch: &Path) -> Result<Rows> {
    let folder = scratch.join("closure");
    fs::create_dir(&folder)?;
    let gcc = |output: &str, source: &str, needs: &[String]| {
        let input = folder.join("source.c");
        fs::write(&input, source)?;
        let mut command = Command::new("gcc");
        command.arg("-o").arg(folder.join(output)).arg(&input).args(needs).current_dir(&folder);
        command.args(["-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN", "-L."]);
        if output.starts_with("lib") {
            command.args(["-shared", "-fPIC", &format!("-Wl,-soname,{output}")]);
        }
        sh::run(&mut command)
    };
    let file = |n: usize| format!("libbench{n:03}.so");
    for n in 0..LIBRARIES {
        let needs: Vec<String> = if n == 0 { vec![] } else { vec![file(n / 2), file(n - 1)] };
        // The needs stand behind the option that keeps them all.
        let needs: Vec<String> = std::iter::once("-Wl,--no-as-needed".to_owned()).chain(needs).collect();
        gcc(&file(n), &format!("int f{n}(void) {{ return {n}; }}\n"), &needs)?;
    }
    let all: Vec<String> =
        std::iter::once("-Wl,--no-as-needed".to_owned()).chain((0..LIBRARIES).map(file)).collect();
    gcc("program", "int main(void) { return 0; }\n", &all)?;
    let program = folder.join("program");
    let ours = sh::capture(Command::new(facts).arg("--closure").arg(&program))?;
    // The program, its libraries, libc and the loader.
    if !ours.contains(&format!("{} objects, 0 missing", LIBRARIES + 3)) {
        bail!("the made-up program should have {LIBRARIES} libraries; found {ours}");
    }
    let mut rows = Rows::new();
    let starters: [(&str, Vec<&str>); 4] = [
        ("ours", vec![facts.to_str().context("not UTF-8")?, "--closure"]),
        ("`libtree`", vec!["libtree", "-v"]),
        ("`ldd`", vec!["ldd"]),
        ("`lddtree`", vec!["/usr/bin/python3", "/usr/bin/lddtree"]),
    ];
    let mut times = vec![Vec::new(); starters.len()];
    for round in 0..=QUICK_ROUNDS {
        for (index, (_, words)) in starters.iter().enumerate() {
            let took = timed(Command::new(words[0]).args(&words[1..]).arg(&program), Stdio::null())?;
            if round > 0 {
                times[index].push(took);
            }
        }
    }
    for (index, (name, _)) in starters.iter().enumerate() {
        let value = format!("median {:.1} ms", milliseconds(median(&times[index])?));
        rows.push((format!("libraries of a program with {LIBRARIES}, {name}"), value));
        if index > 0 {
            let pair = Pair { ours: times[0].clone(), theirs: times[index].clone() };
            rows.push((format!("ours / {name}, {QUICK_ROUNDS} pairs"), pair.ratio()?));
        }
    }
    Ok(rows)
}

/// Peak memory against the largest member, for artifacts whose members are streamed.
fn memory(facts: &Path) -> Result<Rows> {
    let scratch = sh::Scratch::new("hatchway-bench")?;
    let folder = sh::cache()?.join("corpus/files");
    let wheel = Corpus::wheel("pypylon-", "linux_2_31_x86_64.whl")?;
    let unpacked = folder.join("pypylon-26.9-cp39-abi3-manylinux_2_31_x86_64");
    let tar = scratch.path.join("vendor.tar.xz");
    sh::run(
        Command::new("tar").args(["-I", "xz -1 -T0", "-cf"]).arg(&tar).arg("-C").arg(&unpacked).arg("."),
    )?;
    let root = scratch.path.join("deb");
    fs::create_dir_all(root.join("DEBIAN"))?;
    fs::create_dir_all(root.join("opt"))?;
    let control = "Package: acme-large\nVersion: 1\nArchitecture: amd64\nMaintainer: Acme <a@example.org>\n\
                   Description: large files of a vendor\n";
    fs::write(root.join("DEBIAN/control"), control)?;
    sh::run(Command::new("cp").arg("-r").arg(&unpacked).arg(root.join("opt/vendor")))?;
    let deb = scratch.path.join("vendor.deb");
    sh::run(Command::new("dpkg-deb").args(["-Zxz", "-z1", "--root-owner-group", "-b"]).arg(&root).arg(&deb))?;
    let largest = corpus::binaries(&unpacked)?
        .iter()
        .filter_map(|(path, _)| fs::metadata(path).ok())
        .map(|m| m.len())
        .max();
    let largest = largest.context("the wheel is empty")?;
    let mut rows = Rows::new();
    for (what, artifact) in [("wheel", wheel), ("tar.xz", tar), ("deb", deb)] {
        let peak = peak_bytes(Command::new(facts).arg(&artifact))?;
        let ratio = peak as f64 / largest as f64;
        let value = format!(
            "{} MB, {ratio:.2} times its largest member ({} MB)",
            peak / 1_000_000,
            largest / 1_000_000
        );
        rows.push((
            format!("peak memory, a {what} of {} MB", fs::metadata(&artifact)?.len() / 1_000_000),
            value,
        ));
    }
    Ok(rows)
}

/// `VmHWM` of a finished command, as the kernel hands it to whoever waits for it.
fn peak_bytes(command: &mut Command) -> Result<u64> {
    // The shell waits for its only child, and python's standard library says what the kernel told.
    const ASK: &str = "import resource, subprocess, sys\n\
                       subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n\
                       print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut asked = Command::new("python3");
    asked.args(["-c", ASK]).arg(command.get_program()).args(command.get_args());
    let kilobytes: u64 = sh::capture(&mut asked)?.trim().parse().context("no peak memory was printed")?;
    Ok(kilobytes * 1024)
}

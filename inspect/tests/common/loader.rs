//! The loaders of this machine as judges.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries, which have no public interface")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::resolve::{self, Closure, Problem, Root, Search};

pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// What a loader said about one program.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Paths it lists, as it lists them; itself left out.
    pub paths: BTreeSet<String>,
    /// Names it does not find.
    pub missing: BTreeSet<String>,
    /// Versions it does not find.
    pub versions: BTreeSet<String>,
    /// What it ended with.
    pub fatal: Option<String>,
}

/// Runs `loader --list program` with the environment of a search.
pub fn judge(command: &mut Command, search: &Search) -> Verdict {
    command.env_clear();
    if !search.library_path.is_empty() {
        command.env("LD_LIBRARY_PATH", search.library_path.join(":"));
    }
    if !search.preload.is_empty() {
        command.env("LD_PRELOAD", search.preload.join(":"));
    }
    if let Some(directory) = &search.working_directory {
        command.current_dir(directory);
    }
    let run = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut verdict = Verdict::default();
    let (list, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    for line in list.lines().chain(said.lines()).map(str::trim) {
        if let Some((_, version)) = line.split_once("version `") {
            verdict.versions.insert(version.split('\'').next().unwrap().to_owned());
        } else if let Some(name) = line.strip_suffix(" => not found") {
            verdict.missing.insert(name.to_owned());
        } else if let Some((_, error)) = line.split_once("while loading shared libraries: ") {
            // The trace of a library that cannot be found goes on; of one that cannot be loaded it does not.
            if let Some((name, _)) = error
                .split_once(": cannot open shared object file")
                .or_else(|| error.split_once(": wrong ELF class"))
            {
                verdict.missing.insert(name.to_owned());
            } else {
                verdict.fatal = Some(error.to_owned());
            }
        } else if let Some((path, _)) = line.rsplit_once(" (0x") {
            let path = path.rsplit(" => ").next().unwrap();
            match &search.working_directory {
                _ if path.starts_with('/') => verdict.paths.insert(path.to_owned()),
                // What the kernel brings has no file.
                Some(directory) if !path.starts_with("linux-") => {
                    verdict.paths.insert(format!("{directory}/{path}"))
                }
                _ => false,
            };
        }
    }
    verdict
}

fn real(paths: &BTreeSet<String>, within: &Path) -> BTreeSet<PathBuf> {
    let real = |path: &String| {
        let inside = within.join(path.trim_start_matches('/'));
        inside.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", inside.display()))
    };
    paths.iter().map(real).collect()
}

/// Resolves a program and compares with what its loader said. `within` is where the root lies on this machine.
pub fn agree(root: &dyn Root, program: &str, search: &Search, verdict: &Verdict, within: &Path) -> Closure {
    let closure =
        resolve::closure_with(root, program, search).unwrap_or_else(|| panic!("{program} is no program"));
    let context = format!("{program} {search:?}\n{verdict:?}\n{:#?}", closure.edges);
    let fatal = closure
        .edges
        .iter()
        .any(|edge| edge.failures().any(|problem| matches!(problem, Problem::Refused { .. })));
    assert_eq!(fatal, verdict.fatal.is_some(), "{context}");
    if fatal {
        return closure;
    }
    let missing: BTreeSet<String> = closure.missing().map(|(name, _)| name.to_owned()).collect();
    // A loader that does not find a library of a library may list only the first.
    assert!(verdict.missing.is_subset(&missing), "{context}");
    assert_eq!(verdict.missing.is_empty(), missing.is_empty(), "{context}");
    let versions: BTreeSet<String> = closure
        .edges
        .iter()
        .flat_map(|edge| &edge.problems)
        .filter_map(|problem| match problem {
            Problem::MissingVersion { version, .. } => Some(version.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(versions, verdict.versions, "{context}");
    if missing.is_empty() {
        let interpreter = closure.objects[0].object.interpreter.clone().unwrap_or_else(|| LOADER.to_owned());
        let own = real(&BTreeSet::from([interpreter]), within);
        let ours = closure.objects.iter().skip(1).map(|loaded| loaded.file.clone()).collect();
        let ours: BTreeSet<_> = real(&ours, within).difference(&own).cloned().collect();
        let theirs: BTreeSet<_> = real(&verdict.paths, within).difference(&own).cloned().collect();
        assert_eq!(ours, theirs, "{context}");
    }
    closure
}

/// What `ld.so --help` says the processor and this glibc do.
pub fn of_this_processor() -> Search {
    let run = Command::new(LOADER).arg("--help").output();
    let run = run.expect("these tests ask the loader of glibc (Debian: apt-get install libc6)");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let level = [4_u8, 3, 2]
        .into_iter()
        .find(|level| text.contains(&format!("x86-64-v{level} (supported, searched)")))
        .unwrap_or(1);
    let platform = text
        .lines()
        .find_map(|line| line.split_once(" (AT_PLATFORM"))
        .map(|(platform, _)| platform.trim().to_owned());
    Search { level, legacy: text.contains("Legacy HWCAP"), platform, ..Search::default() }
}

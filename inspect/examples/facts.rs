//! Prints a line per file with what inspection found in it: the program that `cargo xtask bench inspect` times.
//!
//! `facts [--threads N] [--no-hash] [--closure] FILE…`; a path `@LIST` stands for the paths in that file, one a line.
//! With `--closure` it prints how many libraries of this machine each program loads instead.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its result")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use hatchway_inspect::elf;
use hatchway_inspect::resolve::{self, DirectoryRoot};

/// What is done with each file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Facts,
    WithoutHash,
    Closure,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut action, mut threads, mut paths) = (Action::Facts, 1, Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-hash" => action = Action::WithoutHash,
            "--closure" => action = Action::Closure,
            "--threads" => threads = words.next().and_then(|count| count.parse().ok()).unwrap_or(1),
            _ => match word.strip_prefix('@') {
                Some(list) => {
                    paths
                        .extend(std::fs::read_to_string(list).unwrap_or_default().lines().map(PathBuf::from));
                }
                None => paths.push(PathBuf::from(word)),
            },
        }
    }
    let failed = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match line(path, action) {
                        Ok(line) => println!("{line}"),
                        Err(reason) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("error: {}: {reason}", path.display());
                        }
                    }
                }
            });
        }
    });
    if failed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(path: &Path, action: Action) -> Result<String, String> {
    match action {
        Action::Facts => {
            let facts = hatchway_inspect::inspect(path).map_err(|e| e.to_string())?;
            let (artifact, linked) = (&facts.artifact, facts.needs.len());
            let counts = [facts.elf.len(), facts.pe.len(), linked, facts.omitted.len()];
            Ok(format!("{} {} {counts:?} {}", artifact.sha256, artifact.format, path.display()))
        }
        Action::WithoutHash => {
            let facts = elf::read_file(path).map_err(|e| e.to_string())?;
            Ok(format!("{} needed, {} candidates", facts.needed.len(), facts.dlopen_candidates.len()))
        }
        Action::Closure => {
            let machine = DirectoryRoot::open(Path::new("/")).map_err(|e| e.to_string())?;
            let path = machine.inside(path).ok_or("its name is not UTF-8")?;
            let closure = resolve::closure(&machine, &path).ok_or("it is no ELF file")?;
            let missing = closure.missing().count();
            Ok(format!("{} objects, {missing} missing", closure.objects.len()))
        }
    }
}

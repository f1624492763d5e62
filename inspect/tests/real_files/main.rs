//! What inspection says about thousands of real files is what other programs say.
//!
//! `cargo xtask test proof` fetches the files and runs these tests; plain `cargo test` leaves them out, because they read
//! gigabytes. Every difference must be explained by a rule with a predicate; a list of files would explain anything.
#![allow(clippy::print_stdout, reason = "the counts of what was compared are the result that people read")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod elf;
mod pe;
mod resolution;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Differences shown before a test gives up.
const SHOWN: usize = 40;

/// The folder `cargo xtask corpus` has filled.
fn corpus() -> PathBuf {
    let folder = std::env::var_os("HATCHWAY_CORPUS");
    folder.map(PathBuf::from).expect("HATCHWAY_CORPUS names no folder; run `cargo xtask test proof`")
}

/// Files below some folders that begin with `magic`, in order. Links are not followed.
fn files(roots: &[PathBuf], magic: &[u8]) -> Vec<PathBuf> {
    let mut pending = roots.to_vec();
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        let Ok(children) = std::fs::read_dir(&directory) else { continue };
        for child in children.flatten() {
            let Ok(kind) = child.file_type() else { continue };
            if kind.is_dir() {
                pending.push(child.path());
            } else if kind.is_file() && begins_with(&child.path(), magic) {
                found.push(child.path());
            }
        }
    }
    found.sort();
    found
}

fn begins_with(path: &Path, magic: &[u8]) -> bool {
    let mut head = Vec::new();
    std::fs::File::open(path)
        .is_ok_and(|file| file.take(magic.len() as u64).read_to_end(&mut head).is_ok() && head == magic)
}

/// Runs an oracle in the C locale.
fn run(command: &mut Command, package: &str) -> Output {
    let output = command.env("LC_ALL", "C").output();
    output.unwrap_or_else(|e| panic!("{command:?}: {e} (Debian: apt-get install {package})"))
}

/// Calls `work` on chunks of `items` with all cores.
fn in_parallel<T: Sync>(items: &[T], chunk: usize, work: impl Fn(&[T]) + Sync) {
    let chunks: Vec<&[T]> = items.chunks(chunk).collect();
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(chunk);
                }
            });
        }
    });
}

/// What a comparison found: files compared, differences by the rule that explains them, and those without one.
#[derive(Debug, Default)]
struct Report {
    counts: Mutex<BTreeMap<String, usize>>,
    unexplained: Mutex<Vec<String>>,
}

impl Report {
    fn count(&self, what: impl Into<String>) {
        *self.counts.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// One difference; `rule` explains it or there is none.
    fn difference(&self, rule: Option<impl Debug>, what: String) {
        match rule {
            Some(rule) => self.count(format!("explained by {rule:?}")),
            None => self.unexplained.lock().unwrap().push(what),
        }
    }

    fn counted(&self, what: &str) -> usize {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// Prints the counts, and fails if something is unexplained.
    fn finish(&self, subject: &str) {
        println!("\n{subject}:");
        for (what, count) in self.counts.lock().unwrap().iter() {
            println!("  {count:>7} {what}");
        }
        let unexplained = self.unexplained.lock().unwrap();
        unexplained.iter().take(SHOWN).for_each(|difference| println!("  UNEXPLAINED {difference}"));
        assert!(unexplained.is_empty(), "{subject}: {} unexplained differences", unexplained.len());
    }
}

//! Power cuts and kills at every step of a build. The bounded part of it runs with the other tests; `cargo xtask crash` runs
//! all of it (`HATCHWAY_CRASH=all`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::crash::log::{self, CALLS};
use hatchway_tests::crash::{Disk, Loss, Op, World};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Libc, Mirror, Suite};
use hatchway_tests::package::Package;
use hatchway_tests::server::Server;

/// So many states or kills of each kind are tried where not all are.
const FEW: usize = 40;
/// Pieces that a small download may come in.
const PIECES: usize = 16;
/// Random losses for each state of the log, where all are tried.
const DICE: u64 = 3;

fn all() -> bool {
    std::env::var_os("HATCHWAY_CRASH").is_some_and(|value| value == "all")
}

/// Evenly spread ones of many, the last among them.
fn chosen(count: usize, most: usize) -> Vec<usize> {
    if all() || count <= most {
        return (0..count).collect();
    }
    (1..=most).map(|n| n * count / most - 1).collect()
}

/// A locked tool; the vendor's file lies beside its recipe, packages on a mirror.
fn locked() -> (Bench, Server) {
    let suite = Suite::new("bookworm", Libc::Exports("2.36"));
    let (bench, server) = Bench::in_memory().exact().with_mirror(&Mirror::new(vec![suite], Key::new(1)));
    let package = Package::new("acme", "1.0").program("usr/bin/acme", "#!/bin/sh\n");
    let package = (0..6).fold(package, |package, n| {
        package.file(&format!("usr/share/acme/{n}"), format!("{n}\n").repeat(700))
    });
    bench.put("acme.deb", package.deb());
    drop(bench.hatchway(&["new", "acme.deb"]).ok());
    drop(bench.hatchway(&["lock", "acme"]).ok());
    fs::copy(bench.path("work/acme.deb"), bench.path("work/recipes/acme/acme.deb")).unwrap();
    (bench, server)
}

/// One processor: then a build has one thread, and its calls one order.
fn traced(bench: &Bench, options: &str, log: &Path) -> Outcome {
    bench.script(&format!(
        "taskset -c \"$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')\" strace -f -qq -y -xx -s 16777216 -e trace={CALLS} {options} -o {} \"$HATCHWAY\" build -q acme --json",
        log.display()
    ))
}

/// The store after a crash: no damage, whatever was lost; and the next build gives what the first gave.
fn check(bench: &Bench, reference: &str, what: &str) {
    let verified = bench.hatchway(&["store", "verify"]);
    assert_eq!(verified.code, Some(0), "{what}\n{verified}");
    let built = bench.hatchway(&["build", "acme", "--json"]);
    assert_eq!(built.code, Some(0), "{what}\n{built}");
    assert_eq!(built.json()["tree"].as_str(), Some(reference), "{what}");
    bench.store().check_tree(reference);
    bench.store().check_artifacts();
}

/// Once in a while: what was built on the ruins is sound by the store's own measure too.
fn check_again(bench: &Bench, what: &str) {
    let verified = bench.hatchway(&["store", "verify"]);
    assert_eq!(verified.code, Some(0), "{what}\n{verified}");
}

fn remove(path: &Path) {
    let done = Command::new("rm").args(["-rf", "--"]).arg(path).status().unwrap();
    assert!(done.success());
}

#[test]
fn whatever_a_power_cut_loses_the_next_build_gives_the_same_tree() {
    let (bench, _server) = locked();
    // From the first byte: nothing is there, not even the folders of the store.
    remove(&bench.path("data"));
    fs::create_dir(bench.path("data")).unwrap();
    let before = World::read(&bench.path("data"));
    let log = bench.path("strace.log");
    let built = traced(&bench, "", &log).ok();
    let reference = built.json()["tree"].as_str().unwrap().to_owned();
    let ops =
        log::read(&fs::read_to_string(&log).unwrap(), &bench.path("data").display().to_string(), &before);
    let mut disk = Disk::new(before.clone());
    ops.iter().for_each(|op| disk.apply(op));
    // The model is right as far as it goes: it ends where the disk has ended.
    assert_eq!(disk.seen.listing(), World::read(&bench.path("data")).listing(), "the model went another way");
    assert!(ops.len() > 300, "{} changes only: the log misses some", ops.len());

    let states = states(&before, &ops);
    let tried = chosen(states.len(), FEW * 3);
    for (number, &index) in tried.iter().enumerate() {
        let (op, loss, world) = &states[index];
        remove(&bench.path("data"));
        world.write(&bench.path("data"));
        let what = format!(
            "power cut after change {op} of {} ({:?}), lost: {loss:?}",
            ops.len(),
            ops.get(op.wrapping_sub(1)).map(name)
        );
        check(&bench, &reference, &what);
        if number % 10 == 0 {
            check_again(&bench, &what);
        }
    }
    println!("{} changes, {} states, {} tried", ops.len(), states.len(), tried.len());
}

fn name(op: &Op) -> String {
    format!("{op:?}").chars().take(80).collect()
}

/// Every state that a power cut after some change may leave, each once.
fn states(before: &World, ops: &[Op]) -> Vec<(usize, Loss, World)> {
    let mut seen = BTreeSet::new();
    let mut states = Vec::new();
    let mut disk = Disk::new(before.clone());
    for number in 0..=ops.len() {
        let losses = [Loss::All, Loss::Contents, Loss::Torn, Loss::Nothing];
        let dice = (0..DICE).map(|n| Loss::Any(number as u64 * DICE + n));
        for loss in losses.into_iter().chain(dice) {
            let world = disk.after(loss);
            if seen.insert(world.fingerprint()) {
                states.push((number, loss, world));
            }
        }
        if let Some(op) = ops.get(number) {
            disk.apply(op);
        }
    }
    states
}

#[test]
fn a_builder_killed_at_any_call_leaves_a_good_store() {
    let (bench, _server) = locked();
    let log = bench.path("strace.log");
    let data = bench.path("data");
    // All but one package are there: one download, in the thread that does everything else.
    let reference = traced(&bench, "", &log).ok().json()["tree"].as_str().unwrap().to_owned();
    let store = data.join("store");
    for folder in ["trees", "objects", "manifests", "packages", "builds", "roots"] {
        remove(&store.join(folder));
    }
    let largest = bench
        .store()
        .names("artifacts")
        .into_iter()
        .max_by_key(|name| fs::metadata(store.join("artifacts").join(name)).unwrap().len());
    fs::remove_file(store.join("artifacts").join(largest.unwrap())).unwrap();
    let base = World::read(&data);
    drop(traced(&bench, "", &log).ok());
    let text = fs::read_to_string(&log).unwrap();
    let first = text.split(' ').next().unwrap().to_owned();
    let calls: Vec<&str> =
        text.lines().filter(|line| line.starts_with(&first) && line.contains('(')).collect();
    let others = text.lines().filter(|line| !line.starts_with(&first) && changes(line)).count();
    assert_eq!(others, 0, "another thread changes the disk: its calls would not be reached");
    let points: Vec<usize> = (0..calls.len()).filter(|&n| changes(calls[n])).map(|n| n + 1).collect();
    assert!(points.len() > 300, "{} calls only", points.len());
    let mut killed = 0;
    let tried = chosen(points.len(), FEW);
    for &index in &tried {
        let point = points[index];
        // strace counts each call by itself, in each thread by itself.
        let name = call_name(calls[point - 1]);
        let nth = calls[..point].iter().filter(|call| call_name(call) == name).count();
        // A download comes in more pieces once and in fewer the next time: then the last of the writes are earlier ones.
        let reached = (nth.saturating_sub(PIECES).max(1)..=nth).rev().any(|nth| {
            remove(&data);
            base.write(&data);
            let outcome = traced(&bench, &format!("-e inject={name}:signal=KILL:when={nth}"), &log);
            // strace ends as what it watched has.
            outcome.code.is_none() || outcome.code == Some(137)
        });
        killed += usize::from(reached);
        let shown: String = calls[point - 1].chars().take(120).collect();
        check(&bench, &reference, &format!("killed at call {point}: {shown}"));
    }
    assert_eq!(killed, tried.len(), "some were not killed");
    println!("{} calls that change the disk, killed at {killed}", points.len());
}

/// The call of a line of the log.
fn call_name(line: &str) -> &str {
    let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
    call.split('(').next().unwrap_or_default()
}

/// Whether a line of the log is a call that changes the disk.
fn changes(line: &str) -> bool {
    let Some(call) = line.split_once(' ').map(|(_, call)| call.trim_start()) else { return false };
    match call_name(line) {
        "openat" => call.contains("O_CREAT") || call.contains("O_TRUNC"),
        // Descriptors 0 to 2 and sockets are no disk.
        "write" => {
            !call.starts_with("write(1<")
                && !call.starts_with("write(2<")
                && !call.contains("\\x73\\x6f\\x63\\x6b\\x65\\x74")
        }
        "execve" | "lseek" => false,
        _ => !line.contains(" = -1 "),
    }
}

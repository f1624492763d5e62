//! What is kept between runs on the higher rungs, and which of it is used: images in an engine, kernels and disks of guests, records.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::rungs::Rungs;
use super::rungs_ends::{signal, started};

// `docker commit` gives the name and the label of an image to another one, which was then run.
#[test]
fn only_the_image_that_was_sent_is_used() {
    let rungs = Rungs::new("");
    let ask = "$RUN -c 'test -e /usr/share/changed && echo changed || echo own'";
    let own = || assert_eq!(rungs.shell("container", ask).ok().stdout, "own\n");
    own();
    let says = |arguments: &[&str]| rungs.engine_says(arguments).unwrap();
    let name = says(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let image = || says(&["inspect", "--format", "{{.Id}}", &name]);
    let sent = image();
    let change = || {
        let container = says(&["create", &name]);
        says(&[
            "cp",
            &rungs.bench.put("changed", "x").display().to_string(),
            &format!("{container}:/usr/share/changed"),
        ]);
        says(&["commit", &container, &name]);
        says(&["rm", &container]);
        assert_ne!(image(), sent);
    };
    change();
    own();
    assert_eq!(image(), sent, "the name is not the sent image's again");
    // What was remembered is gone, or is of another version: it is computed anew, and nothing is sent that is there.
    let kept = rungs.bench.path("cache/hatchway/images");
    for forget in [true, false] {
        for entry in fs::read_dir(&kept).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            let other = text.replace("\"builder\":\"", "\"builder\":\"0.0.0 of old ");
            assert_ne!(text, other);
            if forget {
                fs::remove_file(entry.path()).unwrap();
            } else {
                fs::write(entry.path(), other).unwrap();
            }
        }
        let outcome = rungs
            .shell(
                "container",
                &ask.replace("$RUN", "$HATCHWAY run acme --rung container --program /usr/bin/dash --"),
            )
            .ok();
        assert!(outcome.stdout == "own\n" && outcome.stderr.contains("computing digests"), "{outcome}");
        assert!(!outcome.stderr.contains("loading"), "{outcome}");
    }
    rungs.nothing_is_left();
}

// Kernels, and disks that another version has made, stayed for ever.
#[test]
fn what_guests_are_made_of_goes_when_nobody_uses_it() {
    let rungs = Rungs::new("");
    let cache = rungs.bench.path("cache/hatchway/guests");
    let names = || {
        let entries = fs::read_dir(&cache).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with("kernel-") || name.starts_with("tree-"));
        names.sort();
        names
    };
    let old = || drop(rungs.bench.script("touch -d '40 days ago' ../cache/hatchway/guests/used/*").ok());
    let collect =
        |more: &[&str]| rungs.bench.hatchway(&[&["store", "gc", "--json"], more].concat()).ok().json();
    let mut child = started(&rungs, "vm", "trap \"exit 0\" TERM; echo ready; while :; do sleep 0.1; done");
    let made = names();
    assert_eq!(made.len(), 2, "{made:?}");
    old();
    // A guest that runs holds what it has.
    assert_eq!(collect(&["--older-than", "0"])["guests"].as_array().map(Vec::len), Some(0));
    signal(&child, "-TERM");
    child.wait().unwrap();
    assert_eq!(names(), made);
    let said = collect(&["--dry-run"]);
    assert!(said["guests"].as_array().is_some_and(|all| all.len() == 2), "{said}");
    assert!(said["bytes"].as_u64() >= said["guests"][0]["bytes"].as_u64(), "{said}");
    assert_eq!(names(), made);
    let said = rungs.bench.hatchway(&["store", "gc"]).ok();
    assert!(said.stdout.contains("  2 kernels and disks of guests\n"), "{said}");
    assert_eq!(names(), [""; 0]);
    // They are made anew, and used now.
    drop(rungs.shell("vm", "$RUN -c true").ok());
    assert_eq!(names(), made);
    assert_eq!(collect(&[])["guests"].as_array().map(Vec::len), Some(0));
    rungs.nothing_is_left();
}

// The folder of a run whose `hatchway run` failed while the tool ran was removed: nothing had run, it said.
#[test]
fn a_run_that_fails_in_the_middle_leaves_a_record() {
    let rungs = Rungs::new("");
    for rung in ["container", "vm"] {
        let mut child = started(&rungs, rung, "echo ready; while :; do sleep 0.1; done");
        // Its next wait fails.
        let fail = ["-qq", "-o", "/dev/null", "-e", "inject=poll,ppoll:error=EIO:when=1", "-p"];
        let mut strace = Command::new("strace")
            .args(fail)
            .arg(child.id().to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{rung}: it does not end");
            // A container's run wakes for a signal only.
            drop(Command::new("kill").args(["-WINCH", &child.id().to_string()]).status());
            std::thread::sleep(Duration::from_millis(100));
        }
        strace.wait().unwrap();
        let record = rungs.record();
        let message = record["reason"]["engine"]["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("cannot wait for `the ") && message.contains("os error 5"),
            "{rung}: {record}"
        );
        assert_eq!(child.wait().unwrap().code().map(i64::from), record["code"].as_i64());
        let said = rungs.bench.read("err");
        assert!(said.contains("warning: the tool was ended: cannot wait for"), "{rung}: {said}");
    }
    rungs.nothing_is_left();
}

// QEMU runs as the unit's user, and had all of root's variables.
#[test]
fn a_guests_qemu_has_none_of_the_callers_variables() {
    let rungs = Rungs::new("");
    let line = "export HATCHWAY_SECRET=1; $RUN -c 'echo ready; read x' > out < fifo & exec 9> fifo; \
                until grep -q ready out; do sleep 0.1; done; \
                tr '\\0' '\\n' < /proc/$(pgrep -P $! -f qemu-system)/environ | cut -d= -f1 | sort; echo >&9; wait";
    let line = format!("mkfifo fifo; {}", line);
    assert_eq!(rungs.shell("vm", &line).ok().stdout, "PATH\nTMPDIR\n");
}

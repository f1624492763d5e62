//! Devices of this machine on the rungs that have them, and an engine that can be left while it does not answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::rungs::Rungs;

/// A name that stays, as udev makes them, for a device that every kernel has; it goes with the test.
struct Link(PathBuf);

impl Link {
    fn new() -> Self {
        let folder = PathBuf::from(format!("/dev/hatchway-test-{}", std::process::id()));
        fs::create_dir_all(folder.join("by-id")).unwrap();
        symlink("/dev/full", folder.join("by-id/hatchway-acme")).unwrap();
        Self(folder)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        fs::remove_file(self.0.join("by-id/hatchway-acme")).ok();
        fs::remove_dir(self.0.join("by-id")).ok();
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_device_that_is_there_is_shown() {
    let rungs = Rungs::new("");
    if !rungs.names().contains(&"container") {
        // The suite says already that nobody but root asks engines.
        return;
    }
    let link = Link::new();
    let recipe = rungs.bench.path("work/recipes/acme/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let device = "\n[[device]]\nname = \"full\"\nclass = \"mem\"\nat = \"/dev/acme0\"\n";
    fs::write(&recipe, text + device).unwrap();
    drop(rungs.bench.hatchway(&["lock", "-q", "acme"]).ok());
    let run = |rung: &str, name: &str, inside: &str| {
        let line = format!(
            "$HATCHWAY run -q acme --rung {rung} --bind full=by-id:{name} --program /usr/bin/dash -- -c '{inside}'"
        );
        rungs.shell(rung, &line)
    };
    for rung in ["fhs", "container"] {
        // That device alone answers so.
        let inside =
            "stat -Lc %t:%T /dev/acme0; sed -n 1p /usr/bin/text > /dev/acme0; head -c 3 /dev/acme0 | wc -c";
        let outcome = run(rung, "hatchway-acme", inside);
        assert_eq!(outcome.stdout, "1:7\n3\n", "{rung}\n{outcome}");
        assert!(outcome.stderr.contains("No space left on device"), "{rung}\n{outcome}");
        // And no other: making one is for nobody inside.
        let others = run(
            rung,
            "hatchway-acme",
            "ls -d /dev/kmsg /dev/mem /dev/vda; mknod /tmp/x c 1 7 || echo refused",
        );
        assert_eq!(others.stdout, "refused\n", "{rung}\n{others}");
    }
    drop(link);
    let away = run("container", "hatchway-acme", "true");
    assert_eq!(away.code, Some(125), "{away}");
    assert!(away.stderr.contains("a container has only what is there at its start"), "{away}");
    assert!(away.stderr.contains("hint: plug it in"), "{away}");
    rungs.nothing_is_left();
}

/// A stand-in for an engine that is there and does not answer, as one that loads a large image for a long time.
#[test]
fn an_engine_that_does_not_answer_can_be_left() {
    let rungs = Rungs::new("");
    let socket = rungs.bench.path("work/silent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Who connects stays connected and hears nothing; the thread ends with the tests.
    std::thread::spawn(move || {
        let mut held = Vec::new();
        listener.incoming().for_each(|connection| held.push(connection));
    });
    for signal in ["INT", "TERM"] {
        let line = format!(
            "export DOCKER_HOST=unix://{}; env --default-signal=INT \"$HATCHWAY\" run -q acme --rung container & run=$!; \
             sleep 2; kill -0 $run && kill -{signal} $run; n=0; \
             while kill -0 $run 2> /dev/null && test $n -lt 600; do sleep 0.1; n=$((n + 1)); done; \
             kill -9 $run 2> /dev/null && echo had to be killed; wait $run; echo ended $?",
            socket.display()
        );
        let outcome = rungs.bench.script(&line);
        let number = if signal == "INT" { 130 } else { 143 };
        assert_eq!(outcome.stdout, format!("ended {number}\n"), "{signal}\n{outcome}");
    }
}

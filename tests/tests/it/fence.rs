//! The second wall alone: what the mounts let through, Landlock stops. The way past the mounts is a descriptor that somebody
//! hands in over a socket the tool was given, as a careless or broken service could.

use std::os::unix::fs::PermissionsExt;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::compile;
use hatchway_tests::mirror::Mirror;

use super::machine::Machine;

/// Takes a folder of the host over the sound server's socket, and tries what it can do with it.
const PROBE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
static void say(const char *what, long got) { printf("%s: %s\n", what, got < 0 ? strerrorname_np(errno) : "done"); }
int main(void) {
    struct sockaddr_un to = {AF_UNIX, ""};
    const char *server = getenv("PULSE_SERVER");
    strncpy(to.sun_path, server + strlen("unix:"), sizeof to.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), folder = -1;
    if (connect(s, (void *)&to, sizeof to)) return puts(strerror(errno)), 1;
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {0, 0, &part, 1, space, sizeof space, 0};
    if (recvmsg(s, &message, 0) < 1 || !CMSG_FIRSTHDR(&message)) return puts("no descriptor"), 1;
    memcpy(&folder, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof folder);
    say("read a file of the host", openat(folder, "secret", O_RDONLY));
    say("list a folder of the host", openat(folder, ".", O_RDONLY | O_DIRECTORY));
    say("make a file on the host", openat(folder, "made", O_WRONLY | O_CREAT, 0644));
    say("make a folder on the host", mkdirat(folder, "folder", 0755));
    say("remove a file of the host", unlinkat(folder, "victim", 0));
    fchdir(folder);
    say("climb", open("../work/secret", O_RDONLY));
    // What must go on working.
    char text[64];
    int file = open("/tmp/file", O_RDWR | O_CREAT, 0644);
    say("tmp", file);
    mkdir("/tmp/a", 0755);
    say("move", rename("/tmp/file", "/tmp/a/file"));
    say("fifo", mkfifo("/tmp/fifo", 0644) || open("/tmp/fifo", O_RDWR) < 0 ? -1 : 0);
    say("terminal", open("/dev/ptmx", O_RDWR));
    say("name", open("/proc/self/comm", O_WRONLY));
    say("shared memory", open("/dev/shm/x", O_RDWR | O_CREAT, 0600));
    say("stdout", open("/dev/stdout", O_WRONLY));
    say("stdin, to write", open("/dev/stdin", O_WRONLY));
    say("program", open("/usr/bin/acme", O_RDONLY));
    say("own child", ({ pid_t child = fork(); if (!child) { pause(); _exit(0); } kill(child, SIGKILL); }));
    return 0;
}
"#;

/// What a tool gets from a sound server that hands out the working folder.
fn run(machine: &Machine) -> Outcome {
    let bench = &machine.bench;
    bench.put("secret", "a secret of the host");
    bench.put("victim", "a file of the host");
    bench.put("output", "");
    bench.put(
        "server.py",
        "import os, socket\n\
         server = socket.socket(socket.AF_UNIX)\n\
         server.bind('pulse/native')\n\
         os.chmod('pulse/native', 0o777)\n\
         server.listen()\n\
         print('ready', flush=True)\n\
         client, _ = server.accept()\n\
         socket.send_fds(client, [b'x'], [os.open('.', os.O_RDONLY)])\n",
    );
    // Everybody may: file permissions are not the wall that is tried here.
    let open =
        |path: &str| std::fs::set_permissions(bench.path(path), PermissionsExt::from_mode(0o777)).unwrap();
    ["work", "work/output", "work/secret", "work/victim"].into_iter().for_each(open);
    let script = "mkdir -m 777 pulse; mkfifo ready; python3 server.py >ready & read -r said <ready
        export XDG_RUNTIME_DIR=$PWD; echo input >input; chmod 666 input
        \"$HATCHWAY\" run -q acme <input >output; echo $?; wait; cat output";
    bench.script(script)
}

#[test]
fn a_folder_of_the_host_that_is_handed_in_stays_closed() {
    for bench in [Bench::new(), Bench::ordinary()] {
        let machine = Machine::of(bench, &Mirror::runnable(), compile::program(PROBE));
        machine.asks("audio = \"shared\"", "");
        let checks = machine.bench.hatchway(&["doctor", "--json"]).json();
        let landlock =
            checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "Landlock").unwrap();
        let outcome = run(&machine);
        if landlock["state"] != "works" {
            // Then there is one wall, and doctor says so; the attempt shows that it is no wall against this.
            assert!(outcome.stdout.contains("read a file of the host: done"), "{outcome}");
            let explained = machine.session("XDG_RUNTIME_DIR=$PWD", "--explain").ok();
            assert!(!explained.stdout.contains("allow by Landlock"));
            continue;
        }
        let refused =
            ["read a file of", "list a folder of", "make a file on", "make a folder on", "remove a file of"];
        let mut expected = String::from("0\n");
        refused.iter().for_each(|attempt| expected.push_str(&format!("{attempt} the host: EACCES\n")));
        expected.push_str("climb: EACCES\n");
        for works in ["tmp", "move", "fifo", "terminal", "name", "shared memory", "stdout"] {
            expected.push_str(&format!("{works}: done\n"));
        }
        expected.push_str("stdin, to write: EACCES\nprogram: done\nown child: done\n");
        assert_eq!(outcome.stdout, expected, "{outcome}");
        assert_eq!(machine.bench.read("victim"), "a file of the host");
        assert!(
            machine
                .session("XDG_RUNTIME_DIR=$PWD", "--explain")
                .stdout
                .contains("allow by Landlock: read and execute below `/`")
        );
    }
}

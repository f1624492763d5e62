//! At a terminal, below a shell: keys, job control, size.
use crate::support::{As, World, ways};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An interactive shell on a terminal of its own, and what it has shown so far.
struct Shell {
    master: File,
    child: Child,
    shown: String,
}

impl Shell {
    fn new(world: &World) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        if world.way == As::User && rustix::process::geteuid().is_root() {
            let id = crate::support::STRANGER.to_string();
            command.args(["-c", "setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        } else {
            command.arg("-c");
        }
        command.args(["bash", "--norc", "--noprofile", "-i"]).env("PS1", "$ ").current_dir("/");
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let OwnedFd { .. } = pty.slave;
        Self { master: File::from(pty.master), child, shown: String::new() }
    }

    fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until both appear, in whichever order.
    fn expect_both(&mut self, one: &str, other: &str) {
        self.wait_for(one);
        self.wait_for(other);
        self.shown.clear();
    }

    /// Waits until the text appears after what was seen before.
    fn expect(&mut self, text: &str) {
        self.wait_for(text);
        let after = self.shown.find(text).unwrap() + text.len();
        self.shown.drain(..after);
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.shown.contains(text) {
            let left =
                u16::try_from(end.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u16::MAX);
            let mut fds = [nix::poll::PollFd::new(self.master.as_fd(), nix::poll::PollFlags::POLLIN)];
            let ready = nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(left)).unwrap();
            assert!(ready > 0, "`{text}` did not appear in:\n{}", self.shown);
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn ctrl_c_goes_through_the_tool_s_own_terminal() {
    for way in ways() {
        let mut world = World::new(way)
            .script("trap 'echo got-int; exit 9' INT; echo re''ady; while :; do sleep 0.05; done");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("{line}; echo code=$?\n"));
        shell.expect("ready");
        shell.type_keys("\x03");
        shell.expect("got-int");
        shell.expect("code=9");
    }
}

#[test]
fn ctrl_z_stops_and_fg_goes_on() {
    for way in ways() {
        let mut world = World::new(way).script("echo re''ady; read x; echo \"read:$x\"; exit 5");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("{line}\n"));
        shell.expect("ready");
        for _ in 0..2 {
            shell.type_keys("\x1a");
            shell.expect("Stopped");
            // The outer terminal echoes and edits lines again.
            shell.type_keys("echo outer-$((1+1))\n");
            shell.expect("outer-2");
            shell.type_keys("fg\n");
            shell.expect("bootstrap-fd 9");
            std::thread::sleep(Duration::from_millis(200));
        }
        shell.type_keys("hello\n");
        shell.expect("read:hello");
        // What is typed before the shell is back belongs to the tool.
        shell.expect("$ ");
        shell.type_keys("echo code=$?\n");
        shell.expect("code=5");
    }
}

#[test]
fn the_terminal_is_the_sandbox_s_with_the_outer_one_s_size() {
    for way in ways() {
        let mut world = World::new(way).script("stty size; ls -l /proc/self/fd/0; perl -e '$x = \"x\"; ioctl(STDIN, 0x5412, $x); print \"$!\\n\"'; trap 'stty size; exit' WINCH; echo re''ady; while :; do sleep 0.05; done");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("{line}\n"));
        shell.expect("33 77");
        shell.expect("/dev/pts/0");
        shell.expect("Operation not permitted");
        shell.expect("ready");
        let size = rustix::termios::Winsize { ws_row: 20, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&shell.master, size).unwrap();
        shell.expect("20 50");
    }
}

#[test]
fn a_pipe_shares_the_terminal_and_ctrl_c_arrives_once() {
    for way in ways() {
        let mut world = World::new(way)
            .script("n=0; trap 'n=$((n+1))' INT; echo re''ady >&2; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo ints=$n");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        // A reader that has no trap yet would end, and nobody would see what the tool says.
        shell.type_keys(&format!("{line} | (trap '' INT; echo deaf''ened >&2; cat)\n"));
        shell.expect_both("ready", "deafened");
        shell.type_keys("\x03");
        shell.expect("ints=1");
    }
}

/// In the background of a shell, a tool that has one pipe among its streams takes the terminal it can reach and reads.
#[test]
fn a_tool_in_the_background_cannot_take_the_terminal() {
    for way in ways() {
        // 0x5410 is TIOCSPGRP.
        let script = r#"$SIG{TTOU} = $SIG{TTIN} = "IGNORE"; setpgrp(0, 0);
            open(my $tty, "+<", "/dev/tty") or die "no tty: $!";
            my $own = pack("i", $$); ioctl($tty, 0x5410, $own) or print STDERR "refused: $!\n";
            for (0, 1, 2) { print STDERR "stream $_ is ", readlink("/proc/self/fd/$_"), "\n"; }
            print STDERR "taken\n"; $SIG{ALRM} = sub { print STDERR "read nothing\n"; exit 3 }; alarm 2;
            sysread($tty, my $keys, 100); print STDERR "stolen: $keys\n""#;
        let mut world = World::new(way);
        world.spec.program = "perl".to_owned();
        world.spec.args = vec!["-e".to_owned(), script.to_owned()];
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("(echo x; sleep 4) | {line} &\n"));
        shell.expect("stream 1 is /dev/pts/0");
        shell.expect("stream 2 is /dev/pts/0");
        shell.expect("taken");
        shell.type_keys("echo secret-$((1+1))\n");
        shell.expect("secret-2");
        shell.expect("read nothing");
        assert!(!shell.shown.contains("stolen"), "{}", shell.shown);
    }
}

/// `less < file`: the keys are the tool's once it reads them, and the terminal is as it was afterwards.
#[test]
fn a_tool_with_a_pipe_gets_keys_when_it_reads_them() {
    for way in ways() {
        let script = "read line; echo \"input:$line\"; stty size <&2; trap 'echo winch:$(stty size <&2)' WINCH
            exec 3</dev/tty; echo re''ady; read key <&3; echo \"key:$key\"; read more <&3; echo \"more:$more\"; exit 6";
        let mut world = World::new(way).script(script);
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("echo piped | {line}\n"));
        shell.expect("input:piped");
        shell.expect("33 77");
        shell.expect("ready");
        shell.type_keys("first\n");
        shell.expect("key:first");
        shell.type_keys("\x1a");
        shell.expect("Stopped");
        shell.type_keys("echo outer-$((1+1))\n");
        shell.expect("outer-2");
        shell.type_keys("fg\n");
        shell.expect("bootstrap-fd 9");
        std::thread::sleep(Duration::from_millis(200));
        shell.type_keys("second\n");
        shell.expect("more:second");
        shell.expect("$ ");
        shell.type_keys("echo code=$?\n");
        shell.expect("code=6");
    }
}

/// `tool | pager`: as long as the tool reads no keys, they are the pager's.
#[test]
fn keys_of_a_pipeline_are_the_other_programs() {
    for way in ways() {
        let mut world = World::new(way).script("echo re''ady >&2; sleep 1; echo end");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("{line} | (read key </dev/tty; echo \"pager:$key\"; cat)\n"));
        shell.expect("ready");
        shell.type_keys("mine\n");
        shell.expect("pager:mine");
        shell.expect("end");
    }
}

/// A tool in the background that wants keys is stopped, as any job is, and goes on in the foreground.
#[test]
fn a_job_that_wants_keys_waits_for_fg() {
    for way in ways() {
        let mut world = World::new(way).script("exec 3</dev/tty; read key <&3; echo \"key:$key\"");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("true | {line} &\n"));
        std::thread::sleep(Duration::from_millis(700));
        shell.type_keys("\n");
        shell.expect("Stopped");
        shell.type_keys("fg\n");
        shell.expect("bootstrap-fd 9");
        std::thread::sleep(Duration::from_millis(300));
        shell.type_keys("hello\n");
        shell.expect("key:hello");
    }
}

/// Where no shell could ever bring it to the front, a tool that wants keys reads an end instead of stopping for good.
#[test]
fn a_tool_that_can_never_have_keys_reads_an_end() {
    for way in ways() {
        let mut world = World::new(way).script("exec 3</dev/tty; read key <&3; echo \"end:$?\"");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        // Neither in the foreground's group nor watched by a shell: its parent has left for another session.
        shell.type_keys(&format!("(true | {line} &) ; set +m\n"));
        shell.expect("end:1");
    }
}

#[test]
fn a_big_output_arrives_whole() {
    for way in ways() {
        let mut world =
            World::new(way).script("for ((i=0;i<3000;i++)); do echo line-$i-xxxxxxxxxxxxxxxxxxxxxxxx; done");
        let line = world.command_line();
        let mut shell = Shell::new(&world);
        shell.type_keys(&format!("{line}; echo code=$?\n"));
        shell.expect("line-0-");
        shell.expect("line-2999-");
        shell.expect("code=0");
    }
}

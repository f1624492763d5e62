//! What a tool can reach, and what it cannot.
use crate::support::{As, World, ways};
use hatchway_envs::sandbox::Network;

#[test]
fn the_tool_has_no_privilege_and_a_filter() {
    for way in ways() {
        let ran = World::new(way).script("cat /proc/self/status").run();
        let field = |name: &str| {
            let line = ran.out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{way:?} {set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{way:?}");
        assert_eq!(field("Seccomp:"), "2", "{way:?}");
        assert_eq!(field("Uid:"), field("Gid:"), "{way:?}");
        assert_eq!(field("SigBlk:"), "0000000000000000", "{way:?}");
        assert_eq!(field("SigIgn:"), "0000000000000000", "{way:?}");
    }
}

#[test]
fn pid_1_is_the_shim_and_cannot_be_looked_into() {
    for way in ways() {
        let script =
            "cat /proc/1/comm; cat /proc/1/environ; ls /proc/1/fd; ls -l /proc/1/exe; kill -9 1; echo alive";
        let ran = World::new(way).script(script).run();
        assert!(ran.out.starts_with("hatchway-shim\n"), "{way:?} {}", ran.out);
        assert!(ran.out.ends_with("alive\n"), "{way:?} {}", ran.out);
        assert!(ran.err.matches("ermission denied").count() >= 3, "{way:?} {}", ran.err);
    }
}

#[test]
fn no_descriptor_is_inherited() {
    for way in ways() {
        // The last one is the folder that `ls` reads.
        let ran = World::new(way).script("ls /proc/self/fd").run();
        assert_eq!(ran.out, "0\n1\n2\n3\n", "{way:?}");
    }
}

#[test]
fn dev_holds_what_it_should_and_nothing_else() {
    for way in ways() {
        let ran = World::new(way).script("ls /dev; echo x >/dev/null && stat -c %a /dev/shm").run();
        let names = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 1777";
        assert_eq!(ran.out.split_whitespace().collect::<Vec<_>>().join(" "), names, "{way:?} {}", ran.err);
    }
}

#[test]
fn the_network_is_what_was_asked_for() {
    for way in ways() {
        let run = |network| {
            let mut world = World::new(way)
                .script("cat /proc/net/dev | while read n r; do echo $n; done; : </dev/tcp/127.0.0.1/9");
            world.spec.network = network;
            world.run()
        };
        let none = run(Network::None);
        // Where the kernel has Landlock's rules for TCP, they are asked before the routes are.
        let walls = ["unreachable", "Permission denied"];
        assert!(walls.iter().any(|wall| none.err.contains(wall)), "{way:?} {}", none.err);
        let loopback = run(Network::Loopback);
        assert!(loopback.err.contains("refused"), "{way:?} {}", loopback.err);
        let interfaces = loopback.out.lines().filter(|line| line.ends_with(':')).count();
        assert!(loopback.out.contains("lo:"), "{way:?} {}", loopback.out);
        // Kernels with tunnels built in show those in every namespace, down.
        assert!(!loopback.out.contains("eth0:"), "{way:?} {interfaces}");
    }
}

#[test]
fn the_names_inside_are_the_sandbox_s() {
    for way in ways() {
        let mut world = World::new(way).script(
            "cat /proc/sys/kernel/hostname /etc/hostname /etc/machine-id; id -un; echo $HOME; echo ~; env",
        );
        world.spec.hostname = Some("scanner1".to_owned());
        world.spec.machine_id = "0123456789abcdef0123456789abcdef".to_owned();
        let ran = world.run();
        let expected = "scanner1\nscanner1\n0123456789abcdef0123456789abcdef\ntool\n/home/tool\n/home/tool\n";
        assert_eq!(ran.out, expected, "{way:?} {}", ran.err);
    }
}

#[test]
fn mounts_namespaces_and_typing_on_the_terminal_are_refused() {
    for way in ways() {
        let script = "mount -t tmpfs none /tmp; unshare -U true; unshare -m true; \
            perl -e '$x = \"x\"; ioctl(STDIN, 0x5412, $x); print \"$!\\n\"; ioctl(STDIN, 0x541c, $x); print \"$!\\n\"; \
            socket(S, 17, 3, 0); print \"$!\\n\"; $r = syscall(425, 1, 0); print \"$!\\n\"'";
        let ran = World::new(way).script(script).run();
        assert!(ran.err.contains("mount:"), "{way:?} {}", ran.err);
        assert_eq!(ran.err.matches("not permitted").count(), 2, "{way:?} {}", ran.err);
        let expected = "Operation not permitted\nOperation not permitted\n\
            Address family not supported by protocol\nFunction not implemented\n";
        assert_eq!(ran.out, expected, "{way:?} {}", ran.err);
    }
}

#[test]
fn kernel_settings_are_read_only() {
    for way in ways() {
        let script = "echo x >/proc/sys/kernel/core_pattern; cat /proc/keys /proc/timer_list; echo $?";
        let ran = World::new(way).script(script).run();
        assert!(ran.err.contains("core_pattern: Read-only file system"), "{way:?} {}", ran.err);
        assert_eq!(ran.out, "0\n", "hidden files look empty");
    }
}

#[test]
fn threads_and_processes_still_work() {
    for way in ways() {
        let ran = World::new(way)
            .script("for i in 1 2 3; do (echo $i) | cat; done; perl -e 'fork and wait; print 4'")
            .run();
        assert_eq!(ran.out, "1\n2\n3\n44", "{way:?} {}", ran.err);
    }
}

#[test]
fn a_capability_that_is_asked_for_is_kept_alone() {
    if !ways().contains(&As::Root) {
        return;
    }
    let mut world = World::new(As::Root).script("cat /proc/self/status");
    world.spec.capabilities = vec!["CAP_SYS_NICE".to_owned()];
    let ran = world.run();
    for set in ["CapEff", "CapBnd", "CapAmb"] {
        assert!(ran.out.contains(&format!("{set}:\t0000000000800000")), "{}", ran.out);
    }
}

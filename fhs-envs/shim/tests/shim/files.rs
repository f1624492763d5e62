//! What is written, and what stays of it.
use crate::support::{World, ways};
use hatchway_envs::sandbox::{BoundFile, InsidePath, Share, StateDir};
use hatchway_wire::ExitReason;
use std::os::unix::fs::symlink;

fn at(path: &str) -> InsidePath {
    InsidePath::new(path).unwrap()
}

#[test]
fn programs_are_read_only_and_other_writes_vanish() {
    for way in ways() {
        for overlay in [true, false] {
            let places = "/tmp /var/tmp /run /home/tool /var/log /var/cache /var/lib /dev/shm /run/user/$UID";
            let script = format!(
                "for d in {places}; do echo x >$d/new || echo no $d; done; touch /usr/bin/new /bin/new"
            );
            let mut world = World::new(way).script(&script);
            world.facts.overlay = overlay;
            let ran = world.run();
            assert_eq!(ran.out, "", "{way:?} overlay {overlay} {}", ran.err);
            assert_eq!(ran.err.matches("Read-only file system").count(), 2, "{way:?} {}", ran.err);
            for place in ["usr/bin/new", "var/lib/new", "var/log/new", "etc/passwd"] {
                assert!(!world.path("tree").join(place).exists(), "{place}");
            }
        }
    }
}

#[test]
fn over_an_overlay_the_owner_may_change_anything_else() {
    let world = World::new(crate::support::As::User)
        .script("rm -r /opt/vendor && mkdir /opt/vendor && echo mine >/opt/vendor/data && echo y >>/etc/vendor.conf && cat /opt/vendor/data /etc/vendor.conf");
    let ran = world.run();
    assert_eq!(ran.out, "mine\nvendor\ny\n", "{}", ran.err);
    assert_eq!(std::fs::read_to_string(world.path("tree/opt/vendor/data")).unwrap(), "data\n");
    assert_eq!(std::fs::read_to_string(world.path("tree/etc/vendor.conf")).unwrap(), "vendor\n");
}

#[test]
fn state_survives_files_do_not_change_and_shares_are_as_asked() {
    for way in ways() {
        for overlay in [true, false] {
            let script = "cat /etc/vendor/license.dat /usr/lib/vendor/key; echo run >>/var/lib/vendor/log; \
                cat /var/lib/vendor/log; echo x >/etc/vendor/license.dat; echo x >/mnt/in/x; cat /mnt/in/given";
            let mut world = World::new(way).script(script);
            world.facts.overlay = overlay;
            std::fs::write(world.path("license.dat"), "license\n").unwrap();
            std::fs::write(world.path("share/given"), "given\n").unwrap();
            let license = world.host("license.dat");
            world.spec.files = vec![
                BoundFile { host: license.clone(), at: at("/etc/vendor/license.dat") },
                BoundFile { host: license, at: at("/usr/lib/vendor/key") },
            ];
            world.spec.state = vec![StateDir { host: world.host("state"), at: at("/var/lib/vendor") }];
            world.spec.shares = vec![Share { host: world.host("share"), at: at("/mnt/in"), read_only: true }];
            let first = world.run();
            assert_eq!(
                first.out, "license\nlicense\nrun\ngiven\n",
                "{way:?} overlay {overlay} {}",
                first.err
            );
            assert_eq!(first.err.matches("Read-only file system").count(), 2, "{way:?} {}", first.err);
            assert_eq!(world.run().out, "license\nlicense\nrun\nrun\ngiven\n", "{way:?}");
        }
    }
}

#[test]
fn a_tree_s_symlinks_lead_nowhere_outside() {
    for way in ways() {
        let mut world = World::new(way)
            .script("ls /etc/vendor.d; cat /etc/passwd | while read l; do echo ok; break; done");
        // A hostile tree: its folder for the licence is the host's state, its passwd a file of the host.
        symlink(world.path("state"), world.path("tree/etc/vendor.d")).unwrap();
        symlink(world.path("share/victim"), world.path("tree/etc/passwd")).unwrap();
        std::fs::write(world.path("share/victim"), "victim").unwrap();
        std::fs::write(world.path("license.dat"), "license\n").unwrap();
        world.spec.files =
            vec![BoundFile { host: world.host("license.dat"), at: at("/etc/vendor.d/license.dat") }];
        let ran = world.run();
        assert_eq!(std::fs::read_dir(world.path("state")).unwrap().count(), 0, "{way:?}");
        assert_eq!(std::fs::read_to_string(world.path("share/victim")).unwrap(), "victim", "{way:?}");
        // The link dangles inside, so it is no folder: an error with a name, not a surprise.
        assert_eq!(ran.code, 125, "{way:?} {} {}", ran.out, ran.err);
        assert!(ran.err.contains("license.dat` at `/etc/vendor.d/license.dat`"), "{way:?} {}", ran.err);
    }
}

#[test]
fn a_failed_operation_is_reported_by_name() {
    for way in ways() {
        let mut world = World::new(way).script("true");
        world.spec.shares = vec![Share { host: world.host("missing"), at: at("/mnt"), read_only: true }];
        let ran = world.run();
        let path = world.host("missing");
        assert_eq!(ran.code, 125, "{way:?}");
        let expected =
            format!("error: cannot bind `{path}` at `/mnt` (read-only): no such file or directory\n");
        assert!(ran.err.starts_with(&expected), "{way:?} {}", ran.err);
        let ExitReason::SandboxFailed { path: Some(named), errno: Some(2), .. } = ran.record.reason else {
            panic!("{:?}", ran.record.reason)
        };
        assert_eq!(named, path.as_str());
    }
}

#[test]
fn a_source_behind_a_symlink_or_of_another_kind_is_refused() {
    for way in ways() {
        let mut world = World::new(way).script("true");
        symlink(world.path("share"), world.path("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
        world.spec.shares = vec![Share { host: world.host("link"), at: at("/mnt"), read_only: true }];
        let ran = world.run();
        assert!(
            ran.code == 125 && ran.err.contains("hint: a part of this path is a symlink"),
            "{way:?} {}",
            ran.err
        );
        world.spec.shares.clear();
        world.spec.files = vec![BoundFile { host: world.host("socket"), at: at("/etc/socket") }];
        let ran = world.run();
        assert!(ran.code == 125 && ran.err.contains("it is not a regular file"), "{way:?} {}", ran.err);
    }
}

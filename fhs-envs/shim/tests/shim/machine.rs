//! What a unit gets of the machine while it runs: files that follow the host's, devices that come back, addresses that
//! are relayed, an interface of its own, sockets and cookies. Each as root and as an ordinary user.
use crate::support::{As, World, eventually, ways};
use hatchway_envs::sandbox::{BoundSocket, DeviceId, HostPath, InsidePath, Interface, Network, Secret, Slot};
use hatchway_wire::{Bootstrap, Endpoint, Op};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

fn at(path: &str) -> InsidePath {
    InsidePath::new(path).unwrap()
}

fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

/// The plan with another file than the host's own resolver configuration, which is not ours to change.
fn following(world: &World, source: &Path) -> Bootstrap {
    let mut plan = world.plan();
    let op = plan.ops.iter_mut().find(|op| matches!(op, Op::Follow { .. })).unwrap();
    if let Op::Follow { source: place, .. } = op {
        *place = HostPath::new(source.to_str().unwrap()).unwrap();
    }
    plan
}

#[test]
fn the_resolver_configuration_follows_the_hosts_without_a_restart() {
    for way in ways() {
        let script = r#"
            until_it_says() { until [ "$(cat /etc/resolv.conf)" = "$1" ]; do sleep 0.02; done; echo "saw $1"; }
            for word in one two three four; do until_it_says $word; done
            echo five 2>/dev/null >/etc/resolv.conf && echo written
            touch /run/hatchway/resolv/x 2>/dev/null && echo made
            true"#;
        let mut world = World::new(way).script(script);
        world.spec.network = Network::Host;
        // As on a host with a resolver of its own: a link to a file that is replaced by renaming.
        let (real, other, link) =
            (world.path("record/stub"), world.path("share/other"), world.path("record/resolv.conf"));
        std::fs::write(&real, "one").unwrap();
        symlink("stub", &link).unwrap();
        let mut child = world.start_plan(&following(&world, &link));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut saw =
            |word: &str| assert_eq!(lines.next().unwrap().unwrap(), format!("saw {word}"), "{way:?}");
        saw("one");
        replace(&real, "two");
        saw("two");
        // The link itself is replaced, as by another network manager, and then written in place.
        std::fs::write(&other, "three").unwrap();
        symlink(&other, world.path("record/new")).unwrap();
        std::fs::rename(world.path("record/new"), &link).unwrap();
        saw("three");
        std::fs::write(&other, "four").unwrap();
        saw("four");
        assert!(lines.next().is_none(), "the tool wrote to it");
        assert!(child.wait().unwrap().success());
    }
}

/// A device node of our own below `/dev`, with a link to it as udev makes them.
struct Plug {
    folder: PathBuf,
    name: String,
}

impl Plug {
    fn new(test: &str, way: As) -> Self {
        let name = format!("hatchway-test-{}-{test}-{way:?}", std::process::id());
        let folder = Path::new("/dev").join(&name);
        let made = std::fs::create_dir_all(folder.join("by-id"));
        made.unwrap_or_else(|error| panic!("{}: {error}: run this test as root", folder.display()));
        Self { folder, name }
    }

    /// As the kernel and udev do: the node, its mode, then the link.
    fn plug(&self, node: &str, minor: u32) {
        let path = self.folder.join(node);
        let made = Command::new("mknod").arg(&path).args(["c", "1", &minor.to_string()]).status().unwrap();
        assert!(made.success(), "mknod is refused here: run this test as root of the host");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        symlink(format!("../{node}"), self.folder.join("by-id").join(&self.name)).unwrap();
    }

    fn unplug(&self, node: &str) {
        std::fs::remove_file(self.folder.join("by-id").join(&self.name)).unwrap();
        std::fs::remove_file(self.folder.join(node)).unwrap();
    }

    fn slot(&self, subsystem: &str) -> Slot {
        Slot {
            device: DeviceId::ById(self.name.clone()),
            subsystem: subsystem.to_owned(),
            at: at("/dev/vendor/ttyV0"),
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        #[allow(clippy::disallowed_methods, reason = "a folder of this test, below /dev")]
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn a_device_that_comes_back_is_there_again_under_its_name() {
    for way in ways() {
        let plug = Plug::new("back", way);
        let script = r#"
            say() { stat -c "$1 %t:%T" /dev/vendor/ttyV0; }
            say first
            until [ ! -e /dev/vendor/ttyV0 ]; do sleep 0.02; done; echo away
            until [ -c /dev/vendor/ttyV0 ]; do sleep 0.02; done; say again
            exec 3<>/dev/vendor/ttyV0 && echo opened"#;
        let mut world = World::new(way).script(script);
        world.spec.slots = vec![plug.slot("mem")];
        plug.plug("node7", 3);
        let mut child = world.start();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().map(Result::unwrap).unwrap_or_default();
        assert_eq!(next(), "first 1:3", "{way:?}");
        plug.unplug("node7");
        assert_eq!(next(), "away", "{way:?}");
        // Under another number, as after a real replug.
        plug.plug("node8", 5);
        assert_eq!(next(), "again 1:5", "{way:?}");
        assert_eq!(next(), "opened", "{way:?}");
        let ran = world.finish(child);
        assert_eq!(ran.record.notes.iter().filter(|note| note.contains("shown at")).count(), 2, "{ran:?}");
    }
}

#[test]
fn what_the_tool_puts_in_a_devices_place_does_not_stop_the_attendant() {
    // A FIFO waits for its other end when it is opened, a link leads elsewhere, a folder is no place for a node.
    for way in ways() {
        for (name, trap) in [("fifo", "mkfifo $0"), ("link", "ln -s /dev/null $0"), ("folder", "mkdir $0")] {
            let plug = Plug::new(&format!("trap-{name}"), way);
            let script = format!(
                "set -- /dev/vendor/ttyV0; trap_it() {{ {}; }}
                 until [ ! -e $1 ]; do sleep 0.02; done; trap_it 2>/dev/null; echo trapped
                 until [ -c $1 ] && [ ! -L $1 ]; do sleep 0.02; done; echo back",
                trap.replace("$0", "/dev/vendor/ttyV0")
            );
            let mut world = World::new(way).script(&script);
            world.spec.slots = vec![plug.slot("mem")];
            plug.plug("node7", 3);
            let mut child = world.start();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            std::thread::sleep(std::time::Duration::from_millis(200));
            plug.unplug("node7");
            assert_eq!(lines.next().unwrap().unwrap(), "trapped", "{way:?} {name}");
            plug.plug("node8", 5);
            assert_eq!(lines.next().unwrap().unwrap(), "back", "{way:?} {name}");
            assert_eq!(world.finish(child).code, 0, "{way:?} {name}");
        }
    }
}

#[test]
fn a_device_that_is_not_there_yet_appears_and_one_of_another_class_does_not() {
    for way in ways() {
        let plug = Plug::new("late", way);
        let script = "echo started; until [ -c /dev/vendor/ttyV0 ]; do sleep 0.02; done; echo there";
        let mut world = World::new(way).script(script);
        world.spec.slots = vec![plug.slot("mem")];
        let mut child = world.start();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "started");
        plug.plug("late", 3);
        assert_eq!(lines.next().unwrap().unwrap(), "there", "{way:?}");
        assert!(world.finish(child).code == 0);

        let mut world = World::new(way).script("ls /dev/vendor 2>&1");
        world.spec.slots = vec![plug.slot("tty")];
        let ran = world.run();
        assert!(ran.out.contains("No such file"), "{ran:?}");
        assert!(ran.record.notes.iter().any(|note| note.contains("class `mem`, not `tty`")), "{ran:?}");
    }
}

#[test]
fn allowed_addresses_answer_and_no_others() {
    for way in ways() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, other) = (open.local_addr().unwrap(), closed.local_addr().unwrap().port());
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{0}; echo ping >&3; read -r line <&3; echo \"$line\"; exec 3>&-
             (exec 3<>/dev/tcp/127.0.0.1/{other}) 2>&1 | cat
             (exec 3<>/dev/tcp/127.1.2.3/{0}) 2>&1 | cat",
            to.port()
        );
        let mut world = World::new(way).script(&script);
        world.spec.network = Network::Allow(vec![Endpoint::tcp(to)]);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = open.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(format!("pong for {line}").as_bytes()).unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            assert_eq!((line.as_str(), rest.as_str()), ("ping\n", ""), "the tool's end arrives");
        });
        let ran = world.run();
        server.join().unwrap();
        assert!(ran.out.starts_with("pong for ping\n"), "{way:?} {ran:?}");
        assert_eq!(ran.out.matches("Connection refused").count(), 4, "{way:?} {ran:?}");
        closed.set_nonblocking(true).unwrap();
        assert!(closed.accept().is_err(), "the other port was reached");
        assert!(TcpStream::connect(to).is_err(), "the relay does not outlive the unit");
    }
}

#[test]
fn allowed_datagrams_come_back_to_who_sent_them_and_others_go_nowhere() {
    for way in ways() {
        let (open, closed) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (to, other) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
        // Two clients at a time, on sockets that take nothing from any other address than that they sent to.
        let script = format!(
            "exec 3<>/dev/udp/127.0.0.1/{0} 4<>/dev/udp/127.0.0.1/{0}
             echo a >&3; read -t 30 -r first <&3; echo b >&4; read -t 30 -r second <&4
             echo c >&3; read -t 30 -r third <&3; echo \"$first $second $third\"
             echo lost >/dev/udp/127.0.0.1/{1}; true",
            to.port(),
            other.port()
        );
        let mut world = World::new(way).script(&script);
        world.spec.network = Network::Allow(vec![Endpoint::udp(to)]);
        let server = std::thread::spawn(move || {
            open.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
            let mut bytes = [0; 64];
            let froms: Vec<_> = (0..3)
                .map(|_| {
                    let (size, from) = open.recv_from(&mut bytes).unwrap();
                    // The shell reads byte by byte, and of a datagram the rest is lost.
                    for byte in [b"re:", &bytes[..size]].concat() {
                        open.send_to(&[byte], from).unwrap();
                    }
                    from
                })
                .collect();
            assert!(froms[0] == froms[2] && froms[0] != froms[1], "{froms:?}");
        });
        let ran = world.run();
        assert_eq!(ran.out, "re:a re:b re:c\n", "{way:?} {ran:?}");
        server.join().unwrap();
        closed.set_nonblocking(true).unwrap();
        assert!(closed.recv(&mut [0; 8]).is_err(), "the other port was reached");
        UdpSocket::bind(to).expect("nothing of the unit is left");
    }
}

#[test]
fn the_tools_own_loopback_is_not_the_hosts() {
    for way in ways() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}", host.local_addr().unwrap().port());
        let ran = World::new(way).script(&script).run();
        assert!(ran.err.contains("Connection refused"), "{way:?} {ran:?}");
    }
}

#[test]
fn an_interface_bears_the_name_and_the_address() {
    for way in ways() {
        // SIOCGIFHWADDR, what licence managers ask with.
        let script = r#"while read -r line; do echo "$line"; done </proc/net/dev
            perl -e 'socket(my $s, 2, 2, 0); my $r = pack("a16x24", "eth7"); ioctl($s, 0x8927, $r) or die $!;
                     print "mac=", unpack("H12", substr($r, 18, 6)), "\n";
                     ioctl($s, 0x8933, $r) or die $!; print "index=", unpack("x16l", $r), "\n"'
            for name in address type ifindex operstate; do echo "$name=$(cat /sys/class/net/eth7/$name)"; done
            ls /sys/class/net; touch /sys/class/net/x"#;
        let mut world = World::new(way).script(script);
        world.spec.interface = Some(Interface { name: "eth7".to_owned(), mac: [0, 0x1b, 0x21, 1, 2, 0xfe] });
        let ran = world.run();
        assert_eq!(ran.code, 1, "{way:?} {ran:?}");
        assert!(ran.err.contains("Read-only file system"), "{way:?} {ran:?}");
        let shown = "mac=001b210102fe\nindex=64\naddress=00:1b:21:01:02:fe\ntype=1\nifindex=64\noperstate=up\neth7\nlo\n";
        assert!(ran.out.ends_with(shown), "{way:?} {ran:?}");
        let names: Vec<&str> = ran
            .out
            .lines()
            .take_while(|line| !line.starts_with("mac="))
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert!(names.contains(&"eth7") && names.contains(&"lo"), "{way:?} {ran:?}");
        assert!(
            names.iter().all(|name| ["eth7", "lo"].contains(name) || name.contains([' ', '\t'])),
            "{ran:?}"
        );
    }
}

#[test]
fn a_socket_and_a_cookie_reach_the_tool_and_nobody_else() {
    for way in ways() {
        let script = "stat -c '%F' /tmp/.X11-unix/X7; stat -c '%a %u' /run/user/*/cookie; cat /run/user/*/cookie; \
                      ls -A /tmp/.X11-unix";
        let mut world = World::new(way).script(script);
        let _server = UnixListener::bind(world.path("share/socket")).unwrap();
        let uid = world.spec.identity.uid;
        world.spec.sockets = vec![BoundSocket {
            host: world.host("share/socket"),
            at: at("/tmp/.X11-unix/X7"),
            served: false,
        }];
        let cookie = at(&format!("/run/user/{uid}/cookie"));
        world.spec.secrets = vec![Secret { at: cookie, content: b"secret\n".to_vec() }];
        let ran = world.run();
        assert_eq!(ran.out, format!("socket\n400 {uid}\nsecret\nX7\n"), "{way:?} {ran:?}");
        let explained = hatchway_envs::sandbox::Explained(&world.plan()).to_string();
        assert!(!explained.contains("115, 101") && !explained.contains("secret"), "{explained}");
    }
}

#[test]
fn a_socket_is_never_bound_as_a_file() {
    for way in ways() {
        let mut world = World::new(way).script("true");
        let _server = UnixListener::bind(world.path("share/socket")).unwrap();
        world.spec.files = vec![hatchway_envs::sandbox::BoundFile {
            host: world.host("share/socket"),
            at: at("/etc/socket"),
        }];
        let ran = world.run();
        assert_eq!(ran.code, 125, "{way:?} {ran:?}");
        eventually("the record is there", || world.path("record/exit.json").exists());
    }
}

//! The plan is pure, so it is compared with what it was.
use super::*;
use crate::sandbox::spec::{BoundFile, Device, Share, StateDir, User};
use crate::sandbox::{Explained, Secret, explained_json};

fn host(path: &str) -> HostPath {
    HostPath::new(path).unwrap()
}

fn at(path: &str) -> InsidePath {
    InsidePath::new(path).unwrap()
}

fn facts(uid: u32) -> HostFacts {
    HostFacts {
        uid,
        gid: uid,
        overlay: true,
        term: Some("xterm".to_owned()),
        own: vec![host("/home/anna/.local/share/hatchway/store")],
        landlock: 7,
    }
}

fn spec(mode: Mode) -> Spec {
    let user = User::new("tool", 990, 991).unwrap();
    Spec::new("gclib", host("/var/lib/hatchway/store/trees/ab"), "/usr/bin/gcaps", user, mode)
}

fn rich() -> Spec {
    let mut spec = spec(Mode::Root { groups: vec![20] });
    spec.state = vec![StateDir { host: host("/var/lib/hatchway/state/gclib"), at: at("/var/lib/galil") }];
    spec.files =
        vec![BoundFile { host: host("/etc/hatchway/licences/g.dat"), at: at("/usr/lib/galil/g.dat") }];
    spec.devices = vec![Device { host: host("/dev/ttyS0"), at: at("/dev/ttyUSB0") }];
    spec.network = Network::Host;
    spec
}

#[test]
fn the_plan_is_what_it_was() {
    let root = plan(&rich(), &facts(0)).unwrap();
    let user = plan(&spec(Mode::User), &facts(1000)).unwrap();
    let now = format!("# root\n{}\n# user\n{}", Explained(&root), Explained(&user));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sandbox/plan/snapshot.txt");
    if std::env::var_os("HATCHWAY_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    // A changed plan is fine if it was meant: HATCHWAY_UPDATE_SNAPSHOTS=1 writes the file anew.
    assert_eq!(now, include_str!("snapshot.txt"));
}

#[test]
fn the_plan_as_json_names_each_operation_and_holds_no_secret() {
    let mut wish = rich();
    wish.secrets = vec![Secret { at: at("/run/cookie"), content: b"hidden".to_vec() }];
    let plan = plan(&wish, &facts(0)).unwrap();
    let json = explained_json(&plan);
    let operations = json["operations"].as_array().unwrap();
    assert_eq!(operations.len(), plan.ops.len());
    for (one, op) in operations.iter().zip(&plan.ops) {
        assert_eq!(one["text"], op.to_string());
        assert!(one["operation"].as_str().is_some_and(|name| !name.is_empty()), "{one}");
    }
    let of = |name: &str| operations.iter().find(|one| one["operation"] == name).unwrap();
    assert_eq!(of("unshare")["mount"], true);
    assert_eq!(of("make-slave").as_object().unwrap().len(), 2);
    let keys: Vec<&String> = of("secret").as_object().unwrap().keys().collect();
    assert_eq!(keys, ["at", "operation", "owner", "text"]);
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    let expected = "companions exit_file grace_ms health notes operations process ready schema services stop_signal unit";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
}

#[test]
fn the_same_wish_gives_the_same_plan_and_survives_json() {
    let one = plan(&rich(), &facts(0)).unwrap();
    assert_eq!(one, plan(&rich(), &facts(0)).unwrap());
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(one, serde_json::from_str::<Bootstrap>(&text).unwrap());
}

#[test]
fn nothing_that_gives_the_host_away_is_shown() {
    let refused = [
        "/",
        "/run",
        "/var",
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/hatchway/api.sock",
        "/proc/1",
        "/dev",
        "/sys",
        "/run/systemd/private",
        "/run/user",
        "/run/user/1000",
        "/run/user/1000/bus",
        "/run/user/1000/systemd/private",
        "/run/libvirt/libvirt-sock",
        "/run/lxd",
        "/run/snapd.socket",
        "/run/crio/crio.sock",
        "/var/lib/hatchway",
        "/var/lib/hatchway/store/objects",
        "/home/anna",
        "/home/anna/.local/share/hatchway/store/trees",
    ];
    for path in refused {
        let mut spec = spec(Mode::User);
        spec.shares = vec![Share { host: host(path), at: at("/mnt"), read_only: true }];
        assert!(matches!(plan(&spec, &facts(1000)), Err(Error::Refused { .. })), "{path}");
        spec.shares.clear();
        spec.files = vec![BoundFile { host: host(path), at: at("/etc/x") }];
        assert!(matches!(plan(&spec, &facts(1000)), Err(Error::Refused { .. })), "{path}");
    }
    for path in
        ["/home/anna/data", "/var/lib/hatchway/state/gclib", "/srv", "/run/user/1000/data", "/run/crionics"]
    {
        let mut spec = spec(Mode::User);
        spec.shares = vec![Share { host: host(path), at: at("/mnt"), read_only: true }];
        plan(&spec, &facts(1000)).unwrap();
    }
}

#[test]
fn what_is_not_acceptable_is_said() {
    let mut root = spec(Mode::Root { groups: vec![] });
    root.identity.uid = 0;
    assert!(plan(&root, &facts(0)).unwrap_err().hint().is_some());
    type Change = (&'static str, fn(&mut Spec));
    let change: [Change; 8] = [
        ("user name", |spec| spec.identity.name = "a:b\nroot".to_owned()),
        ("host name", |spec| spec.hostname = Some("a b".to_owned())),
        ("machine id", |spec| spec.machine_id = "short".to_owned()),
        ("program", |spec| spec.program.clear()),
        ("capability", |spec| spec.capabilities.push("CAP_SYS_ADMIN".to_owned())),
        ("variable", |spec| drop(spec.env.insert("A=B".to_owned(), String::new()))),
        ("device", |spec| spec.devices.push(Device { host: host("/etc/passwd"), at: at("/dev/x") })),
        ("path", |spec| spec.state.push(StateDir { host: host("/srv/x"), at: at("/proc/x") })),
    ];
    for (what, change) in change {
        let mut spec = spec(Mode::User);
        change(&mut spec);
        let error = plan(&spec, &facts(1000)).unwrap_err();
        assert!(matches!(&error, Error::Invalid { what: named, .. } if *named == what), "{what}: {error}");
    }
    assert!(plan(&spec(Mode::Root { groups: vec![] }), &facts(1000)).is_err());
}

#[test]
fn the_environment_is_small_and_the_recipe_s_choice_wins() {
    let mut spec = spec(Mode::User);
    spec.env.insert("LC_ALL".to_owned(), "de_DE.UTF-8".to_owned());
    let env: BTreeMap<_, _> = plan(&spec, &facts(1000)).unwrap().process.env.into_iter().collect();
    let names: Vec<_> = env.keys().map(String::as_str).collect();
    let expected = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "XDG_RUNTIME_DIR"];
    assert_eq!(names, expected);
    assert_eq!(env["LC_ALL"], "de_DE.UTF-8");
}

#[test]
fn namespaces_come_first_and_the_host_is_left_last() {
    for plan in [plan(&rich(), &facts(0)).unwrap(), plan(&spec(Mode::User), &facts(1000)).unwrap()] {
        assert!(matches!(plan.ops.first(), Some(Op::Unshare(_))));
        assert_eq!(plan.ops.last(), Some(&Op::LeaveHost));
        assert_eq!(plan.ops.iter().filter(|op| matches!(op, Op::Unshare(_) | Op::LeaveHost)).count(), 2);
    }
}

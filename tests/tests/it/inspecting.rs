//! `hatchway inspect` from outside: reports, exit codes, JSON that is what its schema says, differences.

use std::process::Command;

use hatchway_tests::bench::Bench;
use hatchway_tests::compile;
use hatchway_tests::package::Package;
use hatchway_tests::snapshot;
use hatchway_tests::tar::zip;

use super::{acme, hinted, needing};

/// The folder of the schemas that are part of the documentation.
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas");

/// Two releases of one vendor package, as a person would like to have them told apart.
fn releases() -> (Package, Package) {
    let old =
        needing(&[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.14"]), ("libssl.so.1.1", &["OPENSSL_1_1_0"])])
            .field("Depends", "libc6 (>= 2.14), libssl1.1")
            .script("postinst", "#!/bin/sh\nset -e\nldconfig\n")
            .file(
                "lib/udev/rules.d/60-acme.rules",
                "SUBSYSTEM==\"usb\", ATTR{idVendor}==\"1ab1\", MODE=\"0660\"\n",
            );
    let needs: [(&str, &[&str]); 2] =
        [("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34"]), ("libssl.so.3", &["OPENSSL_3.0.0"])];
    let new = Package::new("acme", "1.1")
        .program("usr/bin/acme", compile::program_needing(&needs))
        .field("Depends", "libc6 (>= 2.34), libssl3")
        .script("postinst", "#!/bin/sh\nset -e\nldconfig\nuseradd --system acme\n")
        .file(
            "lib/udev/rules.d/60-acme.rules",
            "SUBSYSTEM==\"usb\", ATTR{idVendor}==\"1ab1\", MODE=\"0666\"\n",
        )
        .file("lib/systemd/system/acmed.service", "[Service]\nExecStart=/usr/bin/acme -d\nUser=acme\n");
    (old, new)
}

#[test]
fn what_changed_between_two_releases() {
    let bench = Bench::new();
    let (old, new) = releases();
    bench.put("acme_1.0.deb", old.deb());
    bench.put("acme_1.1.deb", new.deb());
    snapshot!(
        bench.hatchway(&["inspect", "--diff", "acme_1.0.deb", "acme_1.1.deb"]),
        r#"
exit 1
--- stdout
- acme_1.0.deb  [n] kB, sha256 [sha256]…
+ acme_1.1.deb  [n] kB, sha256 [sha256]…

Package
  ~ version  1.0 -> 1.1

Libraries it needs from outside
  - libssl.so.1.1
  + libssl.so.3

Symbol versions it wants
  ~ libc.so.6 GLIBC        raised: GLIBC_2.14 -> GLIBC_2.34
  - libssl.so.1.1 OPENSSL  OPENSSL_1_1_0
  + libssl.so.3 OPENSSL    OPENSSL_3.0.0

Packages it declares
  ~ Depends libc6      (>= 2.14) -> (>= 2.34)
  - Depends libssl1.1
  + Depends libssl3

Scripts of the package
  ~ postinst  calls ldconfig -> calls ldconfig, useradd
      +useradd --system acme

For the system
  + /lib/systemd/system/acmed.service       runs /usr/bin/acme -d as acme
  ~ /lib/udev/rules.d/60-acme.rules 1ab1:*  usb 0660 -> usb 0666
  + useradd --system acme                   account

Verdict
  still rung fhs
"#
    );
    let same = bench.hatchway(&["inspect", "--diff", "acme_1.0.deb", "acme_1.0.deb"]).ok();
    assert!(same.stdout.contains("The same file."), "{same}");
    let json = bench.hatchway(&["inspect", "--json", "--diff", "acme_1.0.deb", "acme_1.1.deb"]).json();
    let raised = json["diff"]["changes"].as_array().unwrap().iter().find(|c| c["kind"] == "raised").unwrap();
    assert_eq!((&raised["old"], &raised["new"]), (&"GLIBC_2.14".into(), &"GLIBC_2.34".into()));
}

#[test]
fn an_archive_of_packages_is_judged_by_what_is_inside() {
    let bench = Bench::new();
    let inner = acme().script("postinst", "#!/bin/sh\nmodprobe acme\n").deb();
    let readme = b"read me".as_slice();
    bench.put("download.zip", zip(&[("docs/README", readme), ("packages/acme.deb", &inner)]));
    let outcome = bench.hatchway(&["inspect", "download.zip"]).ok();
    for says in [
        "/packages/acme.deb  deb  ",
        "== Inside /packages/acme.deb ==",
        "acme 1.0 (amd64)",
        "run its /packages/acme.deb!postinst on the host (modprobe)",
    ] {
        assert!(outcome.stdout.contains(says), "not said: {says}\n{outcome}");
    }
    let long = outcome.stdout.lines().filter(|line| line.chars().count() > 80).collect::<Vec<_>>();
    assert!(long.iter().all(|line| !line.trim().contains(' ')), "wider than 80 columns: {long:#?}");
}

#[test]
fn who_needs_what_over_a_root_of_ones_own() {
    let bench = Bench::new();
    bench.put("acme.deb", releases().1.deb());
    std::fs::create_dir_all(bench.path("work/root/lib")).unwrap();
    bench.put("root/lib/libc.so.6", compile::library("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34"]));
    bench.put("root/lib/libssl.so.3", compile::library("libssl.so.3", &["OPENSSL_1_1_0"]));
    let root = ["--root", "root", "acme.deb"];
    let with = |option: &'static [&'static str]| bench.hatchway(&[&["inspect"], option, &root[..]].concat());
    snapshot!(
        with(&["--tree"]),
        r#"
exit 1
--- stdout
/usr/bin/acme
  libc.so.6 => /lib/libc.so.6 (default directory)
  libssl.so.3 => /lib/libssl.so.3 (default directory)
      error: version OPENSSL_3.0.0 not found in /lib/libssl.so.3
"#
    );
    snapshot!(
        with(&["--why", "libssl.so.3"]),
        r#"
exit 1
--- stdout
libssl.so.3
  found: /lib/libssl.so.3
    offers libssl.so.3 OPENSSL_1_1_0
  wanted by /usr/bin/acme
    versions OPENSSL_3.0.0
    not at /usr/local/lib/libssl.so.3 (ld.so.conf)
    not at /usr/local/lib/x86_64-linux-gnu/libssl.so.3 (ld.so.conf)
    not at /lib/x86_64-linux-gnu/libssl.so.3 (default directory)
    not at /usr/lib/x86_64-linux-gnu/libssl.so.3 (default directory)
    error: version OPENSSL_3.0.0 not found in /lib/libssl.so.3
    gets /lib/libssl.so.3 (default directory)
"#
    );
    assert_eq!(with(&["--why", "libz.so.1"]).code, Some(1));
    let report = with(&[]);
    assert_eq!(report.code, Some(1), "{report}");
    assert!(
        report
            .stdout
            .contains("What does not load over root\n  libssl.so.3: version OPENSSL_3.0.0 not found")
    );
    let json = with(&["--json", "--tree"]).json();
    assert_eq!(json["trees"][0]["lines"][0]["name"], "/usr/bin/acme");
    bench.put("root/lib/libssl.so.3", compile::library("libssl.so.3", &["OPENSSL_3.0.0"]));
    assert!(with(&[]).ok().stdout.contains("Over root every library is found"));
    assert_eq!(with(&["--tree"]).code, Some(0));
    let unknown = with(&["--tree=/usr/bin/other"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(unknown.stderr.contains("there are /usr/bin/acme"), "{unknown}");
}

#[test]
fn what_cannot_be_run_exits_with_1_and_what_cannot_be_read_with_2() {
    let bench = Bench::new();
    bench.put("module.deb", acme().file("usr/src/acme-1.0/dkms.conf", "PACKAGE_NAME=acme\n").deb());
    let outcome = bench.hatchway(&["inspect", "module.deb"]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    for says in ["rung vm, once the recipe says how", "[dkms]", "would move to fhs if it could do without"] {
        assert!(outcome.stdout.contains(says), "not said: {says}\n{outcome}");
    }
    bench.put("cut.deb", &acme().deb()[..500]);
    assert_eq!(bench.hatchway(&["inspect", "cut.deb"]).code, Some(2));
    assert_eq!(bench.hatchway(&["inspect", "--diff", "cut.deb", "module.deb"]).code, Some(2));
}

#[test]
fn facts_do_not_depend_on_what_was_inspected_before() {
    let bench = Bench::new();
    let script = b"#!/bin/sh\nexit 0\n".as_slice();
    for name in ["first", "second", "first"] {
        bench.put(name, script);
        let facts = bench.hatchway(&["inspect", "--json", name]).json();
        assert_eq!(facts["facts"]["programs"][0]["path"], format!("/{name}"), "{facts}");
    }
    let device = bench.hatchway(&["inspect", "/dev/zero"]);
    assert_eq!(device.code, Some(2), "{device}");
    assert!(device.stderr.contains("neither a file nor a folder"), "{device}");
}

/// An independent reader of JSON Schema judges what the program prints.
#[test]
fn the_json_is_what_its_schema_says() {
    let bench = Bench::new();
    let (old, new) = releases();
    bench.put("old.deb", old.deb());
    bench.put("new.deb", new.deb());
    let inner = acme().deb();
    bench.put("download.zip", zip(&[("acme.deb", &inner)]));
    let cases: [(&str, &[&str]); 5] = [
        ("inspect-tree.schema.json", &["inspect", "--json", "--tree", "new.deb"]),
        ("inspect-why.schema.json", &["inspect", "--json", "--why", "libc.so.6", "new.deb"]),
        ("inspect.schema.json", &["inspect", "--json", "new.deb"]),
        ("inspect.schema.json", &["inspect", "--json", "download.zip"]),
        ("inspect-diff.schema.json", &["inspect", "--json", "--diff", "old.deb", "new.deb"]),
    ];
    for (schema, arguments) in cases {
        let printed = bench.hatchway(arguments).stdout;
        let file = bench.put("printed.json", &printed);
        let check = "import json, sys, jsonschema\n\
            schema = json.load(open(sys.argv[1]))\n\
            jsonschema.Draft202012Validator.check_schema(schema)\n\
            jsonschema.Draft202012Validator(schema).validate(json.load(open(sys.argv[2])))\n";
        let mut run = Command::new("/usr/bin/python3");
        run.args(["-c", check]).arg(format!("{SCHEMAS}/{schema}")).arg(&file);
        let output = run.output().expect("python3 is needed (Debian: python3-jsonschema)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{schema}: {said} (Debian: python3-jsonschema)");
        // A schema that allows anything would prove nothing.
        let broken = printed.replace("\"schema\": ", "\"schema\": \"x\" , \"was\": ");
        let file = bench.put("broken.json", broken);
        let mut run = Command::new("/usr/bin/python3");
        run.args(["-c", check]).arg(format!("{SCHEMAS}/{schema}")).arg(&file);
        assert!(!run.output().unwrap().status.success(), "{schema} accepts anything");
    }
}

fn says(bench: &Bench, file: &str, wanted: &[&str]) {
    let outcome = bench.hatchway(&["inspect", file]);
    // What a row says is wrapped where it is long.
    let said = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in wanted {
        assert!(said.contains(words), "{file} does not say: {words}\n{outcome}");
    }
}

#[test]
fn a_driver_description_alone_is_one() {
    let bench = Bench::new();
    let text = "[Version]\r\nSignature=\"$WINDOWS NT$\"\r\nClass=Ports\r\nProvider=Acme\r\n[Manufacturer]\r\nAcme=Models\r\n\
        [Models]\r\n\"Acme scope\"=Install, USB\\VID_1AB1&PID_04CE\r\n[Install.Services]\r\n\
        AddService=acmescope,2,Service\r\n[Service]\r\nServiceBinary=%12%\\acme.sys\r\n";
    bench.put("acme.INF", text);
    says(&bench, "acme.INF", &["is a Windows driver: it needs a Windows kernel", "USB\\VID_1AB1&PID_04CE"]);
    bench.put("notes.txt", text);
    assert_eq!(bench.hatchway(&["inspect", "notes.txt"]).code, Some(2));
}

#[test]
fn an_installer_script_needs_no_interpreter_line_to_be_read() {
    let bench = Bench::new();
    let script = b"set -e\ncp -r acme /opt\ninsmod /opt/acme/acme.ko\n".as_slice();
    let library = compile::library("libacme.so.1", &[]);
    bench.put("acme.zip", zip(&[("install.sh", script), ("acme/libacme.so.1", &library)]));
    says(&bench, "acme.zip", &["install.sh", "insmod", "/opt/acme/acme.ko"]);
    // What is no text is no script, whatever its name says.
    bench.put("other.zip", zip(&[("install.sh", b"\0\x01insmod".as_slice()), ("libacme.so.1", &library)]));
    let other = bench.hatchway(&["inspect", "--json", "other.zip"]).json();
    assert_eq!(other["facts"]["scripts"], serde_json::json!([]));
}

#[test]
fn a_wheel_says_which_python_it_is_for() {
    let bench = Bench::new();
    let library = compile::library("libacme.so.1", &[]);
    let metadata = "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\nRequires-Python: >=3.9\n";
    let wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_17_x86_64\n";
    let files = [
        ("acme/_native.cpython-311-x86_64-linux-gnu.so", library.as_slice()),
        ("acme-1.0.dist-info/METADATA", metadata.as_bytes()),
        ("acme-1.0.dist-info/WHEEL", wheel.as_bytes()),
    ];
    let name = "acme-1.0-cp311-cp311-manylinux_2_17_x86_64.whl";
    bench.put(name, zip(&files));
    says(&bench, name, &["cp311-cp311-manylinux_2_17_x86_64", ">=3.9"]);
}

#[test]
fn licence_servers_ports_and_device_rules_are_told() {
    let bench = Bench::new();
    let source = "const char *a = \"27000@licserver\"; const char *b = \"ACME_LICENSE_FILE\"; \
        const char *c = \"opc.tcp://scope.local:4840\"; int main(void) { return !a[0] + !b[0] + !c[0]; }";
    let package = Package::new("acme", "1.0").program("opt/acme/scope", compile::program(source)).file(
        "lib/udev/rules.d/60-acme.rules",
        "KERNEL==\"ttyACM*\", ATTRS{idVendor}==\"1ab1\", SYMLINK+=\"scope\", RUN+=\"/opt/acme/up\", MODE=\"0666\"\n",
    );
    bench.put("acme.deb", package.deb());
    let wanted = [
        "FlexLM",
        "27000@licserver",
        "opc.tcp://scope.local:4840",
        "ttyACM*",
        "1ab1",
        "scope",
        "/opt/acme/up",
    ];
    says(&bench, "acme.deb", &wanted);
}

#[test]
fn a_plan_says_how_a_file_and_a_recipe_would_run() {
    let bench = Bench::new();
    bench.put("acme.deb", acme().script("postinst", "#!/bin/sh\nmodprobe acme\n").deb());
    snapshot!(
        bench.hatchway(&["plan", "acme.deb"]),
        r#"
exit 0
--- stdout
acme.deb
  rung fhs
  because nothing in it asks for more than namespaces over a tree of pinned
      packages [default]
  would move up to container if it had several services that an init system
      starts, or a helper that changes its user id
  would move up to vm if it had kernel modules that are built on the machine, or
      a kernel module of its own, or a Windows driver

Hatchway will not
  run its postinst on the host (modprobe)

What each rung would cost

fhs (as planned)
  starts in 10 ms
  latency: none

container
  starts in 200 to 500 ms
  latency: none
  without devices that come and go (USB)
  without NVIDIA's driver for the GPU
  without UDP in address lists (`network = { allow = ["udp:…"] }`); TCP is there
  without changes of the host's `/etc/resolv.conf` while it runs

vm
  starts in two to eight seconds in software; under KVM nobody has measured it
  latency: streams pass QEMU; without KVM programs run at a tenth of the speed
      or less
  without the GPU
  without USB and every other device of this machine but serial lines
  without displays, sound and D-Bus of this machine
  without shared folders (`--share`)
  without UDP in address lists (`network = { allow = ["udp:…"] }`); TCP is there
  without servers of its own that others reach
  without changes of a bound file (`[[file]]`) while it runs
  without FIFOs, sockets, hard links and extended attributes in state that moves
      to another rung
"#
    );
    drop(bench.hatchway(&["new", "-q", "acme.deb"]).ok());
    // The recipe's wish comes before the evidence, and is named.
    let recipe = bench.path("work/recipes/acme/recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap();
    assert!(text.contains("\n[run]\n"), "{text}");
    std::fs::write(&recipe, text.replace("\n[run]\n", "\n[run]\nrung = \"container\"\n")).unwrap();
    let said = bench.hatchway(&["plan", "acme"]).ok().stdout;
    let head = "acme\n  its recipe asks for the container rung\n  rung container\n  \
                because the recipe asks for the container rung; the evidence alone says fhs\n      [recipe]\n\nHatchway will not\n";
    assert!(said.starts_with(head), "{said}");
    // The table is the one of `inspect`.
    let table = bench.hatchway(&["inspect", "--rungs", "acme.deb"]).ok().stdout;
    let plain = |text: &str| text.replace(" (as planned)", "");
    assert!(plain(&said).ends_with(&plain(&table)), "{said}\n{table}");
    let json = bench.hatchway(&["plan", "--json", "acme"]).ok().json();
    assert_eq!((&json["wish"], &json["plan"]["rung"]), (&"container".into(), &"container".into()));
    assert_eq!(json["costs"].as_array().map(Vec::len), Some(3));
    // What this version has not is an answer, and no failure.
    std::fs::write(&recipe, text.replace("\n[run]\n", "\n[run]\nrung = \"native\"\n")).unwrap();
    let refused = bench.hatchway(&["plan", "acme"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stdout.contains("rung native, which is not possible here"), "{refused}");
    // An artifact that is gone says where it was looked for.
    std::fs::write(&recipe, text.replace("sha256 = \"", "sha256 = \"0123")).unwrap();
    assert_eq!(bench.hatchway(&["plan", "acme"]).code, Some(2));
    hinted(&bench.hatchway(&["plan", "nothing"]), "nothing");
}

#[test]
fn a_plan_of_several_artifacts_has_the_reasons_of_each() {
    let bench = Bench::new();
    bench.put("acme.deb", acme().deb());
    bench.put(
        "extra.deb",
        Package::new("extra", "1.0").script("postinst", "#!/bin/sh\nmodprobe acme\n").deb(),
    );
    drop(bench.hatchway(&["new", "-q", "acme.deb"]).ok());
    drop(bench.hatchway(&["new", "-q", "extra.deb"]).ok());
    let artifact = |name: &str| {
        let text = std::fs::read_to_string(bench.path(&format!("work/recipes/{name}/recipe.toml"))).unwrap();
        let at = text.find("[[artifact]]").unwrap();
        let end = text[at + 1..].find("\n[").map_or(text.len(), |end| at + 1 + end);
        (text[..end].to_owned(), text[at..end].to_owned(), text[end..].to_owned())
    };
    let ((head, _, rest), (_, extra, _)) = (artifact("acme"), artifact("extra"));
    std::fs::write(bench.path("work/recipes/acme/recipe.toml"), format!("{head}\n{extra}\n{rest}")).unwrap();
    let said = bench.hatchway(&["plan", "acme"]).ok().stdout;
    assert!(said.starts_with("acme\n  its recipe leaves the rung to the evidence\n  rung fhs\n"), "{said}");
    assert!(
        said.contains("Hatchway will not\n") && said.contains("postinst on the host (modprobe)"),
        "{said}"
    );
}

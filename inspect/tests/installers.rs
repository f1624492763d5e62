//! Windows installer packages, with `wixl`, `msiextract` and `msiinfo` as oracles.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use hatchway_inspect::archive::{self, Format, Limits};
use hatchway_inspect::{Error, PackageKind, inspect};
use proptest::prelude::*;

const WXS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
  <Product Id="*" Name="Acme Scope" Language="1033" Version="1.2.3" Manufacturer="Acme Instruments"
           UpgradeCode="12345678-1234-1234-1234-111111111111">
    <Package InstallerVersion="200" Compressed="yes" InstallScope="perMachine"/>
    <Media Id="1" Cabinet="acme.cab" EmbedCab="EMBED"/>
    <Directory Id="TARGETDIR" Name="SourceDir">
      <Directory Id="ProgramFilesFolder">
        <Directory Id="INSTALLDIR" Name="Acme Scope">
          <Component Id="Main" Guid="12345678-1234-1234-1234-222222222222">
            <File Id="fnumbers" Name="numbers and so on.txt" Source="numbers" KeyPath="yes"/>
            <File Id="fdaemon" Name="daemon.exe" Source="daemon.exe"/>
            <ServiceInstall Id="svc" Type="ownProcess" Name="AcmeDaemon" DisplayName="Acme Daemon" Start="auto" ErrorControl="normal"/>
          </Component>
          <Directory Id="SUBDIR" Name="firmware">
            <Component Id="Sub" Guid="12345678-1234-1234-1234-333333333333">
              <File Id="fnoise" Name="noise.bin" Source="noise" KeyPath="yes"/>
            </Component>
          </Directory>
        </Directory>
      </Directory>
    </Directory>
    <Feature Id="Complete" Level="1"><ComponentRef Id="Main"/><ComponentRef Id="Sub"/></Feature>
    <CustomAction Id="RunIt" FileKey="fdaemon" ExeCommand="--install" Execute="deferred" Impersonate="no"/>
    <InstallExecuteSequence><Custom Action="RunIt" After="InstallFiles"/></InstallExecuteSequence>
  </Product>
</Wix>
"#;

fn run(package: &str, command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (Debian: apt-get install {package})");
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn build(folder: &Path, embed: &str) -> PathBuf {
    let numbers: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    let noise: Vec<u8> = (0..70_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    common::write(folder, "numbers", numbers.as_bytes());
    common::write(folder, "noise", &noise);
    common::write(folder, "daemon.exe", &common::pe(3, false, &["KERNEL32.dll"]));
    common::write(folder, "acme.wxs", WXS.replace("EMBED", embed).as_bytes());
    run("wixl", Command::new("wixl").current_dir(folder).args(["-o", "acme.msi", "acme.wxs"]));
    folder.join("acme.msi")
}

#[test]
fn files_as_msiextract_unpacks_them() {
    let scratch = tempfile::tempdir().unwrap();
    let path = build(scratch.path(), "yes");
    assert_eq!(archive::detect(&path).unwrap(), Format::Msi);
    let ours: BTreeMap<String, Vec<u8>> = common::walk(&path)
        .unwrap()
        .into_iter()
        .map(|(_, entry, content)| (entry.path.to_string(), content))
        .collect();
    let listed: BTreeSet<String> =
        run("msitools", Command::new("msiextract").arg("-l").arg(&path)).lines().map(str::to_owned).collect();
    assert_eq!(ours.keys().cloned().collect::<BTreeSet<_>>(), listed);
    assert!(listed.contains("Program Files/Acme Scope/firmware/noise.bin"), "{listed:?}");
    let unpacked = scratch.path().join("unpacked");
    run("msitools", Command::new("msiextract").arg("-C").arg(&unpacked).arg(&path));
    for (name, content) in &ours {
        assert_eq!(&std::fs::read(unpacked.join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn facts_as_the_tables_say_them() {
    let scratch = tempfile::tempdir().unwrap();
    let path = build(scratch.path(), "yes");
    let facts = inspect(&path).unwrap();
    let package = facts.package.unwrap();
    assert_eq!(
        (package.kind, package.name.as_str(), package.version.as_str()),
        (PackageKind::Msi, "Acme Scope", "1.2.3")
    );
    assert_eq!(package.vendor.as_deref(), Some("Acme Instruments"));
    let summary = run("msitools", Command::new("msiinfo").arg("suminfo").arg(&path));
    let template = summary.lines().find_map(|line| line.strip_prefix("Template: ")).unwrap();
    assert_eq!(package.architecture.as_deref(), template.split(';').next());
    let row = |table: &str| run("msitools", Command::new("msiinfo").arg("export").arg(&path).arg(table));
    let action = row("CustomAction");
    let action: Vec<&str> = action.lines().nth(3).unwrap().split('\t').collect();
    let scripts: Vec<(&str, &str)> =
        facts.scripts.iter().map(|script| (script.name.as_str(), script.text.as_str())).collect();
    let expected = format!(
        "Type: {}\nSource: {}\nTarget: {}\nFile: Program Files/Acme Scope/daemon.exe\n",
        action[1], action[2], action[3]
    );
    assert_eq!(
        scripts,
        [
            ("custom-action RunIt", expected.as_str()),
            (
                "service AcmeDaemon",
                "DisplayName: Acme Daemon\nServiceType: 16\nStartType: 2\nComponent_: Main\nFile: Program Files/Acme Scope/numbers and so on.txt\n"
            ),
        ]
    );
    assert!(facts.pe.iter().any(|pe| pe.path == "/Program Files/Acme Scope/daemon.exe"), "{:?}", facts.pe);
}

#[test]
fn files_beside_it_are_said_to_be_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = build(scratch.path(), "no");
    let error = common::walk(&path).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("acme.cab")), "{error}");
    // What the tables say is known all the same.
    let facts = inspect(&path).unwrap();
    assert_eq!(facts.package.unwrap().name, "Acme Scope");
    assert_eq!(facts.scripts.len(), 2);
    assert!(
        facts.omitted.iter().any(|one| one.what == "files" && one.reason.contains("acme.cab")),
        "{:?}",
        facts.omitted
    );
}

#[test]
fn damage_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = std::fs::read(build(scratch.path(), "yes")).unwrap();
    for length in (9..whole.len() / 2).step_by(whole.len() / 150) {
        let path = common::write(scratch.path(), "cut.msi", &whole[..length]);
        assert!(inspect(&path).is_err(), "{length} of {}", whole.len());
    }
    // A compound file without tables.
    let mut other = whole.clone();
    while let Some(at) = other.windows(4).position(|window| window == [0x40, 0x48, 0x3f, 0x3f]) {
        other[at] = 0x41;
    }
    let path = common::write(scratch.path(), "other.doc", &other);
    assert!(
        matches!(inspect(&path), Err(Error::Unsupported { what, .. }) if what.contains("no installer database"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packages_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        head in any::<bool>(),
    ) {
        static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let sample = SAMPLE.get_or_init(|| {
            let scratch = tempfile::tempdir().unwrap();
            std::fs::read(build(scratch.path(), "yes")).unwrap()
        });
        let mut bytes = sample.clone();
        for (at, value, high) in flips {
            let at = at.index(if head { 4096 } else { bytes.len() });
            bytes[at] = if high { 0xff } else { value };
        }
        let _facts = hatchway_inspect::inspect_bytes(Path::new("x"), &bytes, &Limits::default());
    }
}

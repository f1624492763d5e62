//! What an artifact would do to the system it is installed on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A maintainer script, a scriptlet, a package's `triggers`, or a script by which the artifact is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptFacts {
    /// Of a Debian package `preinst`, `postinst`, `prerm`, `postrm`, `config` or `triggers`; of an RPM package `pre`, `post`,
    /// `preun`, `postun`, `pretrans`, `posttrans`, `verify` or a trigger (`triggerin bash`). Of an installer the path of its
    /// script: `/install.sh`.
    pub name: String,
    /// The line after `#!`, or what the package names; `None` for `triggers` and for programs.
    pub interpreter: Option<String>,
    /// SHA-256 of the whole script; of one that something is appended to, up to there.
    pub sha256: String,
    /// Lines.
    pub lines: usize,
    /// Commands of note it calls, as far as reading (not running) it tells, sorted.
    pub calls: Vec<String>,
    /// The same commands with their arguments, in the order of the script, at most 200.
    pub actions: Vec<ScriptAction>,
    /// Files and folders it makes or changes, by redirection or as the destination of a command, sorted: `/etc/acme.conf`.
    pub writes: Vec<String>,
    /// Files and folders it removes, sorted.
    pub removes: Vec<String>,
    /// The script, cut after 64 KiB; empty if it is a program.
    pub text: String,
}

/// One command a script calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptAction {
    /// The line of the script, from 1.
    pub line: usize,
    /// The command's name without its directory.
    pub command: String,
    /// The command with its arguments as they stand there, on one line, at most 200 characters.
    pub text: String,
}

/// What an artifact wants from the system around it. Every list is sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemFacts {
    /// systemd units and drop-ins.
    pub systemd_units: Vec<SystemdUnit>,
    /// Scripts in `/etc/init.d`.
    pub init_scripts: Vec<String>,
    /// udev rules.
    pub udev_rules: Vec<UdevRules>,
    /// `/etc/ld.so.conf.d` files.
    pub ld_so_conf: Vec<LdSoConf>,
    /// Directories with libraries for better processors: `/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3`.
    pub hwcaps: Vec<String>,
    /// `dkms.conf` files: kernel modules that are built on the machine.
    pub dkms: Vec<String>,
    /// Files that load or configure kernel modules (`modules-load.d`, `modprobe.d`).
    pub module_configuration: Vec<String>,
    /// The package's configuration files, as it declares them.
    pub conffiles: Vec<String>,
    /// cron tables and scripts.
    pub cron: Vec<String>,
    /// D-Bus services and policies.
    pub dbus_services: Vec<String>,
    /// Files that give rights: `sudoers.d`, polkit, PAM, `limits.d`.
    pub privileges: Vec<String>,
    /// Lines of `sysusers.d` files: accounts that are made at installation.
    pub accounts: Vec<String>,
    /// Names handed to `update-alternatives` by a script: `link name path`.
    pub alternatives: Vec<String>,
    /// Files that a script diverts: `dpkg-divert`.
    pub diversions: Vec<String>,
    /// Windows driver descriptions (`.inf`).
    pub windows_drivers: Vec<WindowsDriver>,
    /// Rights that scripts give to files, and kernel modules that they load or build, at installation.
    pub effects: Vec<ScriptEffect>,
}

/// What a script that runs at installation does beyond the artifact's own files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptEffect {
    /// What kind of effect.
    pub kind: EffectKind,
    /// The script, as in [`ScriptFacts::name`].
    pub script: String,
    /// The file, or the kernel module, as the script names it.
    pub what: String,
    /// The mode or the capabilities it is given: `4755`, `u+s`, `cap_net_raw+ep`.
    pub detail: String,
}

/// Kinds of [`ScriptEffect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EffectKind {
    /// A file is made to run as its owner (`chmod u+s`).
    Setuid,
    /// A file is made to run with its group, or a folder to pass its group on.
    Setgid,
    /// A file is given capabilities (`setcap`).
    Capabilities,
    /// A kernel module is loaded from a file (`insmod`).
    LoadsModule,
    /// A kernel module is loaded by its name, from wherever the kernel's modules are (`modprobe`).
    RequestsModule,
    /// A kernel module is built on the machine (`dkms`).
    BuildsModule,
}

/// A systemd unit or drop-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemdUnit {
    /// The file.
    pub path: String,
    /// The commands of `ExecStart`, then those of `ExecStartPre` and the like, each in their order, at most 32.
    pub exec: Vec<String>,
    /// `Type`.
    pub service_type: Option<String>,
    /// `User`; a service without one runs as root.
    pub user: Option<String>,
    /// `WantedBy` and `RequiredBy`.
    pub wanted_by: Vec<String>,
    /// `ListenStream`, `ListenDatagram` and the like of a socket.
    pub listens: Vec<String>,
    /// It is a link to another unit, or to `/dev/null`, which masks it.
    pub link: Option<String>,
}

/// A file of udev rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdevRules {
    /// The file.
    pub path: String,
    /// Its rules, at most 512.
    pub rules: Vec<UdevRule>,
}

/// One udev rule that does something. `GOTO` and `LABEL` lines are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdevRule {
    /// The line it begins on, from 1.
    pub line: usize,
    /// `SUBSYSTEM` or `SUBSYSTEMS`.
    pub subsystem: Option<String>,
    /// `KERNEL` or `KERNELS`.
    pub kernel: Option<String>,
    /// `ATTRS{idVendor}` in lower case.
    pub vendor_id: Option<String>,
    /// `ATTRS{idProduct}` in lower case.
    pub product_id: Option<String>,
    /// `MODE`.
    pub mode: Option<String>,
    /// `GROUP`.
    pub group: Option<String>,
    /// `OWNER`.
    pub owner: Option<String>,
    /// `SYMLINK`, the names in order.
    pub symlinks: Vec<String>,
    /// `TAG`.
    pub tags: Vec<String>,
    /// `RUN` and `PROGRAM`.
    pub runs: Vec<String>,
}

/// One file below `/etc/ld.so.conf.d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LdSoConf {
    /// The file.
    pub path: String,
    /// The directories it names, in order.
    pub directories: Vec<String>,
}

/// A Windows driver description.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowsDriver {
    /// The file.
    pub path: String,
    /// `Class` of its `Version` section.
    pub class: Option<String>,
    /// `Provider`, with names of its `Strings` section put in.
    pub provider: Option<String>,
    /// `DriverVer`.
    pub version: Option<String>,
    /// `CatalogFile`, which holds the signature.
    pub catalog: Option<String>,
    /// Hardware ids of its models, sorted, at most 256: `USB\VID_1AB1&PID_0588`.
    pub hardware_ids: Vec<String>,
    /// Kernel services it installs (`AddService`), sorted.
    pub services: Vec<String>,
}

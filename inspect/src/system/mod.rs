//! Files by which a package reaches into the system around it, recognised by where they are.

mod effects;
mod hwcaps;
mod registered;
mod udev;
mod units;

use crate::{LdSoConf, SystemFacts, SystemdUnit, inf};

pub(crate) use registered::from_scripts;

/// What a file at a path is for, if that can be told from the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    SystemdUnit,
    InitScript,
    UdevRule,
    LdSoConf,
    Dkms,
    ModuleConfiguration,
    Privilege,
    Accounts,
    Cron,
    Dbus,
    WindowsDriver,
}

const UNITS: [&str; 11] = [
    ".service",
    ".socket",
    ".timer",
    ".target",
    ".path",
    ".mount",
    ".automount",
    ".slice",
    ".scope",
    ".swap",
    ".device",
];

/// Classifies the path of a file or link, given without its leading slash.
pub(crate) fn role(path: &str) -> Option<Role> {
    // Before usr-merge, packages put into /lib what they now put into /usr/lib.
    let below = path.strip_prefix("usr/local/").or_else(|| path.strip_prefix("usr/")).unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or_default();
    if name == "dkms.conf" {
        return Some(Role::Dkms);
    }
    if name.to_ascii_lowercase().ends_with(".inf") && !name.eq_ignore_ascii_case("autorun.inf") {
        return Some(Role::WindowsDriver);
    }
    located(path, below, name)
}

fn located(path: &str, below: &str, name: &str) -> Option<Role> {
    let in_any = |directories: &[&str]| directories.iter().any(|directory| below.starts_with(directory));
    if in_any(&["lib/systemd/system/", "lib/systemd/user/", "etc/systemd/system/", "etc/systemd/user/"]) {
        let unit = UNITS.iter().any(|ending| name.ends_with(ending)) || path.contains(".d/");
        return unit.then_some(Role::SystemdUnit);
    }
    // `rc.d` is where RPM systems keep them.
    if in_any(&["etc/init.d/", "etc/rc.d/init.d/"]) && name != "README" {
        return Some(Role::InitScript);
    }
    if in_any(&["lib/udev/rules.d/", "etc/udev/rules.d/"]) && name.ends_with(".rules") {
        return Some(Role::UdevRule);
    }
    if path.starts_with("etc/ld.so.conf.d/") && name.ends_with(".conf") {
        return Some(Role::LdSoConf);
    }
    if matches!(path, "etc/crontab" | "etc/anacrontab") || in_any(&["etc/cron.", "var/spool/cron/"]) {
        return Some(Role::Cron);
    }
    let modules = [
        "lib/modules-load.d/",
        "etc/modules-load.d/",
        "lib/modprobe.d/",
        "etc/modprobe.d/",
        "lib/depmod.d/",
        "etc/depmod.d/",
    ];
    if in_any(&modules) || path == "etc/modules" {
        return Some(Role::ModuleConfiguration);
    }
    let privileges = [
        "etc/sudoers.d/",
        "share/polkit-1/",
        "etc/polkit-1/",
        "etc/pam.d/",
        "lib/pam.d/",
        "share/pam-configs/",
        "etc/security/limits.d/",
        "etc/apparmor.d/",
    ];
    if in_any(&privileges) {
        return Some(Role::Privilege);
    }
    if in_any(&["lib/sysusers.d/", "etc/sysusers.d/"]) && name.ends_with(".conf") {
        return Some(Role::Accounts);
    }
    let service = in_any(&["share/dbus-1/services/", "share/dbus-1/system-services/"]);
    let policy = in_any(&["share/dbus-1/system.d/", "share/dbus-1/session.d/", "etc/dbus-1/"]);
    (service || policy).then_some(Role::Dbus)
}

impl Role {
    /// Whether what matters is in the file and not in its name.
    pub(crate) fn is_read(self) -> bool {
        matches!(
            self,
            Self::LdSoConf | Self::SystemdUnit | Self::UdevRule | Self::Accounts | Self::WindowsDriver
        )
    }
}

/// Enters a file or link by its path. What is [read](read) is entered with its content, unless it is a link.
pub(crate) fn enter(facts: &mut SystemFacts, role: Role, path: &str, link: Option<&str>) {
    let list = match role {
        Role::InitScript => &mut facts.init_scripts,
        Role::Dkms => &mut facts.dkms,
        Role::ModuleConfiguration => &mut facts.module_configuration,
        Role::Cron => &mut facts.cron,
        Role::Dbus => &mut facts.dbus_services,
        Role::Privilege => &mut facts.privileges,
        Role::SystemdUnit => {
            if let Some(target) = link {
                let link = Some(target.to_owned());
                facts.systemd_units.push(SystemdUnit {
                    path: path.to_owned(),
                    link,
                    ..SystemdUnit::default()
                });
            }
            return;
        }
        Role::LdSoConf | Role::UdevRule | Role::Accounts | Role::WindowsDriver => return,
    };
    list.push(path.to_owned());
}

/// Enters what a file says. A later file of the same name replaces an earlier one.
pub(crate) fn read(facts: &mut SystemFacts, role: Role, path: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match role {
        Role::LdSoConf => {
            facts.ld_so_conf.retain(|earlier| earlier.path != path);
            facts.ld_so_conf.push(LdSoConf { path: path.to_owned(), directories: ld_so_conf(&text) });
        }
        Role::SystemdUnit => {
            facts.systemd_units.retain(|earlier| earlier.path != path);
            facts.systemd_units.push(units::read(path, &text));
        }
        Role::UdevRule => {
            facts.udev_rules.retain(|earlier| earlier.path != path);
            facts.udev_rules.push(udev::read(path, &text));
        }
        Role::WindowsDriver => {
            facts.windows_drivers.retain(|earlier| earlier.path != path);
            facts.windows_drivers.push(inf::read(path, bytes));
        }
        Role::Accounts => facts.accounts.extend(accounts(&text)),
        _ => {}
    }
}

/// The lines of a `sysusers.d` file that say something, at most 256.
fn accounts(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.take(256).map(str::to_owned).collect()
}

/// Directories with libraries for better processors kept of one artifact.
const HWCAPS: usize = 256;

/// Enters the directory of a library, if only some processors lead there.
pub(crate) fn enter_hwcaps(facts: &mut SystemFacts, path: &str) {
    if let Some(directory) = hwcaps::directory(path)
        && facts.hwcaps.len() < HWCAPS
        && !facts.hwcaps.contains(&directory)
    {
        facts.hwcaps.push(directory);
    }
}

/// The directories an `ld.so.conf.d` file names, in order. `include` and `hwcap` lines name none.
pub(crate) fn ld_so_conf(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines
        .filter(|line| !matches!(line.split_whitespace().next(), Some("include" | "hwcap")))
        .flat_map(|line| line.split([' ', '\t', ',', ':']));
    // A directory may be followed by `=libc6`, a type from the days of several C libraries.
    let directories = words.map(|word| word.split('=').next().unwrap_or_default().trim_end_matches('/'));
    directories.filter(|directory| directory.starts_with('/')).take(1024).map(str::to_owned).collect()
}

/// Sorts every list and removes duplicates.
pub(crate) fn sort(facts: &mut SystemFacts) {
    let lists = [
        &mut facts.init_scripts,
        &mut facts.hwcaps,
        &mut facts.dkms,
        &mut facts.module_configuration,
        &mut facts.conffiles,
        &mut facts.cron,
        &mut facts.dbus_services,
        &mut facts.privileges,
        &mut facts.accounts,
        &mut facts.alternatives,
        &mut facts.diversions,
    ];
    for list in lists {
        list.sort();
        list.dedup();
    }
    facts.systemd_units.sort();
    facts.udev_rules.sort();
    facts.windows_drivers.sort();
    facts.effects.sort();
    facts.effects.dedup();
    facts.ld_so_conf.sort_by(|a, b| a.path.cmp(&b.path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_told_by_place() {
        let cases = [
            ("lib/systemd/system/acme.service", Some(Role::SystemdUnit)),
            ("etc/systemd/system/acme.service.d/limits.conf", Some(Role::SystemdUnit)),
            ("usr/lib/udev/rules.d/60-acme.rules", Some(Role::UdevRule)),
            ("etc/init.d/acme", Some(Role::InitScript)),
            ("etc/ld.so.conf.d/acme.conf", Some(Role::LdSoConf)),
            ("usr/lib/sysusers.d/acme.conf", Some(Role::Accounts)),
            ("etc/modprobe.d/acme.conf", Some(Role::ModuleConfiguration)),
            ("etc/sudoers.d/acme", Some(Role::Privilege)),
            ("usr/src/acme-1.0/dkms.conf", Some(Role::Dkms)),
            ("etc/cron.d/acme", Some(Role::Cron)),
            ("usr/share/dbus-1/system-services/com.acme.service", Some(Role::Dbus)),
            ("drivers/Acme.INF", Some(Role::WindowsDriver)),
            ("etc/rc.d/init.d/acme", Some(Role::InitScript)),
            ("etc/depmod.d/acme.conf", Some(Role::ModuleConfiguration)),
            ("autorun.inf", None),
            ("usr/share/doc/acme/README", None),
            ("opt/acme/acme.kon", None),
        ];
        for (path, expected) in cases {
            assert_eq!(role(path), expected, "{path}");
        }
    }

    #[test]
    fn loader_directories_are_read() {
        let text = "# acme\n/opt/acme/lib/\n/usr/lib/a:/usr/lib/b=libc6 # old\ninclude /etc/other/*.conf\nhwcap 1 x\n";
        assert_eq!(ld_so_conf(text), ["/opt/acme/lib", "/usr/lib/a", "/usr/lib/b"]);
    }
}

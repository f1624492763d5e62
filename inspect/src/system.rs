//! Files by which a package reaches into the system around it, recognised by where they are.

use crate::SystemFacts;

/// What a file at a path is for, if that can be told from the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    SystemdUnit,
    InitScript,
    UdevRule,
    LdSoConf,
    KernelModule,
    Dkms,
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
    if is_kernel_module(name) {
        return Some(Role::KernelModule);
    }
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
    if path.starts_with("etc/init.d/") && name != "README" {
        return Some(Role::InitScript);
    }
    if in_any(&["lib/udev/rules.d/", "etc/udev/rules.d/"]) && name.ends_with(".rules") {
        return Some(Role::UdevRule);
    }
    if path.starts_with("etc/ld.so.conf.d/") && name.ends_with(".conf") {
        return Some(Role::LdSoConf);
    }
    if path == "etc/crontab" || in_any(&["etc/cron.", "var/spool/cron/"]) {
        return Some(Role::Cron);
    }
    let service = in_any(&["share/dbus-1/services/", "share/dbus-1/system-services/"]);
    let policy = in_any(&["share/dbus-1/system.d/", "share/dbus-1/session.d/", "etc/dbus-1/"]);
    (service || policy).then_some(Role::Dbus)
}

fn is_kernel_module(name: &str) -> bool {
    let plain = [".gz", ".xz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    plain.ends_with(".ko")
}

/// Enters a path with its leading slash. Files that configure the loader are entered with their contents elsewhere.
pub(crate) fn enter(facts: &mut SystemFacts, role: Role, path: String) {
    match role {
        Role::SystemdUnit => facts.systemd_units.push(path),
        Role::InitScript => facts.init_scripts.push(path),
        Role::UdevRule => facts.udev_rules.push(path),
        Role::KernelModule => facts.kernel_modules.push(path),
        Role::Dkms => facts.dkms.push(path),
        Role::Cron => facts.cron.push(path),
        Role::Dbus => facts.dbus_services.push(path),
        Role::WindowsDriver => facts.windows_drivers.push(path),
        Role::LdSoConf => {}
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
        &mut facts.systemd_units,
        &mut facts.init_scripts,
        &mut facts.udev_rules,
        &mut facts.kernel_modules,
        &mut facts.dkms,
        &mut facts.conffiles,
        &mut facts.cron,
        &mut facts.dbus_services,
        &mut facts.windows_drivers,
    ];
    for list in lists {
        list.sort();
        list.dedup();
    }
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
            ("lib/modules/5.10/extra/acme.ko.xz", Some(Role::KernelModule)),
            ("usr/src/acme-1.0/dkms.conf", Some(Role::Dkms)),
            ("etc/cron.d/acme", Some(Role::Cron)),
            ("usr/share/dbus-1/system-services/com.acme.service", Some(Role::Dbus)),
            ("drivers/Acme.INF", Some(Role::WindowsDriver)),
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

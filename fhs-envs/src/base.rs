//! What every Debian base starts from: the least that vendor software takes for granted.

/// A package of the base.
#[derive(Debug, Clone, Copy)]
pub struct BasePackage {
    /// Name.
    pub name: &'static str,
    /// Whether what it depends on comes along. Not where the dependencies serve only its maintainer script, whose work
    /// the builder does itself.
    pub with_dependencies: bool,
    /// Why it is in the list.
    pub why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> BasePackage {
    BasePackage { name, with_dependencies: true, why }
}

const fn content_of(name: &'static str, why: &'static str) -> BasePackage {
    BasePackage { name, with_dependencies: false, why }
}

/// The list. A change of it is a change of every new lock, so each entry has its reason.
pub const BASE: &[BasePackage] = &[
    content_of("base-files", "the folders, /etc/os-release and /etc/debian_version that tools read"),
    content_of(
        "base-passwd",
        "the users and groups that every Debian has; its dependencies only ask questions",
    ),
    content_of("ca-certificates", "TLS; its dependencies only serve the script that joins the certificates"),
    content_of("tzdata", "time zones; its dependencies only ask which one"),
    content_of("netbase", "/etc/protocols and /etc/services"),
    content_of("dash", "/bin/sh; its dependencies only serve a diversion"),
    package("bash", "vendor scripts say bash, or mean it"),
    package("coreutils", "cat, ls, mkdir …"),
    package("findutils", "find, xargs"),
    package("grep", "grep"),
    package("sed", "sed"),
    package("mawk", "awk"),
    package("hostname", "licence checks call it"),
    package("libc-bin", "locale, getent, iconv, ldd; the loader's configuration"),
    package("libc6", "the loader, the C library, gconv, NSS"),
    package("ncurses-base", "terminfo of the common terminals"),
    package("procps", "ps and kill in vendor start scripts"),
];

/// Packages that serve only maintainer scripts and running systems; what they would do is the builder's work. They are
/// left out of a closure unless an artifact or a recipe asks for them by name.
pub const BUILDERS_WORK: &[(&str, &str)] = &[
    ("cdebconf", "questions are not asked"),
    ("debconf", "questions are not asked"),
    ("dpkg", "packages are unpacked by the builder"),
    ("init-system-helpers", "no service is enabled or started in a tree"),
    ("install-info", "the index of info pages is not part of a tree"),
    ("ucf", "configuration files are never merged in a tree"),
    ("usr-is-merged", "/usr is merged by the builder"),
    ("usrmerge", "/usr is merged by the builder"),
];

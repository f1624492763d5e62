//! Maintainer scripts: read, never run. What they would have done is done by the builder, or told.
//!
//! Only `preinst` and `postinst` matter: a tree is made once and never upgraded or removed. A script is brought to a
//! normal form (comments, blocks that debhelper wrote, and statements that do nothing are taken out) and then known by
//! its hash.

use std::collections::BTreeMap;

use crate::digest::Sha256;

/// What a script means for a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// It does nothing at a first installation.
    NoOp,
    /// The builder does the same; the reasons say how.
    Handled(Vec<&'static str>),
    /// Nobody has read it; the hash names its normal form.
    Unknown {
        /// The first 12 digits of the normal form's digest.
        hash: String,
    },
}

/// One alternative that a script registers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alternative {
    pub(crate) link: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) priority: i64,
    /// For a slave: its master's name and path.
    pub(crate) master: Option<(String, String)>,
}

/// debhelper's blocks by the tool that wrote them, and why they need no running.
const DEBHELPER: &[(&str, &str)] = &[
    ("dh_makeshlibs", "ld.so.cache is made by the builder"),
    ("dh_installdeb", "renamed or removed configuration files concern upgrades only"),
    ("dh_installdocs", "documentation links concern upgrades only"),
    ("dh_installsystemd", "units are not enabled in a tree"),
    ("dh_installsystemduser", "units are not enabled in a tree"),
    ("dh_installinit", "init scripts are not enabled in a tree"),
    ("dh_systemd_enable", "units are not enabled in a tree"),
    ("dh_systemd_start", "units are not started in a tree"),
    ("dh_python3", "byte code is not part of a tree"),
    ("dh_installdebconf", "questions are not asked"),
    ("dh_installmenu", "menus are not part of a tree"),
    ("dh_usrlocal", "/usr/local is there"),
    ("dh_installtmpfiles", "volatile files are made at launch"),
    ("dh_perl", "nothing is registered"),
];

/// Normal forms that somebody has read: hash, whose it is, why it needs no running. Found by `hatchway build`, which
/// names the hash of a script that is not here.
#[rustfmt::skip] // a table: one line each
const KNOWN: &[(&str, &str, &str)] = &[
    ("97ab8c7a8907", "base-files", "folders, links and default files are made by the builder"), // bookworm postinst
    ("cc71c437fa34", "base-files", "folders, links and default files are made by the builder"), // trixie preinst
    ("9396e6ac7fce", "base-files", "folders, links and default files are made by the builder"), // trixie postinst
    ("e74e60a5d5d8", "base-files", "folders, links and default files are made by the builder"), // bullseye postinst
    ("3a2312ad98f8", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bookworm-trixie postinst
    ("ab85477eb485", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bullseye preinst
    ("e52f382e63eb", "bash", "/bin/sh is dash's; menus are not part of a tree"), // bullseye postinst
    ("a185fea12d03", "ca-certificates", "the certificates are joined by the builder"), // all postinst
    ("6c15af81a0da", "coreutils", "/usr/bin/touch is there, /usr being merged"), // bookworm postinst
    ("3dade571f588", "coreutils", "/usr/bin/touch is there, /usr being merged"), // bullseye postinst
    ("c8a51d3c13fe", "dash", "/bin/sh is made by the builder"), // bookworm postinst
    ("d4cfe15757a7", "dash", "/bin/sh is made by the builder"), // trixie preinst
    ("f7de222703bf", "dash", "/bin/sh is made by the builder"), // trixie postinst
    ("01f3e638a056", "dash", "/bin/sh is made by the builder"), // bullseye postinst
    ("3d629fba5cd1", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // bookworm postinst
    ("9cb2146c6548", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // trixie postinst
    ("c6605c800f2a", "debianutils", "/etc/shells is made by the builder, `which` by its alternative"), // bullseye postinst
    ("4321593bd35f", "libc-bin", "nsswitch.conf and ld.so.cache are made by the builder"), // bookworm-trixie postinst
    ("dc91db72fd1a", "libc-bin", "nsswitch.conf and ld.so.cache are made by the builder"), // bullseye postinst
    ("9b48cee84fe0", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bookworm preinst
    ("2ebb124239d7", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bookworm preinst, i386
    ("749819c6ff5e", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bookworm postinst
    ("66df55e07624", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // trixie preinst
    ("3a03659fd013", "libc6", "services are not restarted, the kernel is not judged; the loader is there, /usr being merged"), // trixie preinst, i386
    ("ebfa67931c20", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // trixie postinst
    ("12f80805d2a7", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bullseye preinst
    ("a278d93f53b0", "libc6", "services are not restarted, the kernel is not judged; ld.so.cache is made by the builder"), // bullseye postinst
    ("833f4487d8d5", "init-system-helpers", "it concerns upgrades only"), // bookworm-trixie postinst
    ("2ebb124239d7", "libc6:i386", "services are not restarted, the kernel is not judged; /lib is the builder's link"), // bookworm preinst
    ("3a03659fd013", "libc6:i386", "services are not restarted, the kernel is not judged; /lib is the builder's link"), // trixie preinst
    ("1be767b06928", "libc6:i386", "services are not restarted, the kernel is not judged, questions are not asked"), // bullseye preinst
    ("82afeb6e0658", "ucf", "its register of configuration files is not part of a tree"), // bookworm preinst
    ("b86f4186fdf2", "ucf", "its register of configuration files is not part of a tree"), // bookworm postinst
    ("3a13ed703cdb", "dpkg", "it concerns upgrades only"), // bookworm postinst
    ("d4f52dd6f636", "bubblewrap", "kernel settings are the host's"), // trixie postinst
    ("21994920dd0c", "libblas3", "it concerns upgrades only"), // trixie preinst
    ("9370b14468fa", "liblapack3", "it concerns upgrades only"), // trixie preinst
    ("3f310ff51715", "libgcrypt20", "it cleans up after upgrades only"), // bookworm postinst
    ("01e2066ac2c4", "libselinux1", "SELinux's caches concern upgrades and running systems"), // trixie postinst
    ("50ee1110cd77", "libssl1.1", "services are not restarted"), // bullseye postinst
    ("a7b0272be77a", "netbase", "/etc/networks is made by the builder, /etc/hosts at launch"), // bookworm-bullseye postinst
    ("5c9061a96f3d", "netbase", "/etc/networks is made by the builder, /etc/hosts at launch"), // trixie postinst
    ("1af5590f565d", "procps", "kernel settings are the host's"), // bookworm-bullseye postinst
    ("3451a24e1b02", "procps", "kernel settings are the host's"), // trixie postinst
    ("3f48c493dbae", "procps", "kernel settings are the host's"), // bullseye preinst
    ("ace8fd5f5a44", "readline-common", "/etc/inputrc is made by the builder"), // bookworm postinst
    ("143680552150", "tzdata", "the time zone is UTC, set by the builder"), // bookworm postinst
    ("30aeb9445e46", "tzdata", "the time zone is UTC, set by the builder"), // trixie postinst
    ("12431b61ca0d", "tzdata", "the time zone is UTC, set by the builder"), // bullseye postinst
    ("8f6dd1f70cd5", "base-passwd", "users and groups are made by the builder"), // bookworm postinst
    ("2af8e2ce624b", "base-passwd", "users and groups are made by the builder"), // bullseye preinst
    ("e32c4d23e84e", "base-passwd", "users and groups are made by the builder"), // bullseye postinst
    ("c36802435f92", "locales", "the locales asked for are compiled when the tree is built"), // bookworm postinst
    ("4a5f25be8076", "locales", "the locales asked for are compiled when the tree is built"), // trixie postinst
    ("582a8a651ec6", "locales", "the locales asked for are compiled when the tree is built"), // bullseye postinst
    ("6b1bdf663cb5", "adduser", "it concerns upgrades only"), // bookworm-trixie preinst
    ("96af182bc7c3", "adwaita-icon-theme", "icon caches are not part of a tree; the alternative is made by the builder"), // bookworm-trixie postinst
    ("d38a3f2c48f4", "ca-certificates-java", "it concerns upgrades only"), // bookworm-trixie preinst
    ("d318786df45c", "ca-certificates-java", "the key store is written by the builder"), // bookworm postinst
    ("eb032747206b", "dbus", "users come from sysusers.d, no service runs, set-id bits are dropped"), // bookworm-trixie postinst
    ("2d06520c9311", "dbus-daemon", "the machine id is bound at launch, folders come from tmpfiles.d"), // bookworm-trixie postinst
    ("ed706268c3f2", "dbus-system-bus-common", "users come from sysusers.d"), // bookworm postinst
    ("ad1665b476af", "desktop-file-utils", "the tool runs when the tree is built"), // bookworm-trixie-bullseye postinst
    ("146f30701d1f", "dmsetup", "there is no initramfs in a tree"), // bookworm postinst
    ("7fa2f0c66c85", "fontconfig", "fontconfig's cache is not part of a tree"), // bookworm-trixie-bullseye postinst
    ("05df4d7794f1", "fontconfig-config", "the hinting link is made by the builder, questions are not asked"), // bookworm-bullseye postinst
    ("c6dcfb1b548d", "fonts-urw-base35", "indices of X servers' bitmap and Type 1 fonts are not part of a tree"), // bookworm-trixie postinst
    ("964a9e2a19d3", "hicolor-icon-theme", "icon caches are not part of a tree"), // bookworm-trixie-bullseye postinst
    ("e480e304e0f0", "java-common", "/etc/.java is made by the builder"), // bookworm-trixie-bullseye postinst
    ("16b2de07d64c", "librsvg2-common", "the tool runs when the tree is built"), // trixie postinst
    ("a8ea55607481", "libgdk-pixbuf-2.0-0", "the tool runs when the tree is built"), // bookworm-trixie-bullseye postinst
    ("38cbe88a0ca9", "libglib2.0-0", "the tools run when the tree is built"), // bookworm postinst
    ("f07701c157e5", "libgsl27", "ld.so.cache is made by the builder"), // bookworm-bullseye postinst
    ("dd57fbc0704d", "libgssapi-krb5-2", "it concerns upgrades only"), // bookworm-trixie-bullseye postinst
    ("802e9e334c22", "libgtk-3-0", "the tool runs when the tree is built"), // bookworm postinst
    ("406d8de50dbf", "libgtk-4-1", "the tool runs when the tree is built"), // bookworm-trixie postinst
    ("976881bdfae8", "libgtk2.0-0", "the tool runs when the tree is built"), // bookworm-bullseye postinst
    ("634dd254a143", "libpam-modules", "it concerns upgrades only"), // bookworm-trixie preinst
    ("8c2a01ac5459", "libpam-modules", "nobody logs in to a tree"), // bookworm postinst
    ("65a7babcbb46", "libpam-runtime", "nobody logs in to a tree"), // bookworm-trixie postinst
    ("b12105fc9b09", "libpam-systemd", "nobody logs in to a tree"), // bookworm-trixie-bullseye postinst
    ("61b3dc0a9b71", "libpam0g", "services are not restarted"), // bookworm-trixie-bullseye postinst
    ("81a2c02d3334", "libpaper1", "/etc/papersize is made by the builder"), // bookworm postinst
    ("063f4069d61f", "libpython3.11-minimal", "byte code is not part of a tree"), // bookworm postinst
    ("346ce97e3acd", "libqt5core5a", "it concerns upgrades only"), // bookworm-trixie-bullseye postinst
    ("867ad83bd234", "libsensors5", "it concerns upgrades only"), // bookworm-bullseye preinst
    ("4bd7a827ac90", "libwrap0", "files with comments only; without them nothing is refused either"), // bookworm postinst
    ("24a27ed0ad37", "openbox", "it concerns upgrades only"), // bookworm-trixie-bullseye preinst
    ("352ee2c151fe", "openbox", "alternatives are made by the builder; menus are not part of a tree"), // bookworm-trixie-bullseye postinst
    ("7c161ab03a1a", "openjdk-17-jre", "alternatives are made by the builder"), // bookworm postinst
    ("d60be7edf7b5", "openjdk-17-jre-headless", "alternatives and /etc/.java are made by the builder"), // bookworm postinst
    ("9fb8c4464c97", "openssl", "the folder /usr/lib/ssl comes with the package"), // bookworm-trixie-bullseye postinst
    ("5c3753319860", "passwd", "there are no passwords in a tree; the group is in base-passwd's list"), // bookworm-trixie postinst
    ("ce55e1abcac0", "perl", "it concerns upgrades only"), // bookworm postinst
    ("1951c66bf994", "poppler-data", "Ghostscript's font map is not part of a tree"), // bookworm-trixie postinst
    ("4a3d37feaea7", "python3", "it concerns upgrades only"), // bookworm preinst
    ("3d9c9d5ee01f", "python3", "byte code is not part of a tree; the configuration is made by the builder"), // bookworm postinst
    ("48aee92b2898", "python3-minimal", "byte code is not part of a tree"), // bookworm-trixie-bullseye postinst
    ("bc5890ec2804", "python3.11", "byte code is not part of a tree"), // bookworm postinst
    ("bb67c52bd19d", "python3.11-minimal", "byte code is not part of a tree"), // bookworm preinst
    ("bb602eafd428", "python3.11-minimal", "byte code is not part of a tree"), // bookworm postinst
    ("36a293646883", "shared-mime-info", "the tool runs when the tree is built"), // bookworm-trixie-bullseye postinst
    ("0389fb61b56b", "systemd", "no service is enabled or runs in a tree; users come from sysusers.d, folders from tmpfiles.d"), // bookworm-bullseye preinst
    ("c83c37ad4b82", "systemd", "no service is enabled or runs in a tree; users come from sysusers.d, folders from tmpfiles.d"), // bookworm postinst
    ("b6934a10cf29", "systemd-sysv", "there is no boot loader in a tree"), // bookworm postinst
    ("db9fc845f6e9", "tcl", "it concerns upgrades only"), // bookworm-trixie-bullseye preinst
    ("8da415a99575", "tigervnc-common", "it concerns upgrades only"), // bookworm-trixie preinst
    ("378a3d418e29", "tigervnc-common", "alternatives are made by the builder"), // bookworm-trixie postinst
    ("05080be3ff57", "tigervnc-standalone-server", "alternatives are made by the builder"), // bookworm-trixie-bullseye postinst
    ("2045ab2bff16", "tk", "it concerns upgrades only"), // bookworm-trixie-bullseye preinst
    ("078c04b700bd", "util-linux", "units are not enabled in a tree; alternatives are made by the builder"), // bookworm postinst
    ("5fb3dad4d2c7", "x11-common", "questions are not asked, no service runs"), // bookworm-trixie-bullseye postinst
    ("1ebc7351d1bf", "xfonts-utils", "indices of X servers' fonts are not part of a tree"), // bookworm-trixie postinst
    ("daea9229aa4d", "base-passwd", "users and groups are made by the builder"), // trixie preinst
    ("88e333752ce7", "base-passwd", "users and groups are made by the builder"), // trixie postinst
    ("4e09de683a08", "ca-certificates-java", "the key store is written by the builder"), // trixie postinst
    ("9405198c12af", "dbus-system-bus-common", "users come from sysusers.d"), // trixie postinst
    ("6c8ecbb40096", "fontconfig-config", "the hinting link is made by the builder, questions are not asked"), // trixie postinst
    ("46a4a03e33d8", "gtk-update-icon-cache", "it concerns upgrades only"), // trixie preinst
    ("6cb4f3a60ed3", "libglib2.0-0t64", "it concerns upgrades only"), // trixie preinst
    ("5ca419d1cad0", "libglib2.0-0t64", "the tools run when the tree is built"), // trixie postinst
    ("195411a9a1ef", "libgtk-3-0t64", "it concerns upgrades only"), // trixie preinst
    ("86d7946373af", "libgtk-3-0t64", "the tool runs when the tree is built"), // trixie postinst
    ("307c2326c1d8", "libgtk2.0-0t64", "it concerns upgrades only"), // trixie preinst
    ("c8bac71bafb6", "libgtk2.0-0t64", "the tool runs when the tree is built"), // trixie postinst
    ("7f5f78d2094d", "libpam-modules", "nobody logs in to a tree"), // trixie postinst
    ("57f30b95cdfc", "libpaper2", "questions are not asked"), // trixie postinst
    ("d72eada95e61", "libpython3.13-minimal", "byte code is not part of a tree"), // trixie postinst
    ("ffbcc44e3b8b", "libreadline8t64", "/usr is merged, nothing is diverted"), // trixie preinst
    ("50e459678f04", "login.defs", "it concerns upgrades only"), // trixie postinst
    ("e493c0f52d1c", "openjdk-21-jre", "alternatives are made by the builder"), // trixie postinst
    ("8283c5d60351", "openjdk-21-jre-headless", "alternatives and /etc/.java are made by the builder"), // trixie postinst
    ("d5b9b673cd06", "perl", "it concerns upgrades only"), // trixie postinst
    ("c88c6a4f75f7", "python3", "it concerns upgrades only"), // trixie preinst
    ("c9e170a1d314", "python3", "byte code is not part of a tree; the configuration is made by the builder"), // trixie postinst
    ("4c460b70008e", "python3.13", "byte code is not part of a tree"), // trixie postinst
    ("2daeafdaa61a", "python3.13-minimal", "byte code is not part of a tree"), // trixie preinst
    ("b462aa71348e", "python3.13-minimal", "byte code is not part of a tree"), // trixie postinst
    ("461597740124", "systemd", "no service is enabled or runs in a tree; users come from sysusers.d, folders from tmpfiles.d"), // trixie preinst
    ("f1b6cd91ca53", "systemd", "no service is enabled or runs in a tree; users come from sysusers.d, folders from tmpfiles.d"), // trixie postinst
    ("59b0ecdcc73c", "systemd-sysv", "there is no boot loader in a tree"), // trixie postinst
    ("33fb5b296d29", "adduser", "its configuration is made by the builder; questions are not asked"), // bullseye postinst
    ("71cee935a6d6", "adwaita-icon-theme", "icon caches are not part of a tree; the alternative is made by the builder"), // bullseye postinst
    ("f609e906f0d2", "ca-certificates-java", "the key store is written by the builder"), // bullseye postinst
    ("14e77a99bf25", "dbus", "users come from sysusers.d, no service runs, set-id bits are dropped"), // bullseye postinst
    ("42f4b237f041", "dmsetup", "there is no initramfs in a tree"), // bullseye postinst
    ("4e724f44c628", "libglib2.0-0", "the tools run when the tree is built"), // bullseye postinst
    ("377d3d177124", "libgtk-3-0", "the tool runs when the tree is built"), // bullseye postinst
    ("66b96986a872", "libpam-modules", "it concerns upgrades only"), // bullseye preinst
    ("c184e732d22c", "libpam-modules", "nobody logs in to a tree"), // bullseye postinst
    ("7ae9d49e1c13", "libpam-runtime", "nobody logs in to a tree"), // bullseye postinst
    ("813da6e6d98d", "libpython3.9-minimal", "byte code is not part of a tree"), // bullseye postinst
    ("bdd3c0497878", "libwrap0", "files with comments only; without them nothing is refused either"), // bullseye postinst
    ("f9a4845132e2", "login", "it concerns upgrades only"), // bullseye preinst
    ("1933f6413aea", "login", "nobody logs in to a tree"), // bullseye postinst
    ("5479f588c2c3", "openjdk-11-jre", "alternatives are made by the builder"), // bullseye postinst
    ("19566a395ffb", "openjdk-11-jre-headless", "alternatives and /etc/.java are made by the builder"), // bullseye postinst
    ("7c80b0cfcdb4", "passwd", "it concerns upgrades only"), // bullseye preinst
    ("3f97db207834", "passwd", "there are no passwords in a tree; the group is in base-passwd's list"), // bullseye postinst
    ("d46c6a995f71", "perl", "it concerns upgrades only"), // bullseye postinst
    ("d48c10e2379a", "python3", "it concerns upgrades only"), // bullseye preinst
    ("5394deb06ac4", "python3", "byte code is not part of a tree; the configuration is made by the builder"), // bullseye postinst
    ("fd353c652657", "python3.9", "byte code is not part of a tree"), // bullseye postinst
    ("7560c1d2548b", "python3.9-minimal", "it leaves a mark for byte code, which is not part of a tree"), // bullseye preinst
    ("635a81dacafc", "python3.9-minimal", "byte code is not part of a tree; a wheel makes its folder below /usr/local itself"), // bullseye postinst
    ("da3231ba5b91", "systemd", "no service is enabled or runs in a tree; users come from sysusers.d, folders from tmpfiles.d"), // bullseye postinst
    ("96fa8bf2678b", "systemd-sysv", "there is no boot loader in a tree"), // bullseye postinst
    ("b5b0df5ce4b2", "tigervnc-common", "alternatives are made by the builder"), // bullseye postinst
    ("8c949f73cae1", "gzip", "nothing of zutils is diverted at a first installation"), // trixie preinst
    ("4c00e1806a5d", "gzip", "nothing of zutils is diverted at a first installation"), // trixie postinst
    ("d17a57bccae2", "libgstreamer1.0-0", "set-id bits and capabilities are dropped"), // bookworm postinst
    ("c231e08ced13", "libgstreamer1.0-0:i386", "set-id bits and capabilities are dropped"), // bookworm postinst
    ("fc2b4f49dce5", "libgcrypt20:i386", "it cleans up after upgrades only"), // bookworm postinst
    ("ad50f7a57601", "libglib2.0-0:i386", "the tools run when the tree is built"), // bookworm postinst
    ("81d6e71fdab0", "libwine:i386", "zlib becomes a library of Wine's when the tree is built"), // bookworm postinst
    ("b712246225f4", "libgstreamer1.0-0", "set-id bits and capabilities are dropped"), // trixie postinst
    ("02fe70a5f1c2", "libwine", "zlib becomes a library of Wine's when the tree is built"), // bookworm postinst
    ("bb8ed04d979d", "wine", "the plain names of its programs are made by the builder"), // bookworm postinst
    ("7e0304cc6f98", "xz-utils", "alternatives are made by the builder"), // bookworm-trixie-bullseye postinst
    ("397a2b260c08", "util-linux", "units are not enabled in a tree; alternatives are made by the builder"), // bullseye postinst
];

/// Classifies a script by its name and text. `version` is the package's own, which scripts repeat and which therefore
/// is not part of the normal form.
#[must_use]
pub fn classify(name: &str, text: &str, version: &str) -> Class {
    if !matches!(name, "preinst" | "postinst") {
        return Class::NoOp;
    }
    let (mut reasons, rest) = normalise(text);
    if rest.is_empty() {
        return if reasons.is_empty() { Class::NoOp } else { Class::Handled(reasons) };
    }
    let mut form = rest.join("\n");
    if !version.is_empty() {
        form = form.replace(version, "VERSION");
    }
    let hash = Sha256::of(form.as_bytes()).short();
    match KNOWN.iter().find(|(known, _, _)| *known == hash) {
        Some((_, _, reason)) => {
            reasons.push(reason);
            Class::Handled(reasons)
        }
        None => match without_known_commands(rest) {
            Some(more) => {
                reasons.extend(more);
                reasons.sort_unstable();
                reasons.dedup();
                Class::Handled(reasons)
            }
            None => Class::Unknown { hash },
        },
    }
}

/// Commands that do nothing to a tree, or what the builder does, too.
const COMMANDS: &[(&str, &str)] = &[
    ("dpkg-maintscript-helper", "renamed or removed configuration files concern upgrades only"),
    ("ldconfig", "ld.so.cache is made by the builder"),
    ("/sbin/ldconfig", "ld.so.cache is made by the builder"),
    ("update-menus", "menus are not part of a tree"),
    ("update-desktop-database", "the tool runs when the tree is built"),
    ("update-mime-database", "the tool runs when the tree is built"),
    ("update-icon-caches", "icon caches are not part of a tree"),
    ("gtk-update-icon-cache", "icon caches are not part of a tree"),
    ("glib-compile-schemas", "the tool runs when the tree is built"),
    ("fc-cache", "fontconfig's cache is not part of a tree"),
    ("update-fonts-dir", "indices of X servers' fonts are not part of a tree"),
    ("update-fonts-scale", "indices of X servers' fonts are not part of a tree"),
    ("update-fonts-alias", "indices of X servers' fonts are not part of a tree"),
    ("py3compile", "byte code is not part of a tree"),
    ("pycompile", "byte code is not part of a tree"),
    ("deb-systemd-helper", "units are not enabled in a tree"),
    ("deb-systemd-invoke", "units are not started in a tree"),
    ("systemctl", "units are not started in a tree"),
    ("update-rc.d", "init scripts are not enabled in a tree"),
    ("invoke-rc.d", "init scripts are not enabled in a tree"),
    ("systemd-sysusers", "users and groups are made by the builder"),
    ("systemd-tmpfiles", "folders of tmpfiles.d are made by the builder"),
    ("udevadm", "devices are the host's"),
    ("update-initramfs", "there is no initramfs in a tree"),
    ("db_version", "questions are not asked"),
    ("db_stop", "questions are not asked"),
    ("db_purge", "questions are not asked"),
    (". /usr/share/debconf/confmodule", "questions are not asked"),
];

/// The reasons, if what is left of a script without such commands does nothing.
fn without_known_commands(rest: Vec<String>) -> Option<Vec<&'static str>> {
    let mut reasons = Vec::new();
    for line in rest {
        if is_idle(&line) || is_question(&line) {
            continue;
        }
        let command = COMMANDS.iter().find(|(name, _)| {
            line.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with(' '))
        });
        reasons.push(command.filter(|(name, _)| is_one_command(&line) && is_usual(name, &line))?.1);
    }
    Some(reasons)
}

/// Arguments with which a command does what its reason in [`COMMANDS`] says, and no more: the builder runs the tools over
/// their usual folders only, and makes accounts of files only.
fn is_usual(name: &str, line: &str) -> bool {
    let line = without_harmless(line);
    let mut arguments = line[name.len()..].split_whitespace();
    let folders: &[&str] = match name {
        "ldconfig" | "/sbin/ldconfig" => &[],
        "glib-compile-schemas" => &["/usr/share/glib-2.0/schemas", "/usr/share/glib-2.0/schemas/"],
        "update-mime-database" => &["-n", "/usr/share/mime"],
        "update-desktop-database" => &["-q", "/usr/share/applications"],
        "systemd-sysusers" | "systemd-tmpfiles" => {
            return arguments.all(|argument| {
                matches!(argument, "--create" | "--remove")
                    || !argument.starts_with('-') && !argument.contains(' ')
            });
        }
        _ => return true,
    };
    arguments.all(|argument| folders.contains(&argument))
}

/// No second command, no output to a file, nothing computed.
fn is_one_command(line: &str) -> bool {
    !without_harmless(line).contains([';', '|', '&', '>', '<', '`', '(', ')'])
}

fn without_harmless(line: &str) -> String {
    let mut line = line.to_owned();
    for harmless in [
        "2>/dev/null",
        "2> /dev/null",
        ">/dev/null",
        "> /dev/null",
        "2>&1",
        "|| true",
        "|| :",
        "|| exit 1",
        "|| exit $?",
        "\"$@\"",
    ] {
        line = line.replace(harmless, "");
    }
    line
}

/// A condition that only looks: whether a command, a file or a version is there.
fn is_question(line: &str) -> bool {
    let Some(question) = line.strip_prefix("if ").or_else(|| line.strip_prefix("elif ")) else {
        return false;
    };
    let Some(question) = question.strip_suffix("; then") else { return false };
    let looks = ["which ", "command -v ", "test ", "[ ", "dpkg --compare-versions ", "! [ ", "! test "];
    looks.iter().any(|look| question.starts_with(look)) && is_one_command(question)
}

/// The reasons found on the way, and the statements that are left.
fn normalise(text: &str) -> (Vec<&'static str>, Vec<String>) {
    let mut reasons = Vec::new();
    let mut rest = Vec::new();
    let mut in_block = false;
    // Lines of a block that is not closed are the script's own.
    let mut open: Vec<String> = Vec::new();
    for line in joined_lines(text) {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(tool) = line.strip_prefix("# Automatically added by ") {
            let tool = tool.split('/').next().unwrap_or(tool);
            rest.append(&mut open);
            if let Some((_, reason)) = DEBHELPER.iter().find(|(known, _)| *known == tool) {
                in_block = true;
                reasons.push(*reason);
            }
        } else if line.starts_with("# End automatically added") {
            in_block = false;
            open.clear();
        } else if line.starts_with('#') || line.is_empty() {
        } else if in_block {
            open.push(line);
        } else {
            if alternatives_of(&line).is_some() {
                reasons.push("alternatives are made by the builder");
            } else {
                rest.push(line);
            }
        }
    }
    rest.append(&mut open);
    reasons.sort_unstable();
    reasons.dedup();
    if rest.iter().all(|line| is_idle(line)) {
        rest.clear();
    }
    (reasons, rest)
}

/// Statements that do nothing by themselves: the skeleton that is left when every command is gone.
fn is_idle(line: &str) -> bool {
    const IDLE: [&str; 16] = [
        "set -e",
        "set -eu",
        "exit 0",
        ":",
        ";;",
        "esac",
        "fi",
        "else",
        "then",
        "true",
        "case \"$1\" in",
        "case $1 in",
        "set -u",
        "case \"${1}\" in",
        "case \"$1\" in configure)",
        "exit 0;",
    ];
    let condition =
        line.strip_prefix("if ").and_then(|rest| rest.strip_suffix("; then")).is_some_and(|tests| {
            let tests = tests.replace("&&", "||");
            let is_test = |test: &str| test.starts_with('[') || test.starts_with("! [");
            tests
                .split("||")
                .all(|test| is_test(test.trim()) && !test.contains(['`', '(', '|', '&', '>', ';']))
        });
    let pattern =
        line.ends_with(')') && line.chars().all(|c| c.is_ascii_alphanumeric() || "-|*) \"'".contains(c));
    let message = line.starts_with("echo ") && !line.contains(['>', '|', '`', '$', ';', '&'])
        || line.starts_with("echo ")
            && line.ends_with(">&2")
            && line.matches('>').count() == 1
            && !line.contains(['|', '`', ';'])
            && !line.contains("$(");
    IDLE.contains(&line) || condition || pattern || message || line == "exit 1"
}

/// Lines with their continuations.
fn joined_lines(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let (body, continues) = match line.strip_suffix('\\') {
            Some(body) => (body, true),
            None => (line, false),
        };
        match all.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(' ');
                last.push_str(body);
            }
            None => all.push(body.to_owned()),
        }
        open = continues;
    }
    all
}

/// All alternatives that a script registers, with words that are literal or a variable of the script's with one literal
/// value; in a loop over literal words once for each.
pub(crate) fn alternatives(text: &str) -> Vec<Alternative> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut loops: Vec<(String, Vec<String>)> = Vec::new();
    let mut shortened: Vec<Shortened> = Vec::new();
    let mut found = if text.contains("slave /usr/bin lz$util xz$util") { of_xz() } else { Vec::new() };
    for line in joined_lines(text) {
        let line = line.trim();
        if let Some((name, value)) = literal_assignment(line) {
            // The first value is the one of the common case; what a script computes later is not ours to know.
            known.entry(name).or_insert(value);
        } else if let Some(variable) = shortened_variable(line) {
            shortened.push(variable);
        } else if let Some((name, words)) = for_loop(line) {
            let words = expand(words, &known).unwrap_or_default();
            loops.push((name.to_owned(), words.split_whitespace().map(str::to_owned).collect()));
        } else if line.starts_with("while ") || line.starts_with("until ") {
            loops.push((String::new(), vec![String::new()]));
        } else if line == "done" || line.starts_with("done ") {
            loops.pop();
        } else if line.contains("update-alternatives") {
            found.extend(each_round(line, &mut known, &loops, &shortened));
        }
    }
    found
}

/// What xz-utils registers by a function of its own, the same in each suite.
fn of_xz() -> Vec<Alternative> {
    const UTILITIES: [&str; 8] = ["cat", "more", "less", "diff", "cmp", "grep", "egrep", "fgrep"];
    let mut pairs = vec![("lzma".to_owned(), "xz".to_owned()), ("unlzma".into(), "unxz".into())];
    pairs.extend(UTILITIES.map(|utility| (format!("lz{utility}"), format!("xz{utility}"))));
    let master = Some(("lzma".to_owned(), "/usr/bin/xz".to_owned()));
    let new = |folder: &str, name: &str, target: &str, master| Alternative {
        link: format!("{folder}/{name}"),
        name: name.to_owned(),
        path: format!("{folder}/{target}"),
        priority: 20,
        master,
    };
    let mut all = Vec::new();
    for (name, target) in pairs {
        all.push(new("/usr/bin", &name, &target, master.clone().filter(|(own, _)| *own != name)));
        let pages = (format!("{name}.1.gz"), format!("{target}.1.gz"));
        all.push(new("/usr/share/man/man1", &pages.0, &pages.1, master.clone()));
    }
    all
}

/// The alternatives of one line, in every round of the loops around it.
fn each_round(
    line: &str,
    known: &mut BTreeMap<String, String>,
    loops: &[(String, Vec<String>)],
    shortened: &[Shortened],
) -> Vec<Alternative> {
    let Some(((name, words), inner)) = loops.split_first() else {
        for (name, source, part) in shortened {
            if let Some(value) = known.get(source).map(|value| value.replacen(part.as_str(), "", 1)) {
                known.insert(name.clone(), value);
            }
        }
        let words: Option<Vec<String>> = line
            .split_whitespace()
            // A variable by itself that holds nothing known adds options; what it would add is left out.
            .filter(|word| expand(word, known).is_some() || !word.starts_with('$'))
            .map(|word| expand(word, known))
            .collect();
        return words.and_then(|words| alternatives_of(&words.join(" "))).unwrap_or_default();
    };
    let mut found = Vec::new();
    for word in words {
        known.insert(name.clone(), word.clone());
        found.extend(each_round(line, known, inner, shortened));
    }
    found
}

/// `name=value` without anything to be computed.
fn literal_assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let quoted = value.strip_prefix(['\'', '"']).and_then(|rest| rest.strip_suffix(['\'', '"']));
    let value = quoted.unwrap_or(value);
    let literal = !value.contains(['$', '`', '"', '\'', ';', '&', '|', '\\'])
        && (quoted.is_some() || !value.contains(char::is_whitespace));
    (is_name && literal && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

/// A variable, the one it is made from, and the text that is taken out.
type Shortened = (String, String, String);

/// ``name=`echo $source | sed -e 's/part//'`;``, as tigervnc's scripts have it.
fn shortened_variable(line: &str) -> Option<Shortened> {
    let (name, value) = line.trim_end_matches(';').split_once('=')?;
    let (source, sed) = value.strip_prefix("`echo $")?.strip_suffix('`')?.split_once('|')?;
    let part = sed.trim().strip_prefix("sed -e 's/")?.strip_suffix("//'")?;
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (plain(name) && plain(source.trim()) && plain(part))
        .then(|| (name.to_owned(), source.trim().to_owned(), part.to_owned()))
}

fn for_loop(line: &str) -> Option<(&str, &str)> {
    let (name, words) = line.strip_prefix("for ")?.split_once(" in ")?;
    Some((name.trim(), words.trim().trim_end_matches("do").trim().trim_end_matches(';').trim()))
}

/// A text with its variables replaced; nothing where one is not known.
fn expand(text: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, next) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        expanded.push_str(known.get(name)?);
        rest = next;
    }
    expanded.push_str(rest);
    Some(expanded)
}

fn alternatives_of(line: &str) -> Option<Vec<Alternative>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !words.first()?.ends_with("update-alternatives") || line.contains(['$', '`', ';', '|']) {
        return None;
    }
    let words: Vec<&str> = words
        .into_iter()
        .map(|word| word.trim_matches(['"', '\'']))
        .filter(|word| *word != "--quiet")
        .collect();
    let at = words.iter().position(|word| *word == "--install")?;
    let [link, name, path, priority] = words.get(at + 1..at + 5)? else { return None };
    let priority = priority.parse().ok()?;
    let new = |link: &str, name: &str, path: &str, master: Option<(&str, &str)>| Alternative {
        link: link.to_owned(),
        name: name.to_owned(),
        path: path.to_owned(),
        priority,
        master: master.map(|(name, path)| (name.to_owned(), path.to_owned())),
    };
    let mut all = vec![new(link, name, path, None)];
    let mut rest = &words[at + 5..];
    while let [first, slave_link, slave, slave_path, after @ ..] = rest {
        if *first != "--slave" {
            return None;
        }
        all.push(new(slave_link, slave, slave_path, Some((name, path))));
        rest = after;
    }
    rest.is_empty().then_some(all)
}

/// Of all alternatives, the one of each name that counts: the highest priority, then the first path. A slave follows
/// its master: it counts with the path that was chosen there, if its own path is there.
pub(crate) fn chosen(mut all: Vec<Alternative>, exists: &dyn Fn(&str) -> bool) -> Vec<Alternative> {
    all.retain(|alternative| exists(&alternative.path));
    all.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.path.cmp(&b.path)));
    let (slaves, masters): (Vec<Alternative>, Vec<Alternative>) =
        all.into_iter().partition(|alternative| alternative.master.is_some());
    let mut by_name: BTreeMap<String, Alternative> = BTreeMap::new();
    for alternative in masters {
        by_name.entry(alternative.name.clone()).or_insert(alternative);
    }
    for slave in slaves {
        let follows = |(name, path): &(String, String)| by_name.get(name).is_some_and(|m| m.path == *path);
        if slave.master.as_ref().is_some_and(follows) {
            by_name.entry(slave.name.clone()).or_insert(slave);
        }
    }
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debhelper_blocks_and_skeletons_are_no_work() {
        let text = "#!/bin/sh\nset -e\n# Automatically added by dh_makeshlibs/13.11\nif [ x ]; then\n  ldconfig\nfi\n# End automatically added section\nexit 0\n";
        assert_eq!(
            classify("postinst", text, ""),
            Class::Handled(vec!["ld.so.cache is made by the builder"])
        );
        assert_eq!(
            classify("postinst", "#!/bin/sh\nset -e\ncase \"$1\" in\n configure)\n ;;\nesac\n", ""),
            Class::NoOp
        );
        assert_eq!(classify("postrm", "rm -rf /", ""), Class::NoOp);
    }

    #[test]
    fn the_old_names_of_xz_are_made() {
        let script = std::iter::once("slave /usr/bin lz$util xz$util").collect::<String>();
        let all = chosen(alternatives(&script), &|path| path.starts_with("/usr/bin/"));
        let names: Vec<&str> = all.iter().map(|alternative| alternative.link.as_str()).collect();
        assert_eq!(all.len(), 10, "{names:?}");
        assert!(names.contains(&"/usr/bin/lzma") && names.contains(&"/usr/bin/lzfgrep"), "{names:?}");
    }

    #[test]
    fn an_unknown_command_is_never_a_no_op() {
        for command in [
            "rm -rf /etc/x",
            "echo x > /etc/y",
            "if test -e x; then rm y; fi",
            "ldconfig; rm -rf /etc",
            "ldconfig > /etc/x",
            "systemctl enable `id`",
            "if which rm; then rm -rf /etc; fi",
            "if [ -x /bin/x ] && rm y; then",
            "updatemenus",
            "ldconfig -n /opt/acme",
            "glib-compile-schemas /opt/acme/schemas",
            "update-mime-database /opt/acme",
            "systemd-sysusers --inline x",
            "# Automatically added by dh_installinit/13\nrm -rf /etc",
            "useradd acme",
            "echo `id`",
        ] {
            assert!(
                matches!(
                    classify("postinst", &format!("#!/bin/sh\nset -e\n{command}\n"), ""),
                    Class::Unknown { .. }
                ),
                "{command}"
            );
        }
        let block = "# Automatically added by dh_unheard_of\nrm -rf /etc\n# End automatically added section";
        assert!(matches!(classify("postinst", block, ""), Class::Unknown { .. }));
    }

    #[test]
    fn scripts_of_known_commands_need_no_hash() {
        let text = "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n  if which update-menus >/dev/null 2>&1; then\n\
                    update-menus\n fi\n ldconfig\n  dpkg-maintscript-helper rm_conffile /etc/x 1.0~ -- \"$@\"\nfi\n";
        assert!(
            matches!(classify("postinst", text, ""), Class::Handled(_)),
            "{:?}",
            classify("postinst", text, "")
        );
    }

    #[test]
    fn the_hash_does_not_see_comments_and_blanks() {
        let one = classify("postinst", "#!/bin/sh\n\nuseradd   acme # no\n", "");
        let two = classify("postinst", "#!/bin/sh\n# a comment\n  useradd acme # no", "");
        assert_eq!(one, two);
    }

    #[test]
    fn alternatives_with_slaves_are_read() {
        let text = "  update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n   --slave /usr/bin/nawk nawk /usr/bin/mawk\nupdate-alternatives --install $X";
        let all = alternatives(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].link, "/usr/bin/nawk");
        let gawk = Alternative {
            link: "/usr/bin/awk".into(),
            name: "awk".into(),
            path: "/usr/bin/gawk".into(),
            priority: 10,
            master: None,
        };
        let chosen = chosen([all, vec![gawk.clone()]].concat(), &|path| path.ends_with("awk"));
        // The slave is mawk's, and mawk was not chosen.
        assert_eq!(chosen, [gawk]);
    }

    #[test]
    fn alternatives_in_loops_over_known_words_are_read() {
        let text = "base=/usr/lib/jvm/j17\npriority=1711\njre_tools='java keytool'\nfor i in $jre_tools; do\n\
                    slave1=\"--slave \\\n $man/x \\\n y\"\nupdate-alternatives \\\n --install \\\n /usr/bin/$i $i \\\n\
                    ${base}/bin/$i \\\n $priority $slave1 $slave2\ndone\nupdate-alternatives --install /usr/bin/$j j /x 1\n\
                    for t in tigervncserver; do\nn=`echo $t | sed -e 's/tiger//'`;\n\
                    update-alternatives --install /usr/bin/$n $n /usr/bin/$t 80\ndone\n";
        let all = alternatives(text);
        let paths: Vec<&str> = all.iter().map(|alternative| alternative.path.as_str()).collect();
        assert_eq!(
            paths,
            ["/usr/lib/jvm/j17/bin/java", "/usr/lib/jvm/j17/bin/keytool", "/usr/bin/tigervncserver"]
        );
        assert_eq!(all[2].link, "/usr/bin/vncserver");
        assert_eq!((all[0].link.as_str(), all[0].priority), ("/usr/bin/java", 1711));
    }
}

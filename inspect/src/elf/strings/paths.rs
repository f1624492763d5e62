//! Absolute paths among constants.

use super::{STRING_BYTES, boring, run_of};

/// Directories whose files a program expects to find on the machine (Filesystem Hierarchy Standard 3.0). Those of
/// `/usr` that packages own, and those of other systems, say less.
const PREFIXES: [&[u8]; 24] = [
    b"/bin/",
    b"/dev/",
    b"/etc/",
    b"/home/",
    b"/lib/",
    b"/lib64/",
    b"/media/",
    b"/mnt/",
    b"/opt/",
    b"/proc/",
    b"/root/",
    b"/run/",
    b"/sbin/",
    b"/srv/",
    b"/sys/",
    b"/tmp/",
    b"/usr/bin/",
    b"/usr/lib/",
    b"/usr/lib64/",
    b"/usr/libexec/",
    b"/usr/local/",
    b"/usr/sbin/",
    b"/usr/share/",
    b"/var/",
];

const DEVICES: &[u8] = b"/dev/";

/// How a path stands among the constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// As a whole NUL-terminated string.
    Whole,
    /// As a word of a longer string.
    Inside,
    /// Right behind another string.
    Packed,
}

/// The path that begins with the slash at `at`, if it is one of interest.
pub(super) fn at(bytes: &[u8], at: usize) -> Option<(&str, Place)> {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(0);
    let rest = bytes.get(at..)?;
    if before != 0 && !rest.starts_with(DEVICES) {
        return None;
    }
    let prefix = PREFIXES.iter().find(|prefix| rest.starts_with(prefix))?;
    let run = run_of(rest, is_plain);
    let is_whole = before == 0 && rest.get(run.len()) == Some(&0);
    let (path, place) = if is_whole {
        (run, Place::Whole)
    } else {
        if prefix != &DEVICES || before == b'/' {
            return None;
        }
        (device(run), if before == 0 || !is_plain(before) { Place::Inside } else { Place::Packed })
    };
    let wanted = path.len() > prefix.len() && path.len() <= STRING_BYTES && !is_boring(path, place);
    wanted.then_some((path, place))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'_' | b'-' | b'+' | b'.' | b'@' | b'%' | b':' | b'*')
}

/// A device in the middle of a text: without the punctuation behind it, and without the next path.
fn device(run: &str) -> &str {
    let next = ["/dev/", "/etc/", "/proc/", "/sys/", "/usr/", "/var/"];
    let ends = next.iter().filter_map(|next| run[1..].find(next).map(|at| at + 1));
    let path = run.find(':').into_iter().chain(ends).min().map_or(run, |end| &run[..end]);
    path.trim_end_matches(['.', '-', '*', '/', '_', '+'])
}

fn is_boring(path: &str, place: Place) -> bool {
    let bare = path.trim_end_matches('/');
    let known = boring::PATHS.contains(&bare)
        || boring::DIRECTORIES.iter().any(|directory| path.starts_with(directory))
        || boring::SOURCES.iter().any(|ending| path.ends_with(ending));
    // Another string may follow a known device there; names that other devices' begin with are left to the person.
    let ends_here =
        |known: &&str| path.starts_with(*known) && !["/dev/tty", "/dev/fd", "/dev"].contains(known);
    let packed = place != Place::Whole && boring::PATHS.iter().any(ends_here);
    // A list for PATH, and where a build replaced the path of a package with one of its own length.
    known || packed || path.contains(":/") || path.contains("_placehold")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_interest() {
        let cases: [(&str, Option<(&str, Place)>); 24] = [
            ("\0/proc/cpuinfo\0", Some(("/proc/cpuinfo", Place::Whole))),
            ("\0/proc/sys/kernel/shmmax\0", Some(("/proc/sys/kernel/shmmax", Place::Whole))),
            ("\0/etc/default/acme\0", Some(("/etc/default/acme", Place::Whole))),
            ("\0/etc/ssl/acme.pem\0", Some(("/etc/ssl/acme.pem", Place::Whole))),
            ("\0/usr/share/doc/acme/manual.pdf\0", Some(("/usr/share/doc/acme/manual.pdf", Place::Whole))),
            ("\0/home/runner/acme.key\0", Some(("/home/runner/acme.key", Place::Whole))),
            ("\0/etc/ssl/certs/ca-certificates.crt\0", None),
            ("\0/proc/sys/kernel/osrelease\0", None),
            ("\0/etc/acme/x.conf\0", Some(("/etc/acme/x.conf", Place::Whole))),
            ("\0/dev/ttyUSB%d\0", Some(("/dev/ttyUSB%d", Place::Whole))),
            ("\0/usr/share/acme\0", Some(("/usr/share/acme", Place::Whole))),
            ("\0/sys/bus/usb/devices\0", Some(("/sys/bus/usb/devices", Place::Whole))),
            (" /dev/video0: %s\0", Some(("/dev/video0", Place::Inside))),
            ("\"/dev/acme0\".\0", Some(("/dev/acme0", Place::Inside))),
            ("x/dev/ttyACM0/dev/ttyS0", Some(("/dev/ttyACM0", Place::Packed))),
            ("x/dev/nullpointer", None),
            (">/dev/null 2>&1\0", None),
            ("\0/proc/self/maps\0", None),
            ("\0/bin/sh\0", None),
            ("\0/usr/share/locale/de\0", None),
            ("\0/home/me/src/x.cpp\0", None),
            ("\0/usr/local/bin:/bin:/usr/bin\0", None),
            ("\0/etc/acme with space\0", None),
            ("\0/foo/etc/x\0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(at(text.as_bytes(), 1), expected, "{text:?}");
        }
        let long = format!("\0/opt/{}\0", "x".repeat(300));
        assert_eq!(at(long.as_bytes(), 1), None);
    }
}

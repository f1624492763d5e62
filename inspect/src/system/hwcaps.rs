//! Directories with libraries for better processors.

/// Subdirectories in which loaders before glibc 2.37 looked first (its NEWS of 2.33 and 2.37; ld.so(8), "Hardware capabilities",
/// for what they were called).
const LEGACY: [&str; 12] = [
    "avx512_1", "haswell", "i586", "i686", "neon", "nosegneg", "sse2", "tls", "vfp", "x86_64", "xeon_phi",
    "power9",
];

/// The directory of a library below which a loader looks only on some processors; the path without its leading slash.
pub(super) fn directory(path: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    if !(name.ends_with(".so") || name.contains(".so.")) {
        return None;
    }
    if let Some((above, below)) = directory.split_once("glibc-hwcaps/") {
        let level = below.split('/').next().unwrap_or_default();
        let whole = above.is_empty() || above.ends_with('/');
        return (whole && !level.is_empty()).then(|| format!("/{above}glibc-hwcaps/{level}"));
    }
    // Vendors call directories by architecture too; only below one that loaders search does that mean something.
    let mut above = directory;
    let mut legacy = false;
    while let Some((next, last)) = above.rsplit_once('/').filter(|(_, last)| LEGACY.contains(last)) {
        legacy = !last.is_empty();
        above = next;
    }
    let last = above.rsplit('/').next().unwrap_or_default();
    let searched = matches!(last, "lib" | "lib32" | "lib64") || last.contains("-linux-gnu");
    (legacy && searched).then(|| format!("/{directory}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_for_processors() {
        let cases = [
            (
                "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libm.so.6",
                Some("/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3"),
            ),
            ("opt/acme/lib/haswell/x86_64/libacme.so.1", Some("/opt/acme/lib/haswell/x86_64")),
            ("usr/lib64/tls/libpthread.so.0", Some("/usr/lib64/tls")),
            ("opt/acme/x86_64/libacme.so", None),
            ("usr/lib/haswell/readme.txt", None),
            ("tls/libacme.so", None),
        ];
        for (path, expected) in cases {
            assert_eq!(directory(path).as_deref(), expected, "{path}");
        }
    }
}

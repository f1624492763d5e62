//! Paths in a root: links, tokens, and the directories of each architecture.

use super::{Node, Object, Root};

/// Symbolic links followed for one path; the kernel gives up after as many.
const LINKS: usize = 40;
/// Bytes of a path; the kernel refuses longer ones.
pub(super) const PATH_BYTES: usize = 4096;

/// Follows every link in `path` inside the root, as the kernel would after `chroot`; `None` if nothing is there.
#[must_use]
pub fn canonical(root: &dyn Root, path: &str) -> Option<String> {
    let mut pending: Vec<String> = components_reversed(path);
    let mut resolved = String::new();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component == ".." {
            let parent = resolved.rfind('/').unwrap_or(0);
            resolved.truncate(parent);
            continue;
        }
        let length = resolved.len();
        resolved.push('/');
        resolved.push_str(&component);
        if resolved.len() > PATH_BYTES {
            return None;
        }
        match root.node(&resolved)? {
            Node::Symlink(target) => {
                links += 1;
                if links > LINKS || target.len() > PATH_BYTES {
                    return None;
                }
                resolved.truncate(if target.starts_with('/') { 0 } else { length });
                pending.extend(components_reversed(&target));
            }
            Node::File if !pending.is_empty() => return None,
            Node::File | Node::Directory => {}
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    Some(resolved)
}

fn components_reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|component| !matches!(*component, "" | ".")).map(str::to_owned).collect()
}

/// The directory of an absolute path: `/` for what lies directly in it.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A name in a directory.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') { format!("{directory}{name}") } else { format!("{directory}/{name}") }
}

/// How a distribution laid out the directories its glibc searches by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// Debian's: a directory for each architecture, then `/lib` and `/usr/lib`.
    #[default]
    Debian,
    /// Debian's for the second word size of an architecture (`libc6-i386`): `/lib32`, then as above.
    Biarch,
    /// That of glibc itself, and most others: `/lib64` for 64 bits, `/lib` for 32.
    Upstream,
}

/// The directories a Debian glibc searches by itself, in its order.
#[must_use]
pub fn default_directories(class: u8, machine: &str) -> Vec<String> {
    Layout::Debian.default_directories(class, machine)
}

impl Layout {
    /// The directories glibc searches by itself, in its order.
    #[must_use]
    pub fn default_directories(self, class: u8, machine: &str) -> Vec<String> {
        let lib = self.lib(class, machine);
        let mut directories = vec![format!("/{lib}"), format!("/usr/{lib}")];
        if lib != "lib" && self != Self::Upstream {
            directories.extend(["/lib".to_owned(), "/usr/lib".to_owned()]);
        }
        directories
    }

    /// What `$LIB` stands for.
    #[must_use]
    pub fn lib(self, class: u8, machine: &str) -> String {
        match (self, class, machine) {
            (Self::Debian, ..) => {
                multiarch(class, machine).map_or_else(|| "lib".to_owned(), |triplet| format!("lib/{triplet}"))
            }
            (_, 32, "x86-64") => "libx32".to_owned(),
            (Self::Biarch, 32, _) => "lib32".to_owned(),
            // `--libdir` of those whose glibc knows two word sizes (`sysdeps/unix/sysv/linux/*/configure`).
            (_, 64, "x86-64" | "aarch64" | "ppc64" | "s390" | "sparc64" | "loongarch" | "riscv") => {
                "lib64".to_owned()
            }
            _ => "lib".to_owned(),
        }
    }

    /// The layout of a root, by where the loader of a program lies, or else by which directories exist.
    #[must_use]
    pub fn detect(root: &dyn Root, program: &Object) -> Self {
        let interpreter = program.interpreter.as_deref().and_then(|path| canonical(root, path));
        let triplet = multiarch(program.class, &program.machine);
        if let Some(file) = interpreter {
            match (file_name(parent(&file)), triplet) {
                (name, Some(triplet)) if name == triplet => return Self::Debian,
                ("lib32" | "libx32", _) => return Self::Biarch,
                _ => {}
            }
        }
        let exists = |path: &str| matches!(root.node(path), Some(Node::Directory));
        let multiarch = |triplet| ["/usr/lib/", "/lib/"].iter().any(|lib| exists(&format!("{lib}{triplet}")));
        if triplet.is_some_and(multiarch) {
            return Self::Debian;
        }
        let upstream = Self::Upstream.lib(program.class, &program.machine);
        if exists(&format!("/usr/{upstream}")) || exists(&format!("/{upstream}")) {
            Self::Upstream
        } else {
            Self::Debian
        }
    }
}

/// Debian's name for an architecture's libraries.
#[must_use]
pub fn multiarch(class: u8, machine: &str) -> Option<&'static str> {
    Some(match (class, machine) {
        (64, "x86-64") => "x86_64-linux-gnu",
        (32, "x86-64") => "x86_64-linux-gnux32",
        (32, "i386") => "i386-linux-gnu",
        (64, "aarch64") => "aarch64-linux-gnu",
        (32, "arm") => "arm-linux-gnueabihf",
        (64, "riscv") => "riscv64-linux-gnu",
        (64, "ppc64") => "powerpc64le-linux-gnu",
        (64, "s390") => "s390x-linux-gnu",
        (64, "loongarch") => "loongarch64-linux-gnu",
        _ => return None,
    })
}

/// What the tokens of a search path stand for.
pub(super) struct Tokens<'t> {
    /// `$ORIGIN`: the directory of the file the search path stands in.
    pub(super) origin: &'t str,
    /// `$LIB`.
    pub(super) lib: &'t str,
    /// `$PLATFORM`.
    pub(super) platform: &'t str,
}

impl Tokens<'_> {
    /// Replaces the tokens; `None` if the result is too long.
    ///
    /// As glibc's `_dl_dst_substitute`: `$NAME` must not be followed by a letter, digit or underscore, `${NAME}` may be
    /// followed by anything, and what is no token stays as it is.
    pub(super) fn expand(&self, entry: &str) -> Option<String> {
        let mut expanded = String::new();
        let mut rest = entry;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let token = [("ORIGIN", self.origin), ("LIB", self.lib), ("PLATFORM", self.platform)]
                .into_iter()
                .find_map(|(name, value)| Some((value, after_token(after, name)?)));
            match token {
                Some((value, after)) => {
                    expanded.push_str(value);
                    rest = after;
                }
                None => {
                    expanded.push('$');
                    rest = after;
                }
            }
            if expanded.len() > PATH_BYTES {
                return None;
            }
        }
        expanded.push_str(rest);
        (expanded.len() <= PATH_BYTES).then_some(expanded)
    }
}

fn after_token<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.strip_prefix(name)?.strip_prefix('}');
    }
    let after = text.strip_prefix(name)?;
    let continues = after.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (!continues).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let tokens = Tokens { origin: "/o", lib: "lib64", platform: "x86_64" };
        for (entry, expected) in [
            ("$ORIGIN/../lib", "/o/../lib"),
            ("${ORIGIN}x/$LIB/$PLATFORM", "/ox/lib64/x86_64"),
            ("$ORIGINAL/$LIB64/$x$", "$ORIGINAL/$LIB64/$x$"),
            ("${LIB", "${LIB"),
        ] {
            assert_eq!(tokens.expand(entry).as_deref(), Some(expected));
        }
        let long = "$ORIGIN".repeat(2000);
        assert_eq!(Tokens { origin: "/abc", lib: "", platform: "" }.expand(&long), None);
    }

    #[test]
    fn layouts() {
        let x86 = |layout: Layout| layout.default_directories(64, "x86-64").join(" ");
        assert_eq!(x86(Layout::Debian), "/lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu /lib /usr/lib");
        assert_eq!(x86(Layout::Upstream), "/lib64 /usr/lib64");
        assert_eq!(
            Layout::Biarch.default_directories(32, "i386").join(" "),
            "/lib32 /usr/lib32 /lib /usr/lib"
        );
        assert_eq!(Layout::Upstream.default_directories(32, "i386").join(" "), "/lib /usr/lib");
    }
}

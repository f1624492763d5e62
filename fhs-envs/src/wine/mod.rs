//! Wine, the runner of Windows programs: what it takes, where it is in a tree, and what a prefix is made of.
//!
//! A prefix is Wine's picture of a Windows machine: drive C:, registry, devices. It is made once, when the tree is built
//! (`build/wine.rs`), lies in the tree at [`PREFIX`], and is copied as the tool's state at the first run.

pub mod check;
pub mod registry;

use crate::debian::relation::{self, Alternatives};

/// What a lock calls it.
pub const RUNNER: &str = "wine";
/// The prefix, in the tree and where the tool has its own copy of it.
pub const PREFIX: &str = "/var/lib/wine";
/// A change of this number makes every prefix anew: it stands for what is done to what `wineboot` made.
pub const PREFIX_VERSION: u32 = 1;
/// A file of the prefix that names what it was made from: the first line for people, the second a digest.
pub const MARK: &str = ".hatchway";
/// Where its loaders are: the 32-bit one first, since only a prefix that it makes has a 32-bit part. Each starts the other
/// one, which lies beside it, for programs that are not its own.
pub const LOADERS: [&str; 2] = ["/usr/lib/wine/wine", "/usr/lib/wine/wine64"];
/// Who a program is: Wine takes the name of `C:\users\…` from `USER`, so it is the same when the prefix is made and used.
pub const USER: &str = "tool";
/// The package whose version is Wine's.
pub const PACKAGE: &str = "wine64";

/// What beside it Wine loads where it is there: cryptography.
const BESIDE: [&str; 1] = ["libgnutls30t64 | libgnutls30"];
/// The same for windows: the X extensions that its driver asks for, and fonts with the measures of Windows' own.
const FOR_WINDOWS: [&str; 11] = [
    "libxcomposite1",
    "libxcursor1",
    "libxfixes3",
    "libxi6",
    "libxinerama1",
    "libxrandr2",
    "libxrender1",
    "libxxf86vm1",
    "libgl1",
    "fonts-liberation",
    "fonts-wine",
];

/// The packages of the runner: also for 32-bit programs, and for those that open windows.
#[must_use]
pub fn packages(bits_32: bool, windows: bool) -> Vec<Alternatives> {
    let mut wanted = vec!["wine", PACKAGE];
    wanted.extend(BESIDE);
    if bits_32 {
        wanted.push("wine32:i386");
    }
    if windows {
        wanted.extend(FOR_WINDOWS);
    }
    // Names of a table of ours.
    wanted.into_iter().flat_map(|name| relation::parse(name, "amd64").unwrap_or_default()).collect()
}

/// What a Windows program finds in its environment, and what is run while its tree is built.
#[must_use]
pub fn environment() -> [(&'static str, &'static str); 3] {
    // Messages of Wine's own are for its developers; a recipe's `env` turns them on again.
    [("WINEPREFIX", PREFIX), ("WINEDEBUG", "-all"), ("USER", USER)]
}

/// Whether a program is one for Windows by its name; the content of one that is in the tree says it better.
#[must_use]
pub fn is_named_like_one(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program).to_ascii_lowercase();
    [".exe", ".com", ".bat", ".cmd", ".msi"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_for_what_is_there() {
        let names = |bits_32, windows| -> Vec<String> {
            packages(bits_32, windows)
                .into_iter()
                .filter_map(|group| Some(group.first()?.name.clone()))
                .collect()
        };
        assert_eq!(names(false, false), ["wine", "wine64", "libgnutls30t64"]);
        assert_eq!(names(true, false).last().map(String::as_str), Some("wine32"));
        assert_eq!(packages(false, true).len(), 3 + FOR_WINDOWS.len());
    }

    #[test]
    fn names_of_windows_programs() {
        assert!(is_named_like_one("/opt/acme/Acme.EXE") && is_named_like_one("setup.msi"));
        assert!(!is_named_like_one("/bin/sh") && !is_named_like_one("/opt/acme.exe/readme"));
    }
}

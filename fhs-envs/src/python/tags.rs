//! Which wheels fit a Python ("Platform compatibility tags" of the PyPA specifications; PEP 425, PEP 600).

use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

/// A CPython of a Debian suite on x86-64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its minor version: 11 of 3.11.
    pub minor: u32,
    /// Its whole version: `3.11.2`.
    pub full: String,
    /// The minor version of the suite's glibc: 36 of 2.36.
    pub glibc_minor: u32,
}

/// What a wheel's file name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The project, as written.
    pub name: String,
    /// The version, as written.
    pub version: String,
    /// The build number; later ones replace earlier ones.
    build: (u64, String),
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// How well a wheel fits: less is better.
pub(super) type Rank = (u32, u32, u32, std::cmp::Reverse<(u64, String)>);

impl WheelName {
    /// Reads a file name; none if it is not a wheel's.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let fields: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (name, version, build, tags) = match fields[..] {
            [name, version, python, abi, platform] => (name, version, "", [python, abi, platform]),
            [name, version, build, python, abi, platform] => (name, version, build, [python, abi, platform]),
            _ => return None,
        };
        let digits = build.chars().take_while(char::is_ascii_digit).count();
        let number = build[..digits].parse().unwrap_or(0);
        let [pythons, abis, platforms] = tags.map(|tag| tag.split('.').map(str::to_owned).collect());
        let build = (number, build[digits..].to_owned());
        Some(Self { name: name.into(), version: version.into(), build, pythons, abis, platforms })
    }

    /// Whether it may hold modules in machine code: such have an ABI, which its tags then name (PEP 425).
    #[must_use]
    pub fn has_abi(&self) -> bool {
        self.abis.iter().any(|abi| abi != "none")
    }

    /// The minor version of the Python that it is made for, where its name says one.
    fn made_for(&self) -> Option<u32> {
        self.pythons.iter().filter_map(|tag| minor(tag, "cp3")).max()
    }
}

/// The Pythons of the suites that are tried first: bookworm's, trixie's, bullseye's.
const USUAL: [u32; 3] = [11, 13, 9];

/// The Python that a wheel is best installed for: the one it is made for, or of the usual ones the first that its name
/// and `Requires-Python` allow.
#[must_use]
pub fn suitable(file: &str, requires_python: Option<&str>) -> String {
    let allowed = |minor: u32| {
        let wish = requires_python.and_then(|wish| VersionSpecifiers::from_str(wish).ok());
        let version = Version::new([3, u64::from(minor)]);
        wish.is_none_or(|wish| wish.contains(&version))
    };
    let name = WheelName::parse(file);
    let exact = name.as_ref().and_then(WheelName::made_for);
    let fits = |minor: u32| {
        let target = Target { minor, full: format!("3.{minor}"), glibc_minor: u32::MAX };
        allowed(minor) && name.as_ref().is_none_or(|name| target.rank(name).is_some())
    };
    let usual = USUAL.into_iter().find(|minor| fits(*minor));
    let minor = usual.or(exact).unwrap_or(USUAL[0]);
    format!("3.{minor}")
}

impl Target {
    /// `3.11`
    #[must_use]
    pub fn python(&self) -> String {
        format!("3.{}", self.minor)
    }

    /// How well a wheel fits, if it does.
    pub(super) fn rank(&self, wheel: &WheelName) -> Option<Rank> {
        let mut best: Option<(u32, u32, u32)> = None;
        for python in &wheel.pythons {
            for abi in &wheel.abis {
                for platform in &wheel.platforms {
                    let rank = self.rank_of(python, abi, platform);
                    best = [best, rank].into_iter().flatten().min();
                }
            }
        }
        best.map(|(class, distance, platform)| {
            (class, distance, platform, std::cmp::Reverse(wheel.build.clone()))
        })
    }

    /// In the order of `packaging.tags.sys_tags`: this CPython's own, the stable ABI back to 3.2, then any Python 3.
    fn rank_of(&self, python: &str, abi: &str, platform: &str) -> Option<(u32, u32, u32)> {
        let any = platform == "any";
        let place = if any { 0 } else { self.platform(platform)? };
        let own = format!("cp3{}", self.minor);
        let older = minor(python, "cp3").and_then(|minor| self.minor.checked_sub(minor));
        let generic = if python == "py3" {
            Some(1)
        } else {
            minor(python, "py3").and_then(|minor| self.minor.checked_sub(minor)).map(|distance| distance * 2)
        };
        match abi {
            _ if python == own && abi == own && !any => Some((0, 0, place)),
            "abi3" if python == own && !any => Some((1, 0, place)),
            "none" if python == own => Some((if any { 5 } else { 2 }, 0, place)),
            "abi3" if !any && self.minor - older? >= 2 => Some((3, older?, place)),
            "none" => Some((if any { 6 } else { 4 }, generic?, place)),
            _ => None,
        }
    }

    /// Newer glibc first; the old names stand for 2.17, 2.12 and 2.5.
    fn platform(&self, platform: &str) -> Option<u32> {
        let minor = match platform {
            "linux_x86_64" => return Some(1000),
            "manylinux2014_x86_64" => 17,
            "manylinux2010_x86_64" => 12,
            "manylinux1_x86_64" => 5,
            _ => {
                let version = platform.strip_prefix("manylinux_2_")?.strip_suffix("_x86_64")?;
                version.parse().ok()?
            }
        };
        self.glibc_minor.checked_sub(minor)
    }
}

fn minor(tag: &str, prefix: &str) -> Option<u32> {
    let digits = tag.strip_prefix(prefix)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        None
    } else {
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookworm() -> Target {
        Target { minor: 11, full: "3.11.2".into(), glibc_minor: 36 }
    }

    fn rank(file: &str) -> Option<Rank> {
        bookworm().rank(&WheelName::parse(file)?)
    }

    #[test]
    fn wheels_that_fit_in_the_order_of_pip() {
        let order = [
            "x-1-2-cp311-cp311-manylinux_2_28_x86_64.whl",
            "x-1-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "x-1-cp311-cp311-linux_x86_64.whl",
            "x-1-cp311-abi3-manylinux_2_28_x86_64.whl",
            "x-1-cp39-abi3-manylinux_2_28_x86_64.whl",
            "x-1-cp37-abi3-manylinux1_x86_64.whl",
            "x-1-py3-none-manylinux2010_x86_64.whl",
            "x-1-py3-none-any.whl",
            "x-1-py36-none-any.whl",
        ];
        let ranks: Vec<Rank> =
            order.iter().map(|file| rank(file).unwrap_or_else(|| panic!("{file}"))).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert_eq!(rank("x-1-py2.py3-none-any.whl"), rank("x-1-py3-none-any.whl"));
    }

    #[test]
    fn wheels_that_do_not_fit() {
        for file in [
            "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_37_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_28_aarch64.whl",
            "x-1-cp311-cp311-musllinux_1_1_x86_64.whl",
            "x-1-cp311-cp311t-manylinux_2_28_x86_64.whl",
            "x-1-cp311-cp311-win_amd64.whl",
            "x-1-cp312-abi3-manylinux_2_28_x86_64.whl",
            "x-1-py2-none-any.whl",
            "x-1-py312-none-any.whl",
            "x-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl",
        ] {
            assert_eq!(rank(file), None, "{file}");
        }
        for file in ["x-1.tar.gz", "x.whl", "x-1-2-3-4-5-6-7.whl"] {
            assert_eq!(WheelName::parse(file), None, "{file}");
        }
    }

    #[test]
    fn a_wheel_says_which_python() {
        for (file, wish, python) in [
            ("x-1-cp39-abi3-manylinux_2_31_x86_64.whl", None, "3.11"),
            ("x-1-cp313-cp313-manylinux_2_28_x86_64.whl", Some(">=3.9"), "3.13"),
            ("x-1-cp312-cp312-manylinux_2_28_x86_64.whl", None, "3.12"),
            ("x-1-py3-none-any.whl", Some(">=3.12"), "3.13"),
            ("x-1-py3-none-any.whl", Some("<3.10"), "3.9"),
            ("x-1-py3-none-any.whl", None, "3.11"),
        ] {
            assert_eq!(suitable(file, wish), python, "{file} {wish:?}");
        }
    }
}

//! The locales that a recipe asks for, compiled by the tree's `localedef` from the sources of the package `locales`.
//!
//! As `locale-gen` calls it, but into a folder of its own for each locale instead of one archive: an archive is changed in
//! place and depends on the order.

use std::collections::BTreeMap;
use std::io::Read;

use super::merge::Merge;
use super::sandboxed::Step;
use super::triggers::Trigger;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// The package with the sources.
pub const PACKAGE: &str = "locales";
/// Bytes of an uncompressed character map; the largest is 1.9 MB.
const CHARMAP_BYTES_MAX: u64 = 16 << 20;
/// The list of locales with their character maps: `de_DE.UTF-8 UTF-8`.
const SUPPORTED: &str = "usr/share/i18n/SUPPORTED";

/// Locales that are there without being compiled.
fn is_builtin(name: &str) -> bool {
    matches!(name, "C" | "POSIX" | "C.UTF-8" | "C.utf8")
}

/// Whether a recipe's locales need the sources.
#[must_use]
pub fn need_sources(wanted: &[String]) -> bool {
    wanted.iter().any(|name| !is_builtin(name))
}

/// One run of `localedef` for each.
pub(crate) fn wanted(
    merge: &Merge,
    workspace: &Workspace<'_>,
    wanted: &[String],
) -> Result<Vec<Trigger>, Error> {
    let mut triggers = Vec::new();
    for name in wanted.iter().filter(|name| !is_builtin(name)) {
        triggers.push(one(merge, workspace, name)?);
    }
    Ok(triggers)
}

fn one(merge: &Merge, workspace: &Workspace<'_>, name: &str) -> Result<Trigger, Error> {
    let step = format!("the locale `{name}`");
    let failed = |reason: &str| Error::BuildStep { step: step.clone(), reason: reason.to_owned() };
    let read = |path: &str| match merge.node(path) {
        Some(Node::File { sha256, executable, .. }) => Some(workspace.read(*sha256, *executable)),
        _ => None,
    };
    let supported =
        read(SUPPORTED).ok_or_else(|| failed("the package `locales` is not in the environment"))??;
    let supported = String::from_utf8_lossy(&supported).into_owned();
    let charset =
        charset(&supported, name).ok_or_else(|| failed("`/usr/share/i18n/SUPPORTED` does not list it"))?;
    let compressed = format!("usr/share/i18n/charmaps/{charset}.gz");
    let charmap =
        read(&compressed).ok_or_else(|| failed("its character map is not in the package `locales`"))??;
    let mut text = Vec::new();
    let read =
        flate2::read::MultiGzDecoder::new(&charmap[..]).take(CHARMAP_BYTES_MAX + 1).read_to_end(&mut text);
    if !read.is_ok_and(|size| u64::try_from(size).is_ok_and(|size| size <= CHARMAP_BYTES_MAX)) {
        return Err(failed("its character map cannot be unpacked"));
    }
    // localedef would call gzip, which an environment need not have.
    let inputs = BTreeMap::from([(format!("charmaps/{charset}"), text)]);
    let folder = normal_name(name);
    let out = format!("/run/out/{folder}");
    let source = source(name);
    let alias = "/usr/share/locale/locale.alias";
    let mut args = vec!["--no-archive", "-c", "-i", &source, "-f", charset];
    if merge.node(alias).is_some() {
        args.extend(["-A", alias]);
    }
    args.push(&out);
    let mut run = Step::new(&step, "/usr/bin/localedef", &args);
    run.env.insert("I18NPATH".into(), "/run/in".into());
    Ok(Trigger::locale(run, "usr/lib/locale".into(), inputs, &["usr/share/i18n/locales", alias]))
}

/// The character map of a locale by its name in the list.
fn charset<'a>(supported: &'a str, name: &str) -> Option<&'a str> {
    let plain = |charset: &&str| charset.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let lines = supported.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(locale, _)| *locale == name).map(|(_, charset)| charset.trim()).find(plain)
}

/// `de_DE.UTF-8@euro` is made from the source `de_DE@euro`.
fn source(name: &str) -> String {
    let (language, modifier) =
        name.split_once('@').map_or((name, String::new()), |(l, m)| (l, format!("@{m}")));
    format!("{}{modifier}", language.split('.').next().unwrap_or(language))
}

/// The folder that glibc looks for: the character set in small letters without punctuation.
fn normal_name(name: &str) -> String {
    let (rest, modifier) = name.split_once('@').map_or((name, String::new()), |(l, m)| (l, format!("@{m}")));
    match rest.split_once('.') {
        Some((language, charset)) => {
            let charset: String = charset.chars().filter(char::is_ascii_alphanumeric).collect();
            let iso = if charset.bytes().all(|b| b.is_ascii_digit()) { "iso" } else { "" };
            format!("{language}.{iso}{}{modifier}", charset.to_ascii_lowercase())
        }
        None => format!("{rest}{modifier}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_sources_and_folders() {
        for (name, made_from, folder) in [
            ("en_US.UTF-8", "en_US", "en_US.utf8"),
            ("de_DE.UTF-8@euro", "de_DE@euro", "de_DE.utf8@euro"),
            ("de_DE@euro", "de_DE@euro", "de_DE@euro"),
            ("fr_FR.ISO-8859-15", "fr_FR", "fr_FR.iso885915"),
            ("el_GR", "el_GR", "el_GR"),
        ] {
            assert_eq!((source(name).as_str(), normal_name(name).as_str()), (made_from, folder), "{name}");
        }
    }

    #[test]
    fn the_list_says_the_character_map() {
        let list = "de_DE ISO-8859-1\nde_DE.UTF-8 UTF-8\nx_X ../../etc/passwd\n";
        assert_eq!(charset(list, "de_DE"), Some("ISO-8859-1"));
        assert_eq!(charset(list, "de_DE.UTF-8"), Some("UTF-8"));
        assert_eq!(charset(list, "x_X"), None);
        assert_eq!(charset(list, "en_US.UTF-8"), None);
    }
}

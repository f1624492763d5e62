//! What a package says about itself.

use super::header::Header;
use crate::PackageFacts;
use crate::facts::PackageKind;

/// Tags (rpmtag.h).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SUMMARY: u32 = 1004;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const PACKAGER: u32 = 1015;
const GROUP: u32 = 1016;
const URL: u32 = 1020;
const ARCHITECTURE: u32 = 1022;

/// Relations: the tags of names, of flags and of versions.
const PROVIDES: [u32; 3] = [1047, 1112, 1113];
const REQUIRES: [u32; 3] = [1049, 1048, 1050];
const CONFLICTS: [u32; 3] = [1054, 1053, 1055];
const OBSOLETES: [u32; 3] = [1090, 1114, 1115];
const RECOMMENDS: [u32; 3] = [5046, 5048, 5047];

/// `RPMSENSE_LESS`, `RPMSENSE_GREATER`, `RPMSENSE_EQUAL`.
const LESS: u64 = 1 << 1;
const GREATER: u64 = 1 << 2;
const EQUAL: u64 = 1 << 3;

/// Relations of one kind that are listed; the kernel's packages provide some ten thousand symbols.
const RELATIONS: usize = 65_536;
/// Bytes of all relations of one kind.
const RELATIONS_BYTES: usize = 4 << 20;
/// Characters of one text.
const TEXT: usize = 4096;

/// Reads the facts; `None` without a name.
pub(super) fn read(header: &Header) -> Option<PackageFacts> {
    let text = |tag| header.string(tag).map(|text| one_line(&text)).filter(|text| !text.is_empty());
    let name = text(NAME)?;
    let mut version = text(VERSION).unwrap_or_default();
    if let Some(release) = text(RELEASE) {
        version = format!("{version}-{release}");
    }
    if let Some(epoch) = header.numbers(EPOCH).first().filter(|&&epoch| epoch != 0) {
        version = format!("{epoch}:{version}");
    }
    let joined = |tags| {
        let all = relations(header, tags);
        (!all.is_empty()).then(|| all.join(", "))
    };
    let mut requires = relations(header, REQUIRES);
    requires.retain(|relation| !relation.starts_with("rpmlib("));
    requires.sort();
    requires.dedup();
    Some(PackageFacts {
        architecture: text(ARCHITECTURE),
        section: text(GROUP).filter(|group| group != "Unspecified"),
        vendor: text(VENDOR),
        maintainer: text(PACKAGER),
        homepage: text(URL),
        license: text(LICENSE),
        description: text(SUMMARY),
        recommends: joined(RECOMMENDS),
        provides: joined(PROVIDES),
        conflicts: joined(CONFLICTS),
        replaces: joined(OBSOLETES),
        requires,
        ..PackageFacts::new(PackageKind::Rpm, name, version)
    })
}

/// Relations as `name`, or `name >= version`, in the order of the header.
fn relations(header: &Header, [names, flags, versions]: [u32; 3]) -> Vec<String> {
    let (flags, versions) = (header.numbers(flags), header.strings(versions));
    let named = header.raw_strings(names).take(RELATIONS).enumerate();
    let text = |(index, name): (usize, &[u8])| {
        let name = String::from_utf8_lossy(name);
        let flags = flags.get(index).copied().unwrap_or(0);
        relation(&name, flags, versions.get(index).map_or("", String::as_str))
    };
    let mut bytes = 0_usize;
    let within = |relation: &String| {
        bytes = bytes.saturating_add(relation.len());
        bytes <= RELATIONS_BYTES
    };
    named.map(text).take_while(within).collect()
}

/// One relation as `rpm -q --requires` shows it.
pub(super) fn relation(name: &str, flags: u64, version: &str) -> String {
    let signs = [(LESS, '<'), (GREATER, '>'), (EQUAL, '=')];
    let sign: String = signs.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, sign)| sign).collect();
    let name = one_line(name);
    if sign.is_empty() || version.is_empty() { name } else { format!("{name} {sign} {}", one_line(version)) }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(TEXT).collect()
}

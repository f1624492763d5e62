//! What made an installer, and what packed or protects a program.

use memchr::memmem;

use super::image::{Image, Section};
use super::version::Version;

/// Bytes behind the program that are searched for words which stand near its beginning or end.
const SEARCHED: usize = 256 << 20;
/// Bytes of a version behind such a word.
const VERSION: usize = 24;
/// Where the header of NSIS may begin behind the program: at any of the first sectors, when something was put before it.
const NSIS_SECTORS: usize = 64;

/// Signs that are names of sections, by their beginning.
type Names = &'static [(&'static [u8], &'static str)];

const PACKERS: Names = &[
    (b"UPX0", "UPX"),
    (b"UPX1", "UPX"),
    (b".vmp", "VMProtect"),
    (b".themida", "Themida"),
    (b"Themida", "Themida"),
    (b".winlice", "WinLicense"),
    (b"WinLicen", "WinLicense"),
    (b".aspack", "ASPack"),
    (b"ASPack", "ASPack"),
    (b".MPRESS", "MPRESS"),
    (b".petite", "Petite"),
    (b"PEC2", "PECompact"),
    (b"pec1", "PECompact"),
    (b"PECompac", "PECompact"),
    (b".enigma", "Enigma Protector"),
    (b".nsp0", "NsPack"),
    (b".nsp1", "NsPack"),
    (b"nsp0", "NsPack"),
    // AxProtector encrypts programs for dongles of the same vendor.
    (b"__wibu", "CodeMeter AxProtector"),
    (b".sforce", "StarForce"),
    (b".securom", "SecuROM"),
    (b".taz", "PESpin"),
    (b".RLPack", "RLPack"),
    (b"PELOCKnt", "PELock"),
    (b".MaskPE", "MaskPE"),
    (b".spack", "Simple Pack"),
    (b"BitArts", "Crunch"),
];

const INSTALLER_SECTIONS: Names =
    &[(b".wixburn", "WiX Burn"), (b".ndata", "NSIS"), (b"_winzip_", "WinZip SFX")];

/// Words of the texts of a version resource.
const INSTALLER_TEXTS: [(&str, &str); 9] = [
    ("built with Inno Setup", "Inno Setup"),
    ("InstallShield", "InstallShield"),
    ("InstallAware", "InstallAware"),
    ("7z Setup SFX", "7-Zip SFX"),
    ("7-Zip SFX", "7-Zip SFX"),
    ("7z SFX", "7-Zip SFX"),
    ("Win32 Cabinet Self-Extractor", "IExpress"),
    ("InstallAnywhere", "InstallAnywhere"),
    ("BitRock", "InstallBuilder"),
];

/// Words of the manifest.
const INSTALLER_MANIFESTS: [(&str, &str); 4] = [
    ("Nullsoft.NSIS", "NSIS"),
    ("JR.Inno.Setup", "Inno Setup"),
    ("InstallShield", "InstallShield"),
    ("InstallAware", "InstallAware"),
];

/// What the data behind the program begins with.
const INSTALLER_HEADS: Names = &[
    (b"7z\xbc\xaf\x27\x1c", "7-Zip SFX"),
    (b";!@Install@!UTF-8!", "7-Zip SFX"),
    (b"\xef\xbb\xbf;!@Install@!UTF-8!", "7-Zip SFX"),
    (b"Rar!\x1a\x07", "WinRAR SFX"),
    (b"InstallShield\0", "InstallShield"),
    (b"ISSetupStream", "InstallShield"),
    (b"ISc(", "InstallShield"),
];

/// The last bytes of an installer of the Qt Installer Framework: `MagicCookie` of its `binaryformat`.
const QT_COOKIE: [u8; 8] = 0xc263_0a1c_99d6_68f8_u64.to_le_bytes();
/// `firstheader` of NSIS: flags, then this.
const NSIS_HEADER: &[u8] = b"\xef\xbe\xad\xdeNullsoftInst";
/// What precedes the version in the data of Inno Setup.
const INNO_DATA: &[u8] = b"Inno Setup Setup Data (";
/// What precedes the version in the manifest of NSIS.
const NSIS_VERSION: &str = "Nullsoft Install System v";

/// Where signs of a maker are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs<'s> {
    pub(super) image: &'s Image<'s>,
    pub(super) version: Option<&'s Version>,
    /// The text of the manifest.
    pub(super) manifest: &'s str,
    /// Names of resource types.
    pub(super) types: &'s [String],
    /// Data behind the program, as far as it is at hand.
    pub(super) appended: &'s [u8],
}

/// What packed the program.
pub(super) fn packer(image: &Image<'_>) -> Option<String> {
    by_section(&image.sections, PACKERS).map(str::to_owned)
}

/// What made the installer, with its version where that is known.
pub(super) fn installer(signs: &Signs<'_>) -> Option<String> {
    let name = by_section(&signs.image.sections, INSTALLER_SECTIONS)
        .or_else(|| by_content(signs.appended))
        .or_else(|| by_text(signs.manifest, &INSTALLER_MANIFESTS))
        .or_else(|| signs.version?.texts().find_map(|text| by_text(text, &INSTALLER_TEXTS)))
        .or_else(|| by_structure(signs))?;
    let version = match name {
        "NSIS" => signs.manifest.split_once(NSIS_VERSION).and_then(|(_, rest)| number(rest.as_bytes())),
        "Inno Setup" => inno_version(signs.appended),
        _ => None,
    };
    Some(version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}")))
}

fn by_section(sections: &[Section<'_>], known: Names) -> Option<&'static str> {
    sections.iter().find_map(|section| by_head(section.name, known))
}

fn by_head(bytes: &[u8], known: Names) -> Option<&'static str> {
    known.iter().find(|(sign, _)| bytes.starts_with(sign)).map(|(_, name)| *name)
}

fn by_text(text: &str, known: &[(&str, &'static str)]) -> Option<&'static str> {
    known.iter().find(|(sign, _)| text.contains(sign)).map(|(_, name)| *name)
}

fn by_content(appended: &[u8]) -> Option<&'static str> {
    let mut sectors = appended.chunks(512).take(NSIS_SECTORS);
    if sectors.any(|sector| sector.get(4..).is_some_and(|rest| rest.starts_with(NSIS_HEADER))) {
        return Some("NSIS");
    }
    if appended.ends_with(&QT_COOKIE) {
        return Some("Qt Installer Framework");
    }
    by_head(appended, INSTALLER_HEADS)
}

/// Signs that count only together.
fn by_structure(signs: &Signs<'_>) -> Option<&'static str> {
    // Squirrel's Setup.exe unpacks a resource of the type `DATA` into a folder of this name.
    if signs.types.iter().any(|name| name == "DATA") && in_sections(signs.image, &wide("SquirrelTemp")) {
        return Some("Squirrel");
    }
    let tail = signs.appended.get(signs.appended.len().saturating_sub(4096)..)?;
    if memmem::find(tail, b"ADVINSTSFX").is_some() {
        return Some("Advanced Installer");
    }
    // The loader of Inno Setup without its version resource.
    memmem::find(searched(signs.appended), INNO_DATA).map(|_| "Inno Setup")
}

fn in_sections(image: &Image<'_>, word: &[u8]) -> bool {
    let end = usize::try_from(image.end()).unwrap_or(usize::MAX).min(image.bytes.len());
    memmem::find(image.bytes.get(..end).unwrap_or_default(), word).is_some()
}

fn inno_version(appended: &[u8]) -> Option<String> {
    let appended = searched(appended);
    let at = memmem::find(appended, INNO_DATA)?;
    number(appended.get(at.checked_add(INNO_DATA.len())?..)?)
}

fn searched(appended: &[u8]) -> &[u8] {
    appended.get(..appended.len().min(SEARCHED)).unwrap_or_default()
}

/// The version at the beginning: digits, dots and letters up to something else.
fn number(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(VERSION).take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
    let text = bytes.get(..end).and_then(|text| std::str::from_utf8(text).ok())?;
    let text = text.trim_end_matches('.');
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.to_owned())
}

fn wide(word: &str) -> Vec<u8> {
    word.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_end_where_they_end() {
        assert_eq!(number(b"6.2.0) (u)").as_deref(), Some("6.2.0"));
        assert_eq!(number(b"3.08</description>").as_deref(), Some("3.08"));
        assert_eq!(number(b"x"), None);
        assert_eq!(inno_version(b"..Inno Setup Setup Data (5.5.7) (u)\0\0").as_deref(), Some("5.5.7"));
    }

    #[test]
    fn appended_data_tells_its_maker() {
        let mut nsis = vec![0; 516];
        nsis.extend_from_slice(NSIS_HEADER);
        assert_eq!(by_content(&nsis), Some("NSIS"));
        assert_eq!(by_content(b"7z\xbc\xaf\x27\x1c\0\x04"), Some("7-Zip SFX"));
        assert_eq!(by_content(&QT_COOKIE), Some("Qt Installer Framework"));
        assert_eq!(by_content(b"data"), None);
    }
}

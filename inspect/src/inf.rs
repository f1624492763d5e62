//! Windows driver descriptions.
//!
//! Sections, entries and `%names%` are those of Microsoft's "General Syntax Rules for INF Files"; which section leads to
//! which, of "INF Manufacturer Section" and "INF Models Section".

use std::collections::BTreeMap;

use crate::WindowsDriver;

/// Bytes of a file worth reading; display drivers for hundreds of cards have about 2 MiB.
const BYTES: usize = 16 << 20;
/// Lines, entries and sections are bounded by this together.
const LINES: usize = 262_144;
/// Characters of a value; the format allows 4096 per line, continuations included.
const VALUE: usize = 4096;
/// Names replaced in one value.
const REPLACED: usize = 32;
/// Identifiers and services kept.
const HARDWARE_IDS: usize = 256;
const SERVICES: usize = 64;
/// Manufacturers, and targets (`NTamd64`) of one.
const MANUFACTURERS: usize = 256;
const TARGETS: usize = 64;

/// Reads the `.inf` file in `bytes`, in whatever encoding it is.
pub(crate) fn read(path: &str, bytes: &[u8]) -> WindowsDriver {
    let text = decoded(bytes.get(..bytes.len().min(BYTES)).unwrap_or_default());
    let inf = Inf::read(&text);
    let version = |key: &str| inf.value("version", key);
    WindowsDriver {
        path: path.to_owned(),
        class: version("class"),
        provider: version("provider"),
        version: version("driverver"),
        catalog: inf.catalog(),
        hardware_ids: inf.hardware_ids(),
        services: inf.services(),
    }
}

/// A section's entries in order: key, if there is one, and values.
type Entries = Vec<(Option<String>, Vec<String>)>;

/// A parsed file. Names of sections and keys are in lower case: they are compared without regard to it.
#[derive(Debug, Default)]
struct Inf {
    sections: BTreeMap<String, Entries>,
    strings: BTreeMap<String, String>,
}

impl Inf {
    fn read(text: &str) -> Self {
        let mut inf = Self::default();
        let mut current: Option<String> = None;
        for line in lines(text) {
            if let Some(name) = section(&line) {
                // A section that appears twice is one.
                inf.sections.entry(name.clone()).or_default();
                current = Some(name);
            } else if let Some(entries) = current.as_ref().and_then(|name| inf.sections.get_mut(name)) {
                entries.push(entry(&line));
            }
        }
        inf.read_strings();
        inf
    }

    /// `[Strings]`, and for what it does not name those of the languages (`[Strings.0409]`).
    fn read_strings(&mut self) {
        let is_strings = |name: &str| name == "strings" || name.starts_with("strings.");
        let strings =
            self.sections.iter().filter(|(name, _)| is_strings(name)).flat_map(|(_, entries)| entries);
        for (key, values) in strings {
            if let (Some(key), Some(value)) = (key, values.first()) {
                self.strings.entry(key.to_ascii_lowercase()).or_insert_with(|| value.clone());
            }
        }
    }

    fn entries(&self, section: &str) -> &[(Option<String>, Vec<String>)] {
        self.sections.get(&section.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The values of a key, joined as they stand, with names replaced.
    fn value(&self, section: &str, key: &str) -> Option<String> {
        let found = |(known, _): &&(Option<String>, _)| {
            known.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(key))
        };
        let (_, values) = self.entries(section).iter().find(found)?;
        let value = self.replaced(&values.join(","));
        (!value.is_empty()).then_some(value)
    }

    /// `CatalogFile`, or one of a platform (`CatalogFile.NTamd64`).
    fn catalog(&self) -> Option<String> {
        let of_platform = || {
            let keys = self.entries("version").iter().filter_map(|(key, _)| key.as_ref());
            let mut keys = keys.filter(|key| key.to_ascii_lowercase().starts_with("catalogfile."));
            keys.next().and_then(|key| self.value("version", key))
        };
        self.value("version", "catalogfile").or_else(of_platform)
    }

    /// Puts in what `%names%` stand for; `%%` is a percent sign.
    fn replaced(&self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        for _ in 0..REPLACED {
            let Some((before, behind)) = rest.split_once('%') else { break };
            let Some((name, after)) = behind.split_once('%') else { break };
            done.push_str(before);
            match self.strings.get(&name.trim().to_ascii_lowercase()) {
                _ if name.is_empty() => done.push('%'),
                Some(value) => done.push_str(value),
                None => done.extend(["%", name, "%"]),
            }
            rest = after;
        }
        done.push_str(rest);
        done.trim().chars().take(VALUE).collect()
    }

    /// From `[Manufacturer]` to the sections of models, and from each model its hardware id and the compatible ones.
    fn hardware_ids(&self) -> Vec<String> {
        let mut ids = std::collections::BTreeSet::new();
        for (key, values) in self.entries("manufacturer").iter().take(MANUFACTURERS) {
            // `%name% = models, target, …`; without a name the models are called like the manufacturer.
            let Some(models) = values.first().or(key.as_ref()) else { continue };
            let models = self.replaced(models);
            let targets = values.iter().skip(1).take(TARGETS);
            let sections = targets.map(|target| format!("{models}.{}", self.replaced(target)));
            for section in sections.chain([models.clone()]) {
                for (_, values) in self.entries(&section) {
                    let found = values.iter().skip(1).map(|id| self.replaced(id)).filter(|id| !id.is_empty());
                    ids.extend(found.take(HARDWARE_IDS.saturating_sub(ids.len())));
                }
            }
        }
        ids.into_iter().collect()
    }

    /// `AddService = name, …`, in whatever section: most are in `….Services` of an installation section.
    fn services(&self) -> Vec<String> {
        let entries = self.sections.values().flatten();
        let added =
            entries.filter(|(key, _)| key.as_ref().is_some_and(|key| key.eq_ignore_ascii_case("addservice")));
        let names = added.filter_map(|(_, values)| values.first()).map(|name| self.replaced(name));
        let names: std::collections::BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
        names.into_iter().take(SERVICES).collect()
    }
}

/// UTF-16 with a mark or the zeros of ASCII letters, UTF-8, or the code page of Western Europe.
fn decoded(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [first, 0, _, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, first, 0, _, ..] if *first != 0 => utf16(bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
        },
    }
}

/// Lines without comments and blanks, those that end with `\` put together.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines().take(LINES) {
        let line = without_comment(line).trim();
        // Only at the end of an entry: a path in quotes may end so as well.
        if let Some(part) = line.strip_suffix('\\').filter(|part| quotes_match(part))
            && begun.len() <= VALUE
        {
            begun.push_str(part);
            continue;
        }
        begun.push_str(line);
        if !begun.is_empty() {
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines.extend((!begun.is_empty()).then_some(begun));
    lines
}

fn quotes_match(text: &str) -> bool {
    text.matches('"').count().is_multiple_of(2)
}

/// The text before a semicolon that is not in quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}

/// The name in `[name]`.
fn section(line: &str) -> Option<String> {
    let (name, _) = line.strip_prefix('[')?.split_once(']')?;
    Some(name.trim().trim_matches('"').to_ascii_lowercase())
}

/// `key = value, value`, or values alone.
fn entry(line: &str) -> (Option<String>, Vec<String>) {
    let mut parts = split(line, '=', 2).into_iter();
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        Some(values) => {
            (Some(unquoted(first)), split(values, ',', VALUE).into_iter().map(unquoted).collect())
        }
        None => (None, split(first, ',', VALUE).into_iter().map(unquoted).collect()),
    }
}

/// Splits at a character that is not in quotes, into at most `bound` parts.
fn split(text: &str, at: char, bound: usize) -> Vec<&str> {
    let mut quoted = false;
    let parts = text.splitn(bound, |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    });
    parts.collect()
}

/// Without the quotes around it or its parts; two in a row stand for one.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    if !text.contains('"') {
        return text.chars().take(VALUE).collect();
    }
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let inner = inner.replace("\"\"", "\u{0}").replace('"', "").replace('\u{0}', "\"");
    inner.chars().take(VALUE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = "; Acme scope\r\n[Version]\r\nSignature=\"$Windows NT$\"\r\nClass = USB ; a class\r\n\
        Provider=%Acme%\r\nDriverVer = 03/12/2021, 1.2.3.4\r\nCatalogFile.NTamd64=acme64.cat\r\n\
        [Manufacturer]\r\n%Acme%=Models, NTamd64, \\\r\n  NTx86\r\n[Models.NTamd64]\r\n\
        %Scope%=Install, USB\\VID_1AB1&PID_0588, \"USB\\VID_1AB1&PID_0589\"\r\n[MODELS.ntx86]\r\n%Scope%=Install,USB\\VID_1AB1&PID_04CE\r\n\
        [Install.Services]\r\nAddService=%Service%,0x2,Acme_Service\r\nAddservice = winusb,,x\r\n\
        [Strings]\r\nAcme=\"Acme; \"\"Labs\"\" = 100%\"\r\nScope=Scope\r\nService=acmeusb\r\n[Strings.0407]\r\nScope=Oszi\r\n";

    fn check(bytes: &[u8]) {
        let driver = read("/acme.inf", bytes);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(driver.class, some("USB"));
        assert_eq!(driver.provider, some("Acme; \"Labs\" = 100%"));
        assert_eq!(driver.version, some("03/12/2021,1.2.3.4"));
        assert_eq!(driver.catalog, some("acme64.cat"));
        assert_eq!(
            driver.hardware_ids,
            [r"USB\VID_1AB1&PID_0588", r"USB\VID_1AB1&PID_0589", r"USB\VID_1AB1&PID_04CE"]
                .into_iter()
                .map(str::to_owned)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
        assert_eq!(driver.services, ["acmeusb", "winusb"]);
    }

    #[test]
    fn every_encoding_reads_the_same() {
        let units = |to: fn(u16) -> [u8; 2]| ACME.encode_utf16().flat_map(to).collect::<Vec<u8>>();
        check(ACME.as_bytes());
        check(&[b"\xef\xbb\xbf", ACME.as_bytes()].concat());
        check(&[&b"\xff\xfe"[..], &units(u16::to_le_bytes)].concat());
        check(&[&b"\xfe\xff"[..], &units(u16::to_be_bytes)].concat());
        check(&units(u16::to_le_bytes));
        check(&units(u16::to_be_bytes));
    }

    #[test]
    fn damage_leaves_nothing_or_something() {
        for end in 0..ACME.len() {
            read("/acme.inf", &ACME.as_bytes()[..end]);
        }
        let strange =
            read("/x.inf", b"class=early\n[Version]\nclass\n[=]\n=\n,\n\"\n[Manufacturer]\n%%=\n\\\n\\");
        assert_eq!(strange, WindowsDriver { path: "/x.inf".to_owned(), ..WindowsDriver::default() });
        let latin = read("/x.inf", b"[Version]\nProvider=M\xfcller\n");
        assert_eq!(latin.provider.as_deref(), Some("Müller"));
    }
}

//! What a Windows program takes from each library by name or number, and what a library gives.
//!
//! ".idata", ".edata" and "Delay-Load Import Tables" of Microsoft's "PE Format"; the map of API sets as in `apiset.h` of
//! the Windows driver kit (version 6).

use std::collections::{BTreeMap, BTreeSet};

use super::image::{Image, directory, u16_at, u32_at, u64_at, usize_of, utf16};
use super::imports::{library, table};

/// Functions read of one file; the largest libraries have some ten thousand.
const FUNCTIONS: usize = 262_144;
/// Bytes of a function's name; C++ makes long ones, and compilers stop at this.
const NAME: usize = 4096;
/// API sets of one map; Windows 11 has about a thousand.
const API_SETS: usize = 65_536;
/// Characters of an API set's name.
const API_SET_NAME: usize = 255;
/// `IMAGE_FILE_DLL`, as in the module above.
const LIBRARY: u16 = 0x2000;

/// A function of a library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowsFunction {
    /// By its name.
    Name(String),
    /// By its number alone.
    Number(u32),
}

impl std::fmt::Display for WindowsFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "#{number}"),
        }
    }
}

/// What one file is linked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsImport {
    /// The library, in lower case.
    pub library: String,
    /// It is loaded when one of them is first called.
    pub delayed: bool,
    /// In the file's order.
    pub functions: Vec<WindowsFunction>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsLinkage {
    /// 32 or 64.
    pub bits: u8,
    /// Whether it is a library.
    pub library: bool,
    /// Whether it holds managed (.NET) code.
    pub dotnet: bool,
    /// In the file's order.
    pub imports: Vec<WindowsImport>,
    /// The names of what it gives.
    pub names: BTreeSet<String>,
    /// The numbers of what it gives.
    pub numbers: BTreeSet<u32>,
}

impl WindowsLinkage {
    /// Reads a file. `None`: it is none that Windows loads.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let image = Image::read(bytes, bytes.len() as u64).ok()?;
        let (names, numbers) = exports(&image).unwrap_or_default();
        Some(Self {
            bits: if image.wide { 64 } else { 32 },
            library: image.characteristics & LIBRARY != 0,
            dotnet: image.directory(directory::CLR).is_some(),
            imports: imports(&image),
            names,
            numbers,
        })
    }

    /// Whether it gives a function.
    #[must_use]
    pub fn gives(&self, function: &WindowsFunction) -> bool {
        match function {
            WindowsFunction::Name(name) => self.names.contains(name),
            WindowsFunction::Number(number) => self.numbers.contains(number),
        }
    }
}

fn imports(image: &Image<'_>) -> Vec<WindowsImport> {
    let mut left = FUNCTIONS;
    let mut all = Vec::new();
    for descriptor in table(image, directory::IMPORTS, 20) {
        let field = |at| u32_at(descriptor, at).unwrap_or(0);
        if field(12) == 0 || field(16) == 0 {
            break;
        }
        let Some(library) = library(image, field(12)) else { continue };
        let lookup = if field(0) == 0 { field(16) } else { field(0) };
        let functions = functions(image, lookup, 0, &mut left);
        all.push(WindowsImport { library, delayed: false, functions });
    }
    for descriptor in table(image, directory::DELAY_IMPORTS, 32) {
        let field = |at| u32_at(descriptor, at).unwrap_or(0);
        if field(4) == 0 {
            break;
        }
        // As in the module beside: old linkers wrote addresses that include the image's base.
        let base = if field(0) & 1 == 0 { u32::try_from(image.image_base).unwrap_or(0) } else { 0 };
        let Some(library) = library(image, field(4).wrapping_sub(base)) else { continue };
        let functions = functions(image, field(16).wrapping_sub(base), base, &mut left);
        all.push(WindowsImport { library, delayed: true, functions });
    }
    all
}

/// "Import Lookup Table" and "Hint/Name Table".
fn functions(image: &Image<'_>, lookup: u32, base: u32, left: &mut usize) -> Vec<WindowsFunction> {
    let mut found = Vec::new();
    for thunk in image.at(lookup).unwrap_or_default().chunks_exact(if image.wide { 8 } else { 4 }) {
        let (value, by_number) = if image.wide {
            (u64_at(thunk, 0).unwrap_or(0), 1 << 63)
        } else {
            (u64::from(u32_at(thunk, 0).unwrap_or(0)), 1 << 31)
        };
        if value == 0 || *left == 0 {
            break;
        }
        *left -= 1;
        if value & by_number != 0 {
            found.push(WindowsFunction::Number(u32::try_from(value & 0xffff).unwrap_or(0)));
            continue;
        }
        let address = u32::try_from(value).unwrap_or(0).wrapping_sub(base);
        // A packer's table holds what is no name.
        let Some(name) = image.name(address.saturating_add(2), NAME) else { break };
        match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() && !name.contains(char::is_control) => {
                found.push(WindowsFunction::Name(name.to_owned()));
            }
            _ => break,
        }
    }
    found
}

/// "Export Directory Table": names and numbers.
fn exports(image: &Image<'_>) -> Option<(BTreeSet<String>, BTreeSet<u32>)> {
    let (address, _) = image.directory(directory::EXPORTS)?;
    let table = image.at(address)?.get(..40)?;
    let field = |at| u32_at(table, at).unwrap_or(0);
    let (base, functions, names) = (field(16), field(20), field(24));
    let bounded = |count: u32| usize_of(count).min(FUNCTIONS);
    let mut numbers = BTreeSet::new();
    let addresses = image.at(field(28)).unwrap_or_default().chunks_exact(4).take(bounded(functions));
    for (index, address) in addresses.enumerate() {
        // A gap in the numbers has no address.
        if u32_at(address, 0) != Some(0) {
            numbers.insert(base.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)));
        }
    }
    let pointers = image.at(field(32)).unwrap_or_default().chunks_exact(4).take(bounded(names));
    let name = |pointer: &[u8]| image.name(u32_at(pointer, 0)?, NAME);
    let names = pointers.filter_map(name).map(|name| String::from_utf8_lossy(name).into_owned());
    Some((names.collect(), numbers))
}

/// Which library stands behind each API set of a map (`apisetschema.dll`), by the set's name without its last number.
#[must_use]
pub fn windows_api_sets(bytes: &[u8]) -> BTreeMap<String, String> {
    read_api_sets(bytes).unwrap_or_default()
}

fn read_api_sets(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let image = Image::read(bytes, bytes.len() as u64).ok()?;
    let section = image.sections.iter().find(|section| section.name == b".apiset")?;
    let start = usize_of(section.offset);
    let map = bytes.get(start..start.checked_add(usize_of(section.file_bytes))?)?;
    let number = |at: usize| u32_at(map, at).map(usize_of);
    let text = |at: usize, length: usize| -> Option<String> {
        let bytes = map.get(at..at.checked_add(length)?)?;
        Some(utf16(bytes, API_SET_NAME).to_ascii_lowercase())
    };
    // Version, size, flags, count, entries, hashes, factor.
    if u16_at(map, 0)? != 6 {
        return None;
    }
    let mut sets = BTreeMap::new();
    for index in 0..number(12)?.min(API_SETS) {
        // Flags, name, its length, length that counts, values, how many.
        let entry = number(16)?.checked_add(index.checked_mul(24)?)?;
        let name = text(number(entry + 4)?, number(entry + 12)?)?;
        if number(entry + 20)? == 0 {
            continue;
        }
        // The first value is for everybody: flags, name, its length, value, its length.
        let value = number(entry + 16)?;
        let host = text(number(value.checked_add(12)?)?, number(value + 16)?)?;
        if !host.is_empty() {
            sets.insert(name, host);
        }
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_has_no_linkage() {
        for bytes in [&b""[..], b"MZ", &[0; 4096]] {
            assert_eq!(WindowsLinkage::read(bytes), None);
            assert!(windows_api_sets(bytes).is_empty());
        }
    }
}

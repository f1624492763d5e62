//! Libraries a Windows program is linked with.
//!
//! "The .idata Section" and "Delay-Load Import Tables (Image Only)" of Microsoft's "PE Format".

use std::collections::BTreeSet;

use super::image::{Image, directory, u32_at, u64_at, usize_of};

/// Libraries one file may import; the largest of Windows import about 150.
const LIBRARIES: usize = 1024;
/// Functions looked at for those of [`SERVICE`].
const FUNCTIONS: usize = 65_536;
/// Bytes of a library's name; a path component of Windows has at most 255.
const NAME: usize = 255;

/// Every Windows service calls one of these first ("Service Entry Point").
const SERVICE: [&[u8]; 2] = [b"StartServiceCtrlDispatcherA", b"StartServiceCtrlDispatcherW"];

/// Linked with Microsoft's runtime libraries, by the beginning of the name in lower case.
const RUNTIME: [&str; 9] =
    ["msvcr", "msvcp", "vcruntime", "ucrtbase", "api-ms-win-crt-", "concrt", "vcomp", "vccorlib", "msvcirt"];
/// The same where other libraries begin alike (`mfplat.dll`): a digit follows.
const RUNTIME_NUMBERED: [&str; 3] = ["mfcm", "mfc", "atl"];

/// What a program is linked with.
#[derive(Debug, Default)]
pub(super) struct Imports {
    /// In lower case.
    pub(super) libraries: BTreeSet<String>,
    /// Those loaded at the first call.
    pub(super) delayed: BTreeSet<String>,
    /// Whether it imports what a service calls first.
    pub(super) service: bool,
}

/// Reads both import tables as far as they can be read; packers leave damaged ones behind.
pub(super) fn read(image: &Image<'_>) -> Imports {
    let mut imports = Imports::default();
    let mut functions = FUNCTIONS;
    for descriptor in table(image, directory::IMPORTS, 20) {
        let field = |at| u32_at(descriptor, at).unwrap_or(0);
        // The loader stops at the first without a name or without addresses to fill in.
        if field(12) == 0 || field(16) == 0 {
            break;
        }
        let Some(name) = library(image, field(12)) else { continue };
        let lookup = if field(0) == 0 { field(16) } else { field(0) };
        imports.service |= is_service(image, &name, lookup, 0, &mut functions);
        imports.libraries.insert(name);
    }
    for descriptor in table(image, directory::DELAY_IMPORTS, 32) {
        let field = |at| u32_at(descriptor, at).unwrap_or(0);
        if field(4) == 0 {
            break;
        }
        // Linkers before Visual C++ 7 wrote addresses that include the image's base.
        let base = if field(0) & 1 == 0 { u32::try_from(image.image_base).unwrap_or(0) } else { 0 };
        let Some(name) = library(image, field(4).wrapping_sub(base)) else { continue };
        imports.service |= is_service(image, &name, field(16).wrapping_sub(base), base, &mut functions);
        imports.delayed.insert(name);
    }
    imports
}

/// Microsoft's runtime libraries among those, sorted.
pub(super) fn runtime(imports: &Imports) -> Vec<String> {
    let all: BTreeSet<&String> = imports.libraries.iter().chain(&imports.delayed).collect();
    all.into_iter().filter(|name| is_runtime(name)).cloned().collect()
}

pub(super) fn is_runtime(name: &str) -> bool {
    let numbered = |prefix: &&str| {
        name.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    RUNTIME.iter().any(|prefix| name.starts_with(prefix)) || RUNTIME_NUMBERED.iter().any(numbered)
}

/// The entries of an import table. Its end is a zero entry; the size in the directory is often wrong and the loader
/// does not look at it.
pub(super) fn table<'b>(image: &Image<'b>, index: usize, entry: usize) -> impl Iterator<Item = &'b [u8]> {
    let start = image.directory(index).and_then(|(address, _)| image.at(address)).unwrap_or_default();
    start.chunks_exact(entry).take(LIBRARIES)
}

pub(super) fn library(image: &Image<'_>, address: u32) -> Option<String> {
    let name = image.name(address, NAME)?;
    let readable = !name.is_empty() && !name.iter().any(u8::is_ascii_control);
    readable.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Whether one of [`SERVICE`] is imported from this library by name.
fn is_service(image: &Image<'_>, name: &str, lookup: u32, base: u32, functions: &mut usize) -> bool {
    let offers = name.starts_with("advapi32") || name.starts_with("sechost") || name.contains("-service-");
    let thunks = if offers { image.at(lookup).unwrap_or_default() } else { &[] };
    for thunk in thunks.chunks_exact(if image.wide { 8 } else { 4 }) {
        if *functions == 0 {
            return false;
        }
        *functions -= 1;
        // The highest bit says that there is a number instead of a name.
        let (value, by_number) = if image.wide {
            (u64_at(thunk, 0).unwrap_or(0), 1 << 63)
        } else {
            (u64::from(u32_at(thunk, 0).unwrap_or(0)), 1 << 31)
        };
        if value == 0 {
            return false;
        }
        let address = u32::try_from(value).unwrap_or(0).wrapping_sub(base);
        // "Hint/Name Table": two bytes precede the name.
        if value & by_number == 0
            && let Some(function) = image.name(address.saturating_add(2), SERVICE[0].len())
            && SERVICE.contains(&function)
        {
            return true;
        }
    }
    false
}

/// The name a library gives itself ("Export Directory Table").
pub(super) fn own_name(image: &Image<'_>) -> Option<String> {
    let (address, _) = image.directory(directory::EXPORTS)?;
    library(image, u32_at(image.at(address)?.get(..usize_of(40))?, 12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_libraries_by_name() {
        for name in ["msvcr120.dll", "vcruntime140_1.dll", "api-ms-win-crt-heap-l1-1-0.dll", "mfc140u.dll"] {
            assert!(is_runtime(name), "{name}");
        }
        for name in [
            "mfplat.dll",
            "mfcaptureengine.dll",
            "atlthunk.dll",
            "kernel32.dll",
            "api-ms-win-core-io-l1-1-0.dll",
        ] {
            assert!(!is_runtime(name), "{name}");
        }
    }
}

//! Which glibc a loader belongs to.

use std::fs::File;
use std::io::Read;

use memchr::memmem;

use super::Object;

/// Bytes of a loader that are looked at; those of all distributions are smaller.
const LOADER_BYTES: u64 = 4 << 20;
/// What `ld.so --version` prints before the number (`elf/rtld.c` of glibc, since 2.33).
const RELEASE: &[u8] = b" release version 2.";
/// The beginning of the file that glibc's loader, and no other, reads (`sysdeps/generic/dl-cache.h`).
const CACHE: &[u8] = b"glibc-ld.so.cache";
/// The last version that does not say what it is.
const SILENT: u32 = 32;

/// The loader of a program; of a library, the one of the programs that would load it.
pub(super) fn path(program: &Object) -> Option<&str> {
    program.interpreter.as_deref().or(match (program.class, program.machine.as_str()) {
        (64, "x86-64") => Some("/lib64/ld-linux-x86-64.so.2"),
        (32, "i386") => Some("/lib/ld-linux.so.2"),
        (64, "aarch64") => Some("/lib/ld-linux-aarch64.so.1"),
        _ => None,
    })
}

/// The second number of its version.
pub(super) fn glibc(loader: &File) -> Option<u32> {
    let mut bytes = Vec::new();
    loader.take(LOADER_BYTES).read_to_end(&mut bytes).ok()?;
    memmem::find(&bytes, CACHE)?;
    let Some(at) = memmem::find(&bytes, RELEASE) else { return Some(SILENT) };
    let digits = bytes.get(at + RELEASE.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
    digits.take(4).fold(None, |number, digit| Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0')))
}

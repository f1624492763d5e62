//! Only how a file is linked: for libraries of a hundred megabytes of which nothing else is asked.

use super::dynamic;
use super::image::Image;
use super::lazy::Lazy;
use std::fs::File;
use std::path::Path;

use crate::Error;

/// Bytes that are read of a file at most: its headers, its dynamic section and its names.
const READ_BYTES_MAX: u64 = 4 << 20;

/// How a library is linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linking {
    /// As in [`ElfFacts`](super::ElfFacts): `x86-64`, `i386` …
    pub machine: String,
    /// Its own name (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries it is linked with (`DT_NEEDED`), in order.
    pub needed: Vec<String>,
    /// The loader that starts it (`PT_INTERP`).
    pub interpreter: Option<String>,
}

/// Reads the headers and the dynamic section of the file at `path`, and nothing else of it.
///
/// # Errors
/// When it is no regular file, not ELF, or when the loader would not find there what it looks for.
pub fn linking(path: &Path) -> Result<Linking, Error> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::unsupported(path, "it is no regular file"));
    }
    let lazy = Lazy::new(&file, metadata.len(), READ_BYTES_MAX);
    let read = dynamic::linking(&Image::lazy(&lazy));
    if let Some(failure) = lazy.take_failure() {
        return Err(Error::io(path, failure));
    }
    read.map_err(|what| Error::Elf { member: path.to_string_lossy().into_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_whole_facts_say() {
        let libc = super::super::read_file(Path::new("/proc/self/exe")).unwrap();
        let linked = linking(Path::new("/proc/self/exe")).unwrap();
        assert_eq!((linked.machine, linked.soname, linked.needed), (libc.machine, libc.soname, libc.needed));
        assert!(linked.interpreter.is_some() && linked.interpreter == libc.interpreter);
        assert!(linking(Path::new("/etc/passwd")).is_err() && linking(Path::new("/etc")).is_err());
    }
}

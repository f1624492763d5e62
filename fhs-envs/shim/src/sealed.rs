//! The copy in memory this program runs from.
use crate::error::Error;
use hatchway_sys::descriptors;
use rustix::fs::{MemfdFlags, SealFlags};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// Whether the running program is such a copy. Arguments could lie about it, seals cannot.
pub(crate) fn is_sealed() -> Result<bool, Error> {
    let own =
        File::open("/proc/self/exe").map_err(|source| Error::Seal { step: "open the program", source })?;
    let seals = rustix::fs::fcntl_get_seals(&own).unwrap_or(SealFlags::empty());
    Ok(seals.contains(SealFlags::WRITE))
}

/// Copies this program and replaces this process by the copy. Everything but the standard streams, the bootstrap
/// and what is to be kept is closed on the way.
pub(crate) fn run_sealed(bootstrap: RawFd, keep: &[RawFd]) -> Error {
    let fail = |step| move |source: io::Error| Error::Seal { step, source };
    let attempt = || -> Result<Infallible, Error> {
        let copy = copy().map_err(fail("copy the program"))?;
        let mut open = keep.to_vec();
        open.push(bootstrap);
        descriptors::close_on_exec_from(3, &open).map_err(fail("mark inherited descriptors"))?;
        let arguments = [c"hatchway-shim".to_owned(), c"--bootstrap-fd".to_owned(), number(bootstrap)];
        let environment: [CString; 0] = [];
        let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
        nix::unistd::execveat(&copy, c"", &arguments, &environment, flags)
            .map_err(|errno| fail("execute the copy")(errno.into()))
    };
    match attempt() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn number(fd: RawFd) -> CString {
    CString::new(fd.to_string()).unwrap_or_default()
}

fn copy() -> io::Result<File> {
    let mut own = File::open("/proc/self/exe")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // The flag says that it will be executed, which some hosts insist on and kernels before 6.3 do not know.
    let memory = rustix::fs::memfd_create("hatchway-shim", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("hatchway-shim", flags))?;
    let mut memory = File::from(memory);
    io::copy(&mut own, &mut memory)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

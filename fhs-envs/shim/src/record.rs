//! `exit.json` and `ready.json`: written whole or not at all.
use hatchway_wire::{HostPath, Stamp};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};
use std::fs::File;
use std::io::{self, Write};

/// This moment on all three clocks.
pub(crate) fn now() -> Stamp {
    // Zero is "this kernel has no such clock".
    let read = |clock| {
        let time = clock_gettime_dynamic(clock).unwrap_or_default();
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    };
    Stamp {
        realtime_ns: read(DynamicClockId::Known(ClockId::Realtime)),
        tai_ns: read(DynamicClockId::Tai),
        monotonic_ns: read(DynamicClockId::Known(ClockId::Monotonic)),
    }
}

/// Writes beside the final name, then renames; both are on disk when this returns, if they are to be `synced`.
pub(crate) fn write(record: &impl serde::Serialize, path: &HostPath, synced: bool) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::InvalidInput);
    let (parent, name) = (path.parent().ok_or_else(missing)?, path.name().ok_or_else(missing)?);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent.as_str(), flags, Mode::empty())?;
    let temporary = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, &temporary, flags, Mode::from(0o644))?);
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let written = file
        .write_all(&text)
        .and_then(|()| if synced { file.sync_all() } else { Ok(()) })
        .and_then(|()| Ok(rustix::fs::renameat(&folder, &temporary, &folder, name)?))
        .and_then(|()| if synced { Ok(rustix::fs::fsync(&folder)?) } else { Ok(()) });
    if written.is_err() {
        // The error that matters is the first one.
        rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()).ok();
    }
    written
}

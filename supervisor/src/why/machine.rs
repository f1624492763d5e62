//! What this machine answers, from `/proc` and the file system. Whatever cannot be read is not known.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, StatxFlags, statvfs, statx};
use rustix::io::Errno;

use crate::causes::Host;

/// Nobody has built this program before the beginning of 2026, in seconds since 1970.
const BUILT_AFTER_S: u64 = 1_767_225_600;
/// The beginning of 2100.
const UNTIL_S: u64 = 4_102_444_800;
/// Bytes of a table of the kernel's that are read.
const TABLE_MAX: usize = 4 << 20;
/// Processes that are looked at.
const PROCESSES_MAX: usize = 10_000;

/// This machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// Where state is.
    data: PathBuf,
}

impl Machine {
    /// With the folder in which state is.
    #[must_use]
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }
}

impl Host for Machine {
    fn listener(&self, port: u16) -> Option<String> {
        let inode =
            ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening(&text(table)?, port))?;
        let is_it = |link: &str| link == format!("socket:[{inode}]");
        Some(who(&is_it).unwrap_or_else(|| "another program".to_owned()))
    }

    fn exists(&self, path: &str) -> Option<bool> {
        // A tool has named it: nothing is to be mounted for that, and no server asked.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match statx(CWD, path, flags, StatxFlags::TYPE) {
            Ok(_) => Some(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Some(false),
            Err(_) => None,
        }
    }

    fn holder(&self, path: &str) -> Option<String> {
        who(&|link| link == path)
    }

    fn free_bytes(&self) -> Option<u64> {
        let found = statvfs(&self.data).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn clock(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let shown =
            || crate::clock::shown(i64::try_from(now).unwrap_or(i64::MAX).saturating_mul(1_000_000_000));
        (!(BUILT_AFTER_S..UNTIL_S).contains(&now)).then(|| format!("it says {}", shown()))
    }

    fn processor_has(&self, flag: &str) -> Option<bool> {
        let text = text("/proc/cpuinfo")?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
        Some(flags.split_whitespace().any(|one| one == flag))
    }
}

fn text(path: &str) -> Option<String> {
    let mut bytes = fs::read(path).ok()?;
    bytes.truncate(TABLE_MAX);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The inode of the socket that listens at a port (proc(5): `0A` is LISTEN).
fn listening(table: &str, port: u16) -> Option<String> {
    let wanted = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(10).collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let inode = fields.get(9)?;
        (local == wanted && fields.get(3) == Some(&"0A")).then(|| (*inode).to_owned())
    })
}

/// The first process that has something open whose link is so.
fn who(is_it: &dyn Fn(&str) -> bool) -> Option<String> {
    let all = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    for entry in all {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link| link.to_str().is_some_and(is_it)) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("`{}` (process {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let machine = Machine::new(Path::new("/"));
        let found = machine.listener(port).unwrap();
        assert!(found.contains(&format!("process {}", std::process::id())), "{found}");
        drop(listener);
        assert_eq!(machine.listener(port), None);
        assert_eq!((machine.exists("/proc"), machine.exists("/no/such/path")), (Some(true), Some(false)));
        assert!(machine.free_bytes().is_some() && machine.clock().is_none());
    }
}

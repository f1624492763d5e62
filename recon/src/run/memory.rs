//! Whether a matrix will fit into memory, before it is read: who is killed in the middle of it says nothing.

use std::fs;
use std::path::Path;

use crate::Error;

/// Refuses a matrix of single precision that does not fit.
///
/// # Errors
/// [`Error::Memory`], with what would fit. A system that does not say what it has left is believed to have enough.
pub(super) fn foresee(rows: usize, columns: usize) -> Result<(), Error> {
    foresee_rows(rows, columns, columns.saturating_mul(8), 0)
}

/// The same for rows of so many bytes each, of which some have been taken.
///
/// # Errors
/// As [`foresee`].
pub(super) fn foresee_rows(
    rows: usize,
    columns: usize,
    row_bytes: usize,
    taken_bytes: usize,
) -> Result<(), Error> {
    match available() {
        Some(available) => {
            check(rows, columns, row_bytes as u64, available.saturating_add(taken_bytes as u64))
        }
        None => Ok(()),
    }
}

fn check(rows: usize, columns: usize, row: u64, available: u64) -> Result<(), Error> {
    let needed = row.saturating_mul(rows as u64);
    if needed <= available {
        return Ok(());
    }
    Err(Error::Memory { rows, columns, needed, available, rows_fit: available / row.max(1) })
}

/// Bytes that this process may still take: what the system has, or less by its control groups.
fn available() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().filter_map(group).chain(system).min()
}

/// A field of `/proc/meminfo` in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What a control group, a line of `/proc/self/cgroup`, has left. Both versions are known; one without a limit says nothing.
fn group(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let path = path.trim_start_matches('/');
    let (folder, limit, usage, cache) = if controllers.is_empty() {
        (Path::new("/sys/fs/cgroup").join(path), "memory.max", "memory.current", "inactive_file")
    } else if controllers.split(',').any(|name| name == "memory") {
        let folder = Path::new("/sys/fs/cgroup/memory").join(path);
        (folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    } else {
        return None;
    };
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // Files that were read count as used, and make room when it is needed.
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let free =
        stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(number(limit)?.saturating_sub(number(usage)?.saturating_sub(free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        assert!(check(1000, 100, 800, 800_000).is_ok());
        let error = check(1000, 100, 800, 799_999).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a matrix of 1000 rows and 100 columns takes 0.8 MB, and 0.8 MB are left: 999 rows would fit"
        );
        assert!(check(usize::MAX, usize::MAX, u64::MAX, u64::MAX - 1).is_err());
    }

    #[test]
    fn this_system_says_what_it_has() {
        let found = available().unwrap();
        assert!((1 << 20..1 << 50).contains(&found), "{found}");
        assert!(foresee(1, 1).is_ok());
        assert!(foresee(1 << 30, 1 << 30).is_err());
        assert!(foresee_rows(1 << 30, 1 << 30, 12, 0).is_ok() || available().unwrap() < 12 << 30);
    }

    #[test]
    fn fields_are_in_bytes() {
        assert_eq!(field("MemFree: 1 kB\nMemAvailable:   12 kB\n", "MemAvailable:"), Some(12288));
        assert_eq!(field("MemFree: 1 kB\n", "MemAvailable:"), None);
    }
}

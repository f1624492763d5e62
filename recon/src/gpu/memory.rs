//! How a matrix is cut into shards, and what it takes of a card's memory: all of it known before anything is given.

use crate::solve::LANES;

/// Bytes of a complex number in single precision.
pub(super) const ENTRY: u64 = 8;

/// Rows of a block for Kaczmarz's method unless a plan says otherwise. A card needs many rows at once to be busy; a block
/// of 64 has 64 groups of invocations for each part of an image. Triangles and inverses take as much memory as 128 voxels.
/// On a software adapter, a sweep over 2000 rows of 6859 voxels takes the same time with 16, 32 and 64.
pub(super) const BLOCK_ROWS: usize = 64;

/// Rows of a block at most: with 16 frames they fill the 16 KiB that every card shares between the invocations of a group.
pub(super) const BLOCK_ROWS_MAX: usize = 128;

/// Partial sums of an adjoint, at most; each is an image.
pub(super) const PARTS_MAX: usize = 64;

/// What frames, triangles and descriptions of rows take, for a row: data, multipliers and products of [`LANES`] frames,
/// a column of a triangle and of its inverse, and some 64 bytes of descriptions.
const PER_ROW: u64 = ENTRY * (3 * LANES as u64 + 2 * BLOCK_ROWS as u64) + 64;

/// What images take, for a voxel: two of [`LANES`] frames, and the partial sums of an adjoint.
const PER_VOXEL: u64 = ENTRY * (2 * LANES as u64 + PARTS_MAX as u64);

/// How a matrix is cut: into shards of whole rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Rows of all shards but the last.
    pub(super) shard_rows: usize,
    /// How many shards.
    pub(super) shards: usize,
}

/// Why a matrix cannot be put on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Bytes of what does not fit.
    pub(super) needed: u64,
    /// What the limit is.
    pub(super) limit: String,
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Bytes of a matrix.
pub(super) fn matrix_bytes(rows: usize, columns: usize) -> u64 {
    wide(rows).saturating_mul(wide(columns)).saturating_mul(ENTRY)
}

/// Bytes of a matrix and of what solvers need beside it.
pub(super) fn whole_bytes(rows: usize, columns: usize) -> u64 {
    let beside = wide(rows).saturating_mul(PER_ROW).saturating_add(wide(columns).saturating_mul(PER_VOXEL));
    matrix_bytes(rows, columns).saturating_add(beside)
}

/// Cuts a matrix into shards of at most `shard_bytes`, if all of it fits into `free` bytes.
pub(super) fn cut(rows: usize, columns: usize, shard_bytes: u64, free: Option<u64>) -> Result<Cut, NoRoom> {
    let row = matrix_bytes(1, columns);
    let shard_rows = usize::try_from(shard_bytes / row.max(1)).unwrap_or(usize::MAX).min(rows);
    if shard_rows == 0 {
        return Err(NoRoom {
            needed: row,
            limit: format!("a buffer, which has a row, may have {shard_bytes}"),
        });
    }
    let needed = whole_bytes(rows, columns);
    if let Some(free) = free.filter(|free| needed > *free) {
        let fit = free.saturating_sub(wide(columns).saturating_mul(PER_VOXEL)) / (row + PER_ROW);
        let limit = format!("{free} are free, enough for {fit} of the {rows} rows");
        return Err(NoRoom { needed, limit });
    }
    Ok(Cut { shard_rows, shards: rows.div_ceil(shard_rows) })
}

/// What the host's own memory has left, in bytes, for cards that are in it. Nothing where the kernel does not say.
pub(super) fn host_free() -> Option<u64> {
    free_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn free_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_published_matrix_is_cut_at_the_limit_of_most_drivers() {
        // 80 787 rows of 6859 voxels are 4.4 GB; a shard of 128 MiB has 2446 rows.
        let found = cut(80_787, 6859, 1 << 27, None).unwrap();
        assert_eq!(found, Cut { shard_rows: 2446, shards: 34 });
    }

    #[test]
    fn what_does_not_fit_is_told_with_numbers() {
        let row = cut(10, 1000, 7999, None).unwrap_err();
        assert_eq!(
            row,
            NoRoom { needed: 8000, limit: "a buffer, which has a row, may have 7999".to_owned() }
        );
        let needed = whole_bytes(1000, 100);
        let all = cut(1000, 100, 1 << 20, Some(needed - 1)).unwrap_err();
        assert_eq!(all.needed, needed);
        assert!(all.limit.ends_with("enough for 999 of the 1000 rows"), "{}", all.limit);
        assert!(cut(1000, 100, 1 << 20, Some(needed)).is_ok());
        assert!(cut(usize::MAX, usize::MAX, 1 << 27, Some(1 << 40)).is_err());
    }

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(free_of("MemTotal: 9 kB\nMemAvailable:   20 kB\n"), Some(20 << 10));
        assert_eq!(free_of("MemTotal: 9 kB\n"), None);
    }

    proptest! {
        #[test]
        fn shards_hold_all_rows_and_no_more_than_their_limit(
            rows in 1_usize..10_000, columns in 1_usize..500, limit in 4000_u64..1_000_000,
        ) {
            let found = cut(rows, columns, limit, None).unwrap();
            prop_assert!(matrix_bytes(found.shard_rows, columns) <= limit);
            prop_assert!(found.shard_rows * found.shards >= rows);
            prop_assert!(found.shard_rows * (found.shards - 1) < rows);
        }
    }
}

//! A file on disk of which only what somebody asks for is read.
//!
//! A large library is mostly code, of which no fact is taken. What is asked for depends on what was read before, so that
//! no list of stretches could be made in advance: each is read when it is asked for, and kept.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Stretches read of one file: headers, a few tables, notes, and at most 256 sections of constants.
const STRETCHES: usize = 1024;
/// Bytes read at least: the next question is often about what lies beside.
const LEAST: u64 = 4096;

/// A file, and what was read of it.
#[derive(Debug)]
pub(crate) struct Lazy<'f> {
    file: &'f File,
    length: u64,
    /// Bytes that may still be read.
    budget: Cell<u64>,
    /// In the order in which they were read; those behind the first empty one are empty.
    stretches: Vec<OnceCell<(u64, Vec<u8>)>>,
    /// Something was asked for and not read.
    lacks: Cell<bool>,
    failure: RefCell<Option<io::Error>>,
}

impl<'f> Lazy<'f> {
    /// A file of `length` bytes, of which at most `bound` are read and kept.
    pub(crate) fn new(file: &'f File, length: u64, bound: u64) -> Self {
        let stretches = std::iter::repeat_with(OnceCell::new).take(STRETCHES).collect();
        let (budget, lacks, failure) = (Cell::new(bound), Cell::new(false), RefCell::new(None));
        Self { file, length, budget, stretches, lacks, failure }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether something was asked for and not read.
    pub(super) fn lacks_something(&self) -> bool {
        self.lacks.get()
    }

    /// The first error of the operating system, if there was one.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.borrow_mut().take()
    }

    /// The bytes from `offset` on, `length` of them where the file has as many.
    pub(super) fn get(&self, offset: u64, length: u64) -> &[u8] {
        let length = length.min(self.length.saturating_sub(offset));
        if length == 0 {
            return &[];
        }
        for cell in &self.stretches {
            let (start, bytes) = match cell.get() {
                Some((start, bytes)) => (*start, bytes),
                None => {
                    let read = self.read(offset, length);
                    let (start, bytes) = cell.get_or_init(|| (offset, read));
                    (*start, bytes)
                }
            };
            if let Some(found) = part(start, bytes, offset, length) {
                return found;
            }
            if start == offset && self.lacks.get() {
                return bytes;
            }
        }
        self.lacks.set(true);
        &[]
    }

    /// Reads without keeping anything: how many zeros there are from `offset` on, at most `bound`.
    pub(super) fn zeros(&self, offset: u64, bound: u64) -> u64 {
        const BLOCK: u64 = 64 << 10;
        let end = self.length.min(offset.saturating_add(bound));
        let mut at = offset;
        while at < end {
            let block = self.bytes(at, BLOCK.min(end - at));
            let zeros = block.iter().take_while(|&&byte| byte == 0).count() as u64;
            at = at.saturating_add(zeros);
            if zeros < BLOCK {
                break;
            }
        }
        at.min(end).saturating_sub(offset)
    }

    fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let budget = self.budget.get();
        if length > budget {
            self.lacks.set(true);
        }
        let length = length.max(LEAST).min(self.length.saturating_sub(offset)).min(budget);
        self.budget.set(budget - length);
        self.bytes(offset, length)
    }

    /// `length` is within the file and within the budget, so that so much may be allocated.
    fn bytes(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut bytes, offset);
        if let Err(error) = read {
            self.lacks.set(true);
            self.failure.borrow_mut().get_or_insert(error);
            return Vec::new();
        }
        bytes
    }
}

/// The part of a stretch that was asked for, if all of it is there.
fn part(start: u64, bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let within = usize::try_from(offset.checked_sub(start)?).ok()?;
    bytes.get(within..)?.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let content: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
        let file = file(&content);
        let lazy = Lazy::new(&file, 100_000, 1 << 20);
        for (offset, length) in
            [(0, 64), (70_000, 5000), (10, 90_000), (99_990, 100), (99_999, 1), (50, 4000)]
        {
            let end = content.len().min(offset + length);
            assert_eq!(lazy.get(offset as u64, length as u64), &content[offset..end]);
        }
        assert!(lazy.get(100_000, 1).is_empty() && lazy.get(u64::MAX, u64::MAX).is_empty());
        assert!(!lazy.lacks_something());
    }

    #[test]
    fn bounds_hold() {
        let file = file(&[0; 100_000]);
        let lazy = Lazy::new(&file, 100_000, 50_000);
        assert_eq!(lazy.get(0, 40_000).len(), 40_000);
        assert_eq!(lazy.get(30_000, 60_000).len(), 10_000);
        assert!(lazy.get(90_000, 10).is_empty() && lazy.lacks_something());
        assert_eq!((lazy.zeros(1000, 5000), lazy.zeros(1000, 1 << 30)), (5000, 99_000));
        let lazy = Lazy::new(&file, 200_000, 1 << 20);
        assert!(lazy.get(150_000, 10).is_empty() && lazy.take_failure().is_some());
        let many = Lazy::new(&file, 100_000, 1 << 30);
        for offset in 0..3000 {
            let _found = many.get(offset * 20, 20_000);
        }
        assert!(many.lacks_something());
    }
}

//! Data behind a program, which the loader does not look at.

use super::image::{Image, directory};
use crate::{Appended, appended};

/// Bytes shown to [`appended::name_of`].
const HEAD: usize = 4096;
/// Padding before the certificates and behind sections; the certificates begin at a multiple of eight.
const PADDING: u64 = 8;

/// The data between sections and certificates, or behind the certificates if there is more of it; `None` if that is only
/// padding. The bytes are as much of it as is at hand.
pub(super) fn find<'b>(image: &Image<'b>) -> Option<(Appended, &'b [u8])> {
    let end = image.end().min(image.size);
    let (first, second) = match certificates(image) {
        Some((from, to)) if from >= end => ((end, from), (to, image.size)),
        _ => ((end, image.size), (image.size, image.size)),
    };
    let (offset, end) = if second.1 - second.0 > first.1 - first.0 { second } else { first };
    let size = end - offset;
    let start = usize::try_from(offset).ok()?.min(image.bytes.len());
    let stop = usize::try_from(end).unwrap_or(usize::MAX).min(image.bytes.len());
    let bytes = image.bytes.get(start..stop)?;
    let padding = bytes.len() as u64 == size && bytes.iter().all(|b| *b == 0);
    if size == 0 || (padding && (size < PADDING || end < image.size || size < 512)) {
        return None;
    }
    let head = bytes.get(..bytes.len().min(HEAD)).unwrap_or_default();
    let what = appended::name_of(head).to_owned();
    Some((Appended { offset, size, what }, bytes))
}

/// Whether there is a certificate table ("The Attribute Certificate Table (Image Only)"), inside the file.
pub(super) fn is_signed(image: &Image<'_>) -> bool {
    certificates(image).is_some()
}

/// Beginning and end of the certificate table.
fn certificates(image: &Image<'_>) -> Option<(u64, u64)> {
    let (offset, size) = image.directory(directory::CERTIFICATES)?;
    let end = u64::from(offset) + u64::from(size);
    (size != 0 && end <= image.size).then_some((u64::from(offset), end))
}

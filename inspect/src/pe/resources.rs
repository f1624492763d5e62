//! The resource tree: three levels, type, name and language ("The .rsrc Section" of "PE Format").

use super::image::{Image, directory, u16_at, u32_at, usize_of, utf16};

/// Entries of one directory. Large programs have thousands of strings and icons, but few types.
const ENTRIES: usize = 4096;
/// Resources of one type looked at: names times languages.
const LEAVES: usize = 64;
/// Characters of a type's name.
const NAME: usize = 64;
/// Bytes of one resource of interest; version and manifest have a few thousand.
const RESOURCE: u32 = 4 << 20;

/// `RT_VERSION` and `RT_MANIFEST` ("Resource Types" of the Windows API).
pub(super) const VERSION: u32 = 16;
/// See [`VERSION`].
pub(super) const MANIFEST: u32 = 24;

/// The tree of a file that has one.
#[derive(Debug)]
pub(super) struct Resources<'i, 'b> {
    image: &'i Image<'b>,
    tree: &'b [u8],
}

impl<'i, 'b> Resources<'i, 'b> {
    pub(super) fn of(image: &'i Image<'b>) -> Option<Self> {
        let (address, _) = image.directory(directory::RESOURCES)?;
        Some(Self { image, tree: image.at(address)? })
    }

    /// The resources of a type given by number, in the order of the tree.
    pub(super) fn of_type(&self, number: u32) -> Vec<&'b [u8]> {
        let types = self.entries(0).filter(|(name, _)| *name == number);
        let names = types.filter_map(|(_, at)| below(at)).flat_map(|at| self.entries(at));
        let languages = names.filter_map(|(_, at)| below(at)).flat_map(|at| self.entries(at));
        languages.take(LEAVES).filter_map(|(_, at)| self.content(usize_of(at))).collect()
    }

    /// Types that have names instead of numbers.
    pub(super) fn named_types(&self) -> Vec<String> {
        let names = self.entries(0).filter_map(|(name, _)| {
            let text = self.tree.get(below(name)?..)?;
            let length = usize::from(u16_at(text, 0)?);
            Some(utf16(text.get(2..)?, length.min(NAME)))
        });
        names.take(LEAVES).collect()
    }

    /// Name and place of each entry of the directory at `at`.
    fn entries(&self, at: usize) -> impl Iterator<Item = (u32, u32)> + use<'b> {
        let directory = self.tree.get(at..).unwrap_or_default();
        let named = u16_at(directory, 12).map_or(0, usize::from);
        let numbered = u16_at(directory, 14).map_or(0, usize::from);
        let entries = directory.get(16..).unwrap_or_default().chunks_exact(8);
        entries
            .take((named + numbered).min(ENTRIES))
            .filter_map(|entry| Some((u32_at(entry, 0)?, u32_at(entry, 4)?)))
    }

    fn content(&self, at: usize) -> Option<&'b [u8]> {
        let entry = self.tree.get(at..)?;
        self.image.slice(u32_at(entry, 0)?, u32_at(entry, 4)?.min(RESOURCE))
    }
}

/// Where a name or directory is, if the highest bit says that this is one.
fn below(place: u32) -> Option<usize> {
    (place & (1 << 31) != 0).then(|| usize_of(place & !(1 << 31)))
}

//! Reading Windows cabinets.
//!
//! Layout: [MS-CAB] Cabinet File Format; MSZIP: [MS-MCI]. Stored and MSZIP data are read; LZX and Quantum are not. The `cab`
//! crate panics on damaged tables, and `lzxd` below it on offsets that lead out of the window, so both are not used.

mod folder;
mod header;

use self::folder::Folder;
use self::header::Cabinet;
pub(super) use self::header::Member;
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Entry, MemberPath, Part, Source, Visit, printable};
use crate::Error;

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let mut guard = Guard::default();
    members(walk, source, &mut |walk, member, content| {
        let entry = entry(walk, member)?;
        walk.admit(&mut guard, &entry)?;
        deliver(walk.archive, Part::Data, &entry, content, visit)
    })
}

/// What is called for every member, in the order of the cabinet's data.
pub(super) type Each<'e, E> = dyn FnMut(&mut Walk<'_>, &Member, &mut dyn std::io::Read) -> Result<(), E> + 'e;

/// Unpacks the members of a cabinet one after the other. Names are not looked at.
pub(super) fn members<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    each: &mut Each<'_, E>,
) -> Result<(), E> {
    let cabinet = Cabinet::read(source, walk.limits.entries)?;
    let Cabinet { folders, mut members, block_reserve } = cabinet;
    // Stable: files of no bytes keep their place.
    members.sort_by_key(|member| (member.folder, member.offset));
    let mut members = members.into_iter().peekable();
    for (number, description) in folders.iter().enumerate() {
        let mut folder = Folder::open(source, description, block_reserve)?;
        while let Some(member) = members.next_if(|member| usize::from(member.folder) == number) {
            let gap = folder.gap(member.offset, &member.name)?;
            walk.count_bytes(gap)?;
            folder.skip(gap, &member.name)?;
            each(walk, &member, &mut folder)?;
        }
    }
    match members.next() {
        Some(member) => Err(Error::corrupt(
            walk.archive,
            format!(
                "member `{}` lies in a folder that the cabinet does not have",
                printable(member.name.as_bytes())
            ),
        )
        .into()),
        None => Ok(()),
    }
}

fn entry(walk: &Walk<'_>, member: &Member) -> Result<Entry, Error> {
    let name = member.name.replace('\\', "/");
    let refuse = |what: &str| Error::hostile(walk.archive, printable(member.name.as_bytes()), what);
    if name.as_bytes().get(1) == Some(&b':') {
        return Err(refuse("has the name of a drive before its own"));
    }
    let path = MemberPath::parse(name.as_bytes(), walk.limits).map_err(|what| refuse(&what))?;
    Ok(Entry::plain(path, u64::from(member.size)))
}

//! Reading Windows installer packages.
//!
//! An installer package is a compound file that holds a database and, usually, the cabinets with the files. The `msi` crate
//! allocates strings and properties by the sizes they claim, so the file and its tables are read here.

mod compound;
mod database;
mod directories;
mod facts;

use std::collections::HashMap;

use self::database::Database;
use self::directories::Directories;
use super::cab;
use super::guard::Guard;
use super::stream::{Walk, deliver};
use super::{Description, Entry, Limits, MemberPath, Part, Source, Visit, printable};
use crate::Error;

/// Memory of a name beside its text.
const NAME_OVERHEAD: u64 = 96;

pub(super) fn walk<E: From<Error>>(
    walk: &mut Walk<'_>,
    source: &mut Source<'_>,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let database = Database::read(source)?;
    let names = names(&database, source, walk.limits)?;
    let media = database.table(source, "Media")?;
    let mut guard = Guard::default();
    let mut outside = None;
    let mut cabinets = 0;
    for medium in database.rows(&media) {
        let Some(name) = medium.text("Cabinet").strip_prefix('#') else {
            outside = outside.or(Some(medium.text("Cabinet")).filter(|name| !name.is_empty()));
            continue;
        };
        let shown = printable(name.as_bytes());
        let stream = database.stream(source, name);
        let missing = || Error::truncated(walk.archive, format!("the cabinet `{shown}` is missing"));
        let mut cabinet = stream.ok_or_else(missing)??;
        cabinets += 1;
        cab::members(walk, &mut cabinet, &mut |walk, member, content| {
            let entry = entry(walk, member, &names)?;
            walk.admit(&mut guard, &entry)?;
            deliver(walk.archive, Part::Data, &entry, content, visit)
        })?;
    }
    let what = match outside {
        Some(name) => format!("its files are in the cabinet `{}` beside it", printable(name.as_bytes())),
        None if cabinets == 0 && !names.is_empty() => "its files are not in it but beside it".to_owned(),
        None => return Ok(()),
    };
    Err(Error::unsupported(walk.archive, what).into())
}

pub(crate) fn describe(source: &mut Source<'_>) -> Result<Description, Error> {
    let database = Database::read(source)?;
    // What is wrong with the names is said when the files are read; the actions can be told without them.
    let names = names(&database, source, &Limits::default()).unwrap_or_default();
    let (package, scripts) = (facts::package(&database, source)?, facts::actions(&database, source, &names)?);
    Ok(Description { package, scripts, conffiles: Vec::new() })
}

/// Where each file of the cabinets belongs, by the key that is its name there.
fn names(
    database: &Database,
    source: &mut Source<'_>,
    limits: &Limits,
) -> Result<HashMap<String, String>, Error> {
    let directories = Directories::read(database, source)?;
    let components = database.table(source, "Component")?;
    let components: HashMap<&str, &str> =
        database.rows(&components).map(|row| (row.text("Component"), row.text("Directory_"))).collect();
    let files = database.table(source, "File")?;
    let mut names = HashMap::new();
    let mut memory = 0_u64;
    for file in database.rows(&files) {
        let directory = components.get(file.text("Component_")).copied().unwrap_or_default();
        let mut path = directories.path(directory).map_err(|what| Error::corrupt(source.name(), what))?;
        path.push(directories::long(file.text("FileName")));
        if path.iter().any(|name| name.contains(['/', '\\', ':'])) {
            let file = printable(file.text("File").as_bytes());
            return Err(Error::hostile(
                source.name(),
                file,
                "has a separator in its name or in one of its directories",
            ));
        }
        let (key, path) = (file.text("File"), path.join("/"));
        memory = memory.saturating_add((key.len() + path.len()) as u64 + NAME_OVERHEAD);
        if memory > limits.name_memory {
            return Err(Error::limit(source.name(), "memory for the names of its files", limits.name_memory));
        }
        names.insert(key.to_owned(), path);
    }
    Ok(names)
}

fn entry(walk: &Walk<'_>, member: &cab::Member, names: &HashMap<String, String>) -> Result<Entry, Error> {
    // A file the database does not know is not installed, and is worth a look all the same.
    let name = names.get(&member.name).unwrap_or(&member.name);
    let path = MemberPath::parse(name.as_bytes(), walk.limits)
        .map_err(|what| Error::hostile(walk.archive, printable(name.as_bytes()), what))?;
    Ok(Entry::plain(path, u64::from(member.size)))
}

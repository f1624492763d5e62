//! Where directories of the database are on the disk.

use std::collections::HashMap;

use super::Source;
use super::database::Database;
use crate::Error;

/// Directories above one.
const LEVELS: usize = 64;

/// Directories in all.
const DIRECTORIES: usize = 65_536;
/// Characters of a name; Windows allows 255.
const NAME: usize = 512;

/// Directories whose place is the system's (Windows Installer, "System Folder Properties"), below the drive.
const STANDARD: [(&str, &[&str]); 16] = [
    ("TARGETDIR", &[]),
    ("ProgramFilesFolder", &["Program Files"]),
    ("ProgramFiles64Folder", &["Program Files"]),
    ("CommonFilesFolder", &["Program Files", "Common Files"]),
    ("CommonFiles64Folder", &["Program Files", "Common Files"]),
    ("WindowsFolder", &["Windows"]),
    ("SystemFolder", &["Windows", "System32"]),
    ("System64Folder", &["Windows", "System32"]),
    ("FontsFolder", &["Windows", "Fonts"]),
    ("CommonAppDataFolder", &["ProgramData"]),
    ("AppDataFolder", &["AppData", "Roaming"]),
    ("LocalAppDataFolder", &["AppData", "Local"]),
    ("DesktopFolder", &["Desktop"]),
    ("StartMenuFolder", &["Start Menu"]),
    ("ProgramMenuFolder", &["Start Menu", "Programs"]),
    ("StartupFolder", &["Start Menu", "Programs", "Startup"]),
];

/// The directory table: names and the directories above.
#[derive(Debug)]
pub(super) struct Directories(HashMap<String, (String, String)>);

impl Directories {
    pub(super) fn read(database: &Database, source: &mut Source<'_>) -> Result<Self, Error> {
        let table = database.table(source, "Directory")?;
        let rows = database.rows(&table).take(DIRECTORIES).map(|row| {
            let name = long(row.text("DefaultDir"));
            (row.text("Directory").to_owned(), (row.text("Directory_Parent").to_owned(), name))
        });
        Ok(Self(rows.collect()))
    }

    /// The names that lead to a directory.
    pub(super) fn path(&self, directory: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut at = directory;
        for _ in 0..LEVELS {
            if let Some((_, standard)) = STANDARD.iter().find(|(name, _)| *name == at) {
                names.extend(standard.iter().rev().map(|&name| name.to_owned()));
                names.reverse();
                return Ok(names);
            }
            match self.0.get(at) {
                // A root of another name is the drive as well.
                Some((parent, _)) if parent.is_empty() || parent == at => {
                    names.reverse();
                    return Ok(names);
                }
                Some((parent, name)) => {
                    if !matches!(name.as_str(), "." | "") {
                        names.push(name.clone());
                    }
                    at = parent;
                }
                None => {
                    names.reverse();
                    return Ok(names);
                }
            }
        }
        Err("its directories lie in each other in a circle, or too deep".to_owned())
    }
}

/// The long name of `short|long:source`, where all but one may be missing.
pub(super) fn long(text: &str) -> String {
    let target = text.split(':').next().unwrap_or_default();
    target.rsplit('|').next().unwrap_or_default().chars().take(NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_in_a_circle() {
        let row = |name: &str, parent: &str| (name.to_owned(), (parent.to_owned(), name.to_owned()));
        let directories =
            Directories([row("a", "b"), row("b", "a"), row("c", "SystemFolder"), row("d", "c")].into());
        assert!(directories.path("a").is_err());
        assert_eq!(directories.path("d").unwrap(), ["Windows", "System32", "c", "d"]);
        assert!(directories.path("nowhere").unwrap().is_empty());
    }

    #[test]
    fn long_names() {
        for (text, name) in
            [("ACME~1|Acme Scope:src", "Acme Scope"), ("bin", "bin"), (".", "."), (".:x", ".")]
        {
            assert_eq!(long(text), name);
        }
    }
}

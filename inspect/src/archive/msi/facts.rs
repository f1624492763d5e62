//! What an installer package says about itself, and what it does beside unpacking.

use std::collections::HashMap;

use super::Source;
use super::database::{self, Database, Row};
use crate::facts::PackageKind;
use crate::{Error, PackageFacts, ScriptFacts, scripts};

/// Custom actions and services listed.
const ACTIONS: usize = 1024;
/// Characters of one column of an action; more than is kept of a script.
const COLUMN: usize = 128 << 10;
/// Characters of one property.
const TEXT: usize = 4096;

/// `ProductName`, `ProductVersion` and the like of the `Property` table.
pub(super) fn package(database: &Database, source: &mut Source<'_>) -> Result<Option<PackageFacts>, Error> {
    let properties = database.table(source, "Property")?;
    let value = |name: &str| {
        let row = database.rows(&properties).find(|row| row.text("Property") == name)?;
        let text: String = row.text("Value").chars().filter(|c| !c.is_control()).take(TEXT).collect();
        (!text.is_empty()).then_some(text)
    };
    let Some(name) = value("ProductName") else { return Ok(None) };
    Ok(Some(PackageFacts {
        vendor: value("Manufacturer"),
        homepage: value("ARPURLINFOABOUT"),
        description: value("ARPCOMMENTS"),
        architecture: database::template(database, source),
        ..PackageFacts::new(PackageKind::Msi, name, value("ProductVersion").unwrap_or_default())
    }))
}

/// Custom actions and services as scripts, in the order of their tables. `names` has the installed files by their keys.
pub(super) fn actions(
    database: &Database,
    source: &mut Source<'_>,
    names: &HashMap<String, String>,
) -> Result<Vec<ScriptFacts>, Error> {
    let table = database.table(source, "CustomAction")?;
    let mut found = Vec::new();
    for row in database.rows(&table).take(ACTIONS) {
        let name = format!("custom-action {}", printed(row.text("Action")));
        let mut text = described(row, &["Type", "Source", "Target"]);
        if is_of_file(row.number("Type")) {
            text.push_str(&file(names, row.text("Source")));
        }
        found.push(scripts::read_with(
            &name,
            interpreter(row.number("Type")).map(str::to_owned),
            text.as_bytes(),
        ));
    }
    let components = database.table(source, "Component")?;
    let keys: HashMap<&str, &str> =
        database.rows(&components).map(|row| (row.text("Component"), row.text("KeyPath"))).collect();
    let table = database.table(source, "ServiceInstall")?;
    for row in database.rows(&table).take(ACTIONS) {
        let name = format!("service {}", printed(row.text("Name")));
        let columns = [
            "DisplayName",
            "ServiceType",
            "StartType",
            "Dependencies",
            "StartName",
            "Arguments",
            "Component_",
        ];
        // The service is the file that stands for its component.
        let key = keys.get(row.text("Component_")).copied().unwrap_or_default();
        let text = described(row, &columns) + &file(names, key);
        found.push(scripts::read_with(&name, None, text.as_bytes()));
    }
    Ok(found)
}

/// The languages of actions that are scripts (Windows Installer, "Summary List of All Custom Action Types").
fn interpreter(kind: i64) -> Option<&'static str> {
    match kind & 0x3f {
        5 | 21 | 37 | 53 => Some("jscript"),
        6 | 22 | 38 | 54 => Some("vbscript"),
        _ => None,
    }
}

/// Actions whose source is an installed file (the same list).
fn is_of_file(kind: i64) -> bool {
    matches!(kind & 0x3f, 17 | 18 | 21 | 22)
}

/// Which file a key stands for, as one more column.
fn file(names: &HashMap<String, String>, key: &str) -> String {
    names.get(key).map(|path| format!("File: {}\n", printed(path))).unwrap_or_default()
}

/// One line for each column that is not empty.
fn described(row: Row<'_>, columns: &[&str]) -> String {
    let line = |column: &&str| {
        let text = match row.text(column) {
            "" => row.number(column).to_string(),
            text => text.chars().take(COLUMN).collect(),
        };
        (text != "0").then(|| format!("{column}: {text}\n"))
    };
    columns.iter().filter_map(line).collect()
}

fn printed(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}

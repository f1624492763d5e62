//! Package metadata into facts.

use crate::control::{self, Paragraph};
use crate::{Error, PackageFacts, PackageKind};

/// Reads a Debian package's `control`.
pub(crate) fn deb(text: &str) -> Result<PackageFacts, Error> {
    let paragraphs = control::parse("control", text)?;
    let paragraph = paragraphs.into_iter().next().ok_or_else(|| missing("control", "it is empty"))?;
    let field = |name: &str| paragraph.get(name).map(one_line).filter(|value| !value.is_empty());
    let name = required("control", &paragraph, "Package")?;
    let version = required("control", &paragraph, "Version")?;
    Ok(PackageFacts {
        architecture: field("Architecture"),
        section: field("Section"),
        vendor: field("Vendor"),
        maintainer: field("Maintainer"),
        homepage: field("Homepage"),
        license: field("License"),
        description: first_line(&paragraph, "Description"),
        depends: field("Depends"),
        pre_depends: field("Pre-Depends"),
        recommends: field("Recommends"),
        provides: field("Provides"),
        conflicts: field("Conflicts"),
        breaks: field("Breaks"),
        replaces: field("Replaces"),
        ..PackageFacts::new(PackageKind::Deb, name, version)
    })
}

/// Reads a wheel's `METADATA`; the tags come from its `WHEEL` by [`wheel_tags`].
pub(crate) fn wheel(member: &str, text: &str) -> Result<PackageFacts, Error> {
    let header = control::parse_header(member, text)?;
    let field = |name: &str| header.get(name).map(one_line).filter(|value| !value.is_empty());
    let name = required(member, &header, "Name")?;
    let version = required(member, &header, "Version")?;
    Ok(PackageFacts {
        maintainer: field("Author").or_else(|| field("Author-email")),
        homepage: field("Home-page"),
        license: field("License-Expression").or_else(|| first_line(&header, "License")),
        description: first_line(&header, "Summary"),
        requires_dist: header.all("Requires-Dist").map(one_line).collect(),
        requires_python: field("Requires-Python"),
        ..PackageFacts::new(PackageKind::Wheel, name, version)
    })
}

/// The `Tag` lines of a wheel's `WHEEL`, sorted.
pub(crate) fn wheel_tags(member: &str, text: &str) -> Result<Vec<String>, Error> {
    let header = control::parse_header(member, text)?;
    let mut tags: Vec<String> = header.all("Tag").map(str::to_owned).collect();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Reads a Java archive's `MANIFEST.MF`; most archives do not name themselves, and are called like the class they start.
pub(crate) fn jar(text: &str) -> Option<PackageFacts> {
    // A line that begins with a blank continues the one before it, in the middle of a word.
    let text = text.replace("\r\n", "\n").replace("\n ", "");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
        (!line.is_empty()).then(|| line.chars().take(1000).collect::<String>())
    };
    let main_class = value("Main-Class");
    let name = value("Implementation-Title").or_else(|| value("Bundle-SymbolicName"));
    let name = name.or_else(|| main_class.clone())?;
    let version = value("Implementation-Version").or_else(|| value("Bundle-Version")).unwrap_or_default();
    Some(PackageFacts {
        vendor: value("Implementation-Vendor").or_else(|| value("Bundle-Vendor")),
        license: value("Bundle-License"),
        description: value("Bundle-Name"),
        main_class,
        ..PackageFacts::new(PackageKind::Jar, name, version)
    })
}

fn required(member: &str, paragraph: &Paragraph, name: &str) -> Result<String, Error> {
    let value = paragraph.get(name).map(one_line).filter(|value| !value.is_empty());
    value.ok_or_else(|| missing(member, &format!("the field `{name}` is missing")))
}

fn missing(member: &str, what: &str) -> Error {
    Error::Control { archive: None, member: member.to_owned(), line: 1, what: what.to_owned() }
}

/// Relations may be folded over several lines; one line is easier for whoever reads them next.
fn one_line(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_line(paragraph: &Paragraph, name: &str) -> Option<String> {
    paragraph.get(name)?.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
}

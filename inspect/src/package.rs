//! Package metadata into facts.

use crate::control::{self, Paragraph};
use crate::{Error, PackageFacts, PackageKind};

/// Reads a Debian package's `control`.
pub(crate) fn deb(text: &str) -> Result<PackageFacts, Error> {
    let paragraphs = control::parse("control", text)?;
    let paragraph = paragraphs.into_iter().next().ok_or_else(|| missing("control", "it is empty"))?;
    let field = |name: &str| paragraph.get(name).map(one_line).filter(|value| !value.is_empty());
    Ok(PackageFacts {
        kind: PackageKind::Deb,
        name: required("control", &paragraph, "Package")?,
        version: required("control", &paragraph, "Version")?,
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
        requires_dist: Vec::new(),
        requires_python: None,
        tags: Vec::new(),
    })
}

/// Reads a wheel's `METADATA`; the tags come from its `WHEEL` by [`wheel_tags`].
pub(crate) fn wheel(member: &str, text: &str) -> Result<PackageFacts, Error> {
    let header = control::parse_header(member, text)?;
    let field = |name: &str| header.get(name).map(one_line).filter(|value| !value.is_empty());
    Ok(PackageFacts {
        kind: PackageKind::Wheel,
        name: required(member, &header, "Name")?,
        version: required(member, &header, "Version")?,
        architecture: None,
        section: None,
        vendor: None,
        maintainer: field("Author").or_else(|| field("Author-email")),
        homepage: field("Home-page"),
        license: field("License-Expression").or_else(|| first_line(&header, "License")),
        description: first_line(&header, "Summary"),
        depends: None,
        pre_depends: None,
        recommends: None,
        provides: None,
        conflicts: None,
        breaks: None,
        replaces: None,
        requires_dist: header.all("Requires-Dist").map(one_line).collect(),
        requires_python: field("Requires-Python"),
        tags: Vec::new(),
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

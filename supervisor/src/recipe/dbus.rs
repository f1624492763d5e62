//! Names on D-Bus that a tool may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longer names no bus takes (the D-Bus specification, "Valid Names").
const NAME_BYTES_MAX: usize = 255;
/// Services that do anything for anybody who may talk to them: start a program outside of the sandbox.
const REFUSED: [&str; 3] =
    ["org.freedesktop.systemd1", "org.freedesktop.Flatpak", "org.freedesktop.portal.Flatpak"];

/// Which buses a tool may talk to, through a filter.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Dbus {
    /// The bus of the person's session.
    pub session: Option<BusAccess>,
    /// The bus of the machine.
    pub system: Option<BusAccess>,
}

/// What a tool may do on a bus. The bus itself always answers, and says nothing of names that are not listed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BusAccess {
    /// Names whose coming and going it sees.
    pub see: Vec<BusName>,
    /// Names it may call and hear signals of; sees them too.
    pub talk: Vec<BusName>,
    /// Names it may take for itself; talks to them too.
    pub own: Vec<BusName>,
}

/// A well-known name, `org.freedesktop.Notifications`, or all below one, `com.acme.*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct BusName(String);

impl BusName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BusName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let name = text.strip_suffix(".*").unwrap_or(&text);
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(|c: char| c.is_ascii_digit())
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
        };
        if text.len() > NAME_BYTES_MAX || name.split('.').count() < 2 || !name.split('.').all(part) {
            return Err(format!(
                "`{text}` is not a name on D-Bus: `org.freedesktop.Notifications`, or `com.acme.*` for all below one"
            ));
        }
        let covers = |refused: &&str| {
            *refused == name || text.ends_with(".*") && refused.starts_with(&format!("{name}."))
        };
        if let Some(refused) = REFUSED.into_iter().find(|refused| covers(refused)) {
            return Err(format!("`{refused}` starts programs outside of the sandbox: no tool may use it"));
        }
        Ok(Self(text))
    }
}

impl From<BusName> for String {
    fn from(name: BusName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_open_no_way_out_are_taken() {
        for good in ["org.freedesktop.Notifications", "com.acme.*", "a.b", "org.freedesktop.portal.Desktop"] {
            assert!(BusName::try_from(good.to_owned()).is_ok(), "{good}");
        }
        let bad = [
            "*",
            "org",
            "org.*",
            "org.freedesktop.*",
            "org.freedesktop.systemd1",
            "org.freedesktop.systemd1.*",
            "org.freedesktop.Flatpak",
            "org..x",
            ".org.x",
            "org.1x",
            "org.x --talk=a.b",
            "a.b=@/x",
            "",
        ];
        for bad in bad {
            assert!(BusName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}

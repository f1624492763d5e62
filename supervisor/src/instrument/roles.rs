//! Who may do what with the daemon: by the ids that the kernel gives for whoever is at the other end of its socket.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// See what there is.
    Viewer,
    /// Start and stop units.
    Operator,
    /// Enter units.
    Service,
    /// Change what there is.
    Admin,
}

/// Who has which role. Root has all of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Roles {
    /// See what there is.
    #[serde(default)]
    pub viewer: Vec<Member>,
    /// Start and stop units.
    #[serde(default)]
    pub operator: Vec<Member>,
    /// Enter units.
    #[serde(default)]
    pub service: Vec<Member>,
    /// Change what there is.
    #[serde(default)]
    pub admin: Vec<Member>,
}

/// `user:NAME` or `group:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Member {
    /// One.
    User(String),
    /// All of a group.
    Group(String),
}

impl TryFrom<String> for Member {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.to_owned())),
            Some(("group", name)) if !name.is_empty() => Ok(Self::Group(name.to_owned())),
            _ => Err(format!("`{text}` is neither `user:NAME` nor `group:NAME`")),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Service => "service",
            Self::Admin => "admin",
        })
    }
}

impl Roles {
    /// The highest role of a user. Whoever runs the daemon has all of them, and so has root.
    #[must_use]
    pub fn of(&self, uid: u32, gid: u32) -> Option<Role> {
        if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
            return Some(Role::Admin);
        }
        let account = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = groups(account.as_ref(), gid);
        let is = |member: &Member| match member {
            Member::User(name) => account.as_ref().is_some_and(|account| account.name == *name),
            Member::Group(name) => {
                Group::from_name(name).ok().flatten().is_some_and(|g| groups.contains(&g.gid))
            }
        };
        let all = [
            (Role::Admin, &self.admin),
            (Role::Service, &self.service),
            (Role::Operator, &self.operator),
            (Role::Viewer, &self.viewer),
        ];
        all.into_iter().find(|(_, members)| members.iter().any(is)).map(|(role, _)| role)
    }
}

/// The groups that the accounts' files give a user, which are what a process of theirs has after logging in.
fn groups(account: Option<&User>, gid: u32) -> Vec<Gid> {
    let own = Gid::from_raw(gid);
    let of_account = account.and_then(|account| {
        let name = CString::new(account.name.as_str()).ok()?;
        getgrouplist(&name, account.gid).ok()
    });
    let mut groups = of_account.unwrap_or_default();
    groups.push(own);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_the_highest_that_somebody_has() {
        let member = |text: &str| Member::try_from(text.to_owned()).unwrap();
        let roles = Roles {
            viewer: vec![member("user:nobody")],
            service: vec![member("group:nogroup")],
            ..Roles::default()
        };
        let nobody = User::from_name("nobody").unwrap().unwrap();
        assert_eq!(roles.of(nobody.uid.as_raw(), nobody.gid.as_raw()), Some(Role::Service));
        let viewer = Roles { service: Vec::new(), ..roles };
        assert_eq!(viewer.of(nobody.uid.as_raw(), nobody.gid.as_raw()), Some(Role::Viewer));
        assert_eq!(Roles::default().of(nobody.uid.as_raw(), nobody.gid.as_raw()), None);
        assert_eq!(Roles::default().of(0, 0), Some(Role::Admin));
        assert!(Member::try_from("nobody".to_owned()).is_err());
        assert!(Role::Viewer < Role::Admin);
    }
}

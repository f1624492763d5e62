//! A container with users of its own, which a tool with services takes: systemd is root in it, and that root must be nobody on
//! the host.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use hatchway_envs::sandbox::User;
use hatchway_images::container::Ability;
use hatchway_images::engine::Engine;

use super::Request;
use crate::dirs::is_root;
use crate::error::Error;
use crate::recipe::{Audio, Display, Recipe, Runner};

/// Who the tool is inside. A container has 65536 users, and those that Hatchway gives tools on the host are not among them.
const INSIDE: u32 = 1000;

const GROUPS: &str = "/sys/fs/cgroup";
/// The files of a group that go with it.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";
const DELEGATED_ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// Who on the host root inside is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remapped {
    uid: u32,
    gid: u32,
}

impl Remapped {
    /// Nothing where the tool has no services, or runs elsewhere.
    ///
    /// # Errors
    /// An engine that cannot give an init system what it needs.
    pub(super) fn find(recipe: &Recipe, request: &Request) -> Result<Option<Self>, Error> {
        if !request.rung.nature().users || recipe.run.services.is_empty() {
            return Ok(None);
        }
        if request.user.is_some() {
            return Err(Error::Usage(
                "a container with services has users of its own, none of `--user`".into(),
            ));
        }
        let run = &recipe.run;
        let asked = [
            (run.dbus.is_some(), "dbus"),
            (run.audio != Audio::None, "audio"),
            (run.display != Display::None, "display"),
            (run.runner == Runner::Wine, "runner = \"wine\""),
        ];
        if let Some((_, what)) = asked.iter().find(|(asked, _)| *asked) {
            return Err(Error::Host {
                message: format!("a container with services has users of its own, and no `{what}`"),
                hints: vec![
                    "`--rung vm` starts services, too; of a person's session no guest has anything".into(),
                ],
            });
        }
        let engine = Engine::find(std::env::var("DOCKER_HOST").ok().as_deref())?;
        Self::of(engine.ability()?, is_root()).map(Some)
    }

    fn of(ability: Ability, root: bool) -> Result<Self, Error> {
        let lacks = match ability {
            Ability { groups: false, .. } => "it has no control groups of version 2",
            Ability { root: None, .. } => "root in its containers is root on this machine",
            Ability { .. } if !root => "only root can hand state to users of its containers",
            Ability { root: Some((uid, gid)), .. } => return Ok(Self { uid, gid }),
        };
        Err(Error::Host {
            message: format!("the container engine cannot give `services` an init system: {lacks}"),
            hints: vec![
                "`--rung vm` starts them in a guest".into(),
                "an engine needs control groups of version 2, and `userns-remap` in Docker's `daemon.json`"
                    .into(),
            ],
        })
    }

    /// Who the tool believes to be.
    pub(super) fn inside() -> Result<User, Error> {
        Ok(User::new("tool", INSIDE, INSIDE)?)
    }

    /// Who that is on the host.
    pub(super) fn outside(&self, user: &User) -> User {
        User {
            uid: self.uid.saturating_add(user.uid),
            gid: self.gid.saturating_add(user.gid),
            ..user.clone()
        }
    }

    /// Hands the container's control group to root inside, as cgroups(7), "Delegation: delegating a hierarchy to a less privileged
    /// user", says. runc does it by itself where systemd makes its groups, and only there. Limits stay the host's.
    pub(super) fn delegate(&self, process: u32) -> Result<(), Error> {
        let listed = PathBuf::from(format!("/proc/{process}/cgroup"));
        let text = fs::read_to_string(&listed).map_err(Error::io("read", &listed))?;
        // The line of version 2 (cgroups(7)).
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let mapped = PathBuf::from(format!("/proc/{process}/uid_map"));
        let mapped = fs::read_to_string(&mapped).map_err(Error::io("read", &mapped))?;
        // The number is what the engine says: it may be of another namespace, or another's by now, or the engine's wishes be others.
        let is_its_own = mapped.split_whitespace().take(2).eq(["0", self.uid.to_string().as_str()]);
        if own.is_empty() || own.split('/').any(|part| part == "..") || !is_its_own {
            return Err(Error::Host {
                message: "the container is not one with users of its own".into(),
                hints: vec!["`--rung vm` starts services in a guest".into()],
            });
        }
        let group = Path::new(GROUPS).join(own);
        self.give(&group)?;
        // Older kernels have no such list.
        let files = fs::read_to_string(DELEGATED).unwrap_or_else(|_| DELEGATED_ALWAYS.to_owned());
        files
            .lines()
            .map(|name| group.join(name))
            .filter(|path| path.exists())
            .try_for_each(|path| self.give(&path))
    }

    /// Hands a file to root inside.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_lacks_is_said_with_the_rung_that_has_it() {
        let able = Ability { groups: true, root: Some((100_000, 200_000)) };
        let remapped = Remapped::of(able, true).unwrap();
        let outside = remapped.outside(&Remapped::inside().unwrap());
        assert_eq!((outside.uid, outside.gid), (101_000, 201_000));
        for (ability, root, said) in [
            (Ability { groups: false, ..able }, true, "version 2"),
            (Ability { root: None, ..able }, true, "is root on this machine"),
            (able, false, "only root"),
        ] {
            let error = Remapped::of(ability, root).unwrap_err();
            assert!(error.to_string().contains(said) && error.hints()[0].contains("--rung vm"), "{error}");
        }
    }
}

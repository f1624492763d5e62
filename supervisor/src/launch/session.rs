//! The session of the person at the machine, from the environment of the command; behind sudo, of whoever called it.

use std::path::PathBuf;

/// Where the person's display and sound are.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    /// `DISPLAY`
    pub(super) display: Option<String>,
    /// The file with the cookies of X servers.
    pub(super) authority: Option<PathBuf>,
    /// `WAYLAND_DISPLAY`
    pub(super) wayland: Option<String>,
    /// The session's folder of sockets.
    pub(super) runtime: Option<PathBuf>,
    /// `PULSE_SERVER`
    pub(super) pulse: Option<String>,
    /// `DBUS_SESSION_BUS_ADDRESS`
    pub(super) bus: Option<String>,
    /// Whose session it is.
    pub(super) uid: u32,
    /// The cookie of the sound server.
    pub(super) pulse_cookie: Option<PathBuf>,
}

impl Session {
    pub(super) fn find() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let caller: Option<u32> = variable("SUDO_UID").and_then(|uid| uid.parse().ok());
        let uid = caller.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        // Behind sudo, HOME may be root's.
        let account = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.dir);
        let home = match caller {
            Some(_) => account,
            None => variable("HOME").map(PathBuf::from).or(account),
        };
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name)).filter(|path| path.is_file());
        let runtime = match variable("XDG_RUNTIME_DIR") {
            Some(folder) if caller.is_none() => PathBuf::from(folder),
            _ => PathBuf::from(format!("/run/user/{uid}")),
        };
        Self {
            display: variable("DISPLAY"),
            authority: variable("XAUTHORITY").map(PathBuf::from).or_else(|| below_home(".Xauthority")),
            wayland: variable("WAYLAND_DISPLAY"),
            runtime: runtime.is_dir().then_some(runtime),
            pulse: variable("PULSE_SERVER"),
            bus: variable("DBUS_SESSION_BUS_ADDRESS"),
            uid,
            pulse_cookie: variable("PULSE_COOKIE")
                .map(PathBuf::from)
                .or_else(|| below_home(".config/pulse/cookie"))
                .or_else(|| below_home(".pulse-cookie")),
        }
    }
}

//! Scripts by which an artifact is installed that no package names: in front of what is appended to them, or beside the files.

use std::io::Read;

use super::kept::Buffer;
use super::{Collector, Member};
use crate::archive::{Format, Source};
use crate::{Error, scripts};

/// Bytes of a script that are read.
const SCRIPT: usize = 512 << 10;
/// Installer scripts of one artifact.
const SCRIPTS: usize = 64;
/// What their names begin with.
const NAMES: [&str; 2] = ["install", "setup"];
/// What their names end with, if there is a dot in them.
const ENDINGS: [&str; 6] = ["bash", "bin", "ksh", "pl", "run", "sh"];

impl Collector {
    /// A script among the members: read if somebody is meant to run it to install the rest.
    pub(super) fn installer_script(
        &mut self,
        member: &Member<'_>,
        buffer: &mut Buffer,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let packaged = matches!(self.format, Format::Deb | Format::Rpm | Format::Wheel | Format::Msi);
        let named = self.startup.as_deref() == Some(member.path) || is_installer(member.path);
        if packaged || !named || self.scripts.len() >= SCRIPTS {
            return Ok(());
        }
        member.read_up_to(buffer, content, SCRIPT as u64)?;
        self.scripts.push(scripts::read(member.path, text_of(buffer.content())));
        Ok(())
    }

    /// An artifact that is a script: read up to what is appended to it, or if its name says that it installs something. The
    /// head that makeself writes is the same for everybody; what it starts is read where it lies.
    pub(super) fn lone_script(
        &mut self,
        path: &str,
        source: &mut Source<'_>,
        format: Format,
    ) -> Result<(), Error> {
        let payload = self.contains.iter().map(|contained| contained.offset).min();
        if format != Format::Script || (payload.is_none() && !is_installer(path)) {
            return Ok(());
        }
        let end = payload.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(SCRIPT).min(SCRIPT);
        let head = source.read_at(0, end)?;
        self.scripts.push(scripts::read(path, text_of(&head)));
        Ok(())
    }
}

/// Whether a script in the topmost folder, or in the only one above it, is called like an installer.
fn is_installer(path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').rsplit('/');
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    parts.count() <= 1
        && NAMES.iter().any(|beginning| name.starts_with(beginning))
        && ending.is_none_or(|ending| ENDINGS.contains(&ending))
}

/// Whether a file without `#!` is called like a shell script that installs something, and begins like a text. People start
/// those with `sh`, and shells do so themselves where the kernel refuses.
pub(super) fn is_bare_script(path: &str, head: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let is_text = !head.is_empty() && !head.contains(&0) && head.is_ascii();
    is_text && is_installer(path) && (name.ends_with(".sh") || name.ends_with(".bash"))
}

/// The lines before the first one that is no text.
fn text_of(bytes: &[u8]) -> &[u8] {
    let Some(binary) = memchr::memchr(0, bytes) else { return bytes };
    let text = bytes.get(..binary).unwrap_or_default();
    let end = memchr::memrchr(b'\n', text).map_or(0, |end| end.saturating_add(1));
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_installers() {
        for path in
            ["/install.sh", "/acme-1.0/Setup", "/INSTALL.SH", "/install_drivers.sh", "/setup-linux.run"]
        {
            assert!(is_installer(path), "{path}");
        }
        for path in ["/setup.py", "/a/b/install.sh", "/uninstall.sh", "/run.sh", "/install.conf", "/"] {
            assert!(!is_installer(path), "{path}");
        }
        assert_eq!(text_of(b"a\nb\0c"), b"a\n");
        assert_eq!(text_of(b"a\nb"), b"a\nb");
    }
}

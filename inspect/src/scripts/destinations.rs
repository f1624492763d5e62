//! Which files a command makes, changes or removes: the operands that coreutils, sed and dd write to.

use crate::system;

/// Folders in which a package's files lie beside those of others: what is copied to one of them is copied into it.
const FOLDERS: [&str; 10] = [
    "/bin",
    "/etc",
    "/lib",
    "/opt",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/sbin",
];

/// What one command does to files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) written: Vec<String>,
    pub(super) removed: Vec<String>,
}

/// What a command with these arguments touches; an argument is `None` where its value is not known.
pub(super) fn of(name: &str, arguments: &[Option<String>]) -> Touched {
    let written = |written| Touched { written, removed: Vec::new() };
    match name {
        "cp" => written(copied(&Operands::read(arguments, "St"))),
        "ln" => written(linked(&Operands::read(arguments, "St"))),
        "mv" => {
            let operands = Operands::read(arguments, "St");
            Touched { written: copied(&operands), removed: operands.sources() }
        }
        "install" => written(installed(arguments)),
        "sed" => written(edited(arguments)),
        "dd" => {
            written(known(arguments).filter_map(|word| word.strip_prefix("of=").map(str::to_owned)).collect())
        }
        "tee" => written(Operands::read(arguments, "").all()),
        "touch" => written(Operands::read(arguments, "drt").all()),
        "truncate" => written(Operands::read(arguments, "rs").all()),
        "mkdir" => written(Operands::read(arguments, "m").all()),
        "rm" | "rmdir" | "unlink" => {
            Touched { written: Vec::new(), removed: Operands::read(arguments, "").all() }
        }
        _ => Touched::default(),
    }
}

fn known(arguments: &[Option<String>]) -> impl Iterator<Item = &str> {
    arguments.iter().filter_map(|argument| argument.as_deref())
}

/// What is left of the arguments without options.
struct Operands {
    words: Vec<Option<String>>,
    /// `-t` or `--target-directory`.
    folder: Option<String>,
}

impl Operands {
    /// `valued` are the short options with an argument of their own.
    fn read(arguments: &[Option<String>], valued: &str) -> Self {
        let mut operands = Self { words: Vec::new(), folder: None };
        let mut only_operands = false;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let text = word.as_deref().unwrap_or_default();
            if only_operands || !text.starts_with('-') || text == "-" {
                operands.words.push(word.clone());
            } else if text == "--" {
                only_operands = true;
            } else if let Some(long) = text.strip_prefix("--") {
                if let Some(folder) = long.strip_prefix("target-directory=") {
                    operands.folder = Some(folder.to_owned());
                }
            } else if let Some((letter, value)) = valued_option(text, valued) {
                let value = if value.is_empty() { words.next().cloned().flatten() } else { Some(value) };
                if letter == 't' {
                    operands.folder = value.or_else(|| Some(String::new()));
                }
            }
        }
        operands
    }

    fn all(self) -> Vec<String> {
        self.words.into_iter().flatten().collect()
    }

    /// All but the last, or all where the folder is an option.
    fn sources(&self) -> Vec<String> {
        let count = if self.folder.is_some() { self.words.len() } else { self.words.len().saturating_sub(1) };
        self.words.iter().take(count).flatten().cloned().collect()
    }
}

/// The option of a cluster that has an argument, and what of it stands in the same word.
fn valued_option(text: &str, valued: &str) -> Option<(char, String)> {
    let cluster = text.get(1..)?;
    let (at, letter) = cluster.char_indices().find(|(_, letter)| valued.contains(*letter))?;
    Some((letter, cluster.get(at.checked_add(letter.len_utf8())?..)?.to_owned()))
}

/// `SOURCE DEST`, `SOURCE… FOLDER`, `-t FOLDER SOURCE…`.
fn copied(operands: &Operands) -> Vec<String> {
    if let Some(folder) = &operands.folder {
        return operands.words.iter().map(|source| inside(folder, source.as_deref())).collect();
    }
    let Some((Some(last), sources)) = operands.words.split_last() else { return Vec::new() };
    match sources {
        [] => Vec::new(),
        [source] => vec![place(last, source.as_deref())],
        several => several.iter().map(|source| inside(last, source.as_deref())).collect(),
    }
}

/// As [`copied`]; one name alone is linked from the current folder, wherever that is.
fn linked(operands: &Operands) -> Vec<String> {
    copied(operands)
}

/// `install -d FOLDER…` makes folders, otherwise it copies.
fn installed(arguments: &[Option<String>]) -> Vec<String> {
    let valued = "gmotS";
    let operands = Operands::read(arguments, valued);
    let makes_folders = known(arguments).any(|word| {
        let before = |cluster: &str| cluster.chars().take_while(|c| !valued.contains(*c)).any(|c| c == 'd');
        word == "--directory" || (!word.starts_with("--") && word.strip_prefix('-').is_some_and(before))
    });
    if makes_folders { operands.all() } else { copied(&operands) }
}

/// The files of `sed -i`; without it sed writes to its output.
fn edited(arguments: &[Option<String>]) -> Vec<String> {
    // What stands behind `i` in its word is the ending of a copy.
    let in_place = |word: &str| {
        let cluster = |cluster: &str| cluster.chars().take_while(|c| !"efl".contains(*c)).any(|c| c == 'i');
        word.starts_with("--in-place")
            || (!word.starts_with("--") && word.strip_prefix('-').is_some_and(cluster))
    };
    if !known(arguments).any(in_place) {
        return Vec::new();
    }
    let scripted = known(arguments).any(|word| {
        let cluster =
            |cluster: &str| cluster.chars().take_while(|c| *c != 'i').any(|c| matches!(c, 'e' | 'f'));
        let long = word.starts_with("--expression") || word.starts_with("--file");
        long || (!word.starts_with("--") && word.strip_prefix('-').is_some_and(cluster))
    });
    let without: Vec<Option<String>> = arguments
        .iter()
        .filter(|word| !word.as_deref().is_some_and(|word| word.starts_with("-i")))
        .cloned()
        .collect();
    let operands = Operands::read(&without, "efl").words;
    operands.into_iter().skip(usize::from(!scripted)).flatten().collect()
}

/// Where a copy of one source ends up. Whether the destination is a folder only the machine would tell; where a file of that
/// name would have a role there, or many packages have files, it is taken to be one.
fn place(destination: &str, source: Option<&str>) -> String {
    let joined = inside(destination, source);
    let role = |path: &str| system::role(path.trim_start_matches('/'));
    let folder = destination.ends_with('/')
        || FOLDERS.contains(&destination)
        || (role(destination).is_none() && source.is_some() && role(&joined).is_some());
    if folder { joined } else { destination.to_owned() }
}

fn inside(folder: &str, source: Option<&str>) -> String {
    let base = source.and_then(|source| source.trim_end_matches('/').rsplit('/').next()).unwrap_or_default();
    format!("{}/{base}", folder.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(line: &str) -> (Vec<String>, Vec<String>) {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let arguments: Vec<Option<String>> =
            words.map(|word| (!word.starts_with('?')).then(|| word.to_owned())).collect();
        let touched = of(name, &arguments);
        (touched.written, touched.removed)
    }

    #[test]
    fn destinations_are_told_from_sources() {
        for (line, written) in [
            ("cp -p /opt/a.conf /etc/acme.conf", &["/etc/acme.conf"][..]),
            ("cp /opt/a /opt/b /etc/acme", &["/etc/acme/a", "/etc/acme/b"]),
            ("cp -t /etc/acme ? /opt/b", &["/etc/acme/", "/etc/acme/b"]),
            ("cp --target-directory=/etc/acme -- -b", &["/etc/acme/-b"]),
            ("cp /opt/60-acme.rules /etc/udev/rules.d", &["/etc/udev/rules.d/60-acme.rules"]),
            ("cp /opt/60-acme.rules /etc/udev/rules.d/70-x.rules", &["/etc/udev/rules.d/70-x.rules"]),
            ("cp ? /etc/cron.d/acme", &["/etc/cron.d/acme"]),
            ("ln -sf /opt/acme/run /usr/bin", &["/usr/bin/run"]),
            ("ln -s /opt/acme/run", &[]),
            ("mv /etc/new /etc/old", &["/etc/old"]),
            (
                "install -m 644 -D a.service /etc/systemd/system/acme.service",
                &["/etc/systemd/system/acme.service"],
            ),
            ("install -Dm644 a /etc/a", &["/etc/a"]),
            ("install -d -m 755 /etc/acme /etc/b", &["/etc/acme", "/etc/b"]),
            ("sed -i s/a/b/ /etc/fstab", &["/etc/fstab"]),
            ("sed -ri.bak -e s/a/b/ /etc/fstab /etc/b", &["/etc/fstab", "/etc/b"]),
            ("sed -e s/i/b/ /etc/fstab", &[]),
            ("dd if=/dev/zero of=/etc/blob bs=1", &["/etc/blob"]),
            ("tee -a /etc/a /etc/b", &["/etc/a", "/etc/b"]),
            ("touch -d now /etc/a", &["/etc/a"]),
            ("mkdir -p -m 700 /etc/acme", &["/etc/acme"]),
            ("chmod 644 /etc/a", &[]),
        ] {
            assert_eq!(touched(line).0, written, "{line}");
        }
    }

    #[test]
    fn what_is_removed_is_not_written() {
        assert_eq!(touched("rm -rf /etc/acme /var/x"), (vec![], vec!["/etc/acme".into(), "/var/x".into()]));
        assert_eq!(touched("mv /etc/new /etc/old").1, ["/etc/new"]);
    }
}

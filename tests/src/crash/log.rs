//! What `strace -f -y -xx` wrote about a program, as changes of one folder. A call that changes the folder and is not known
//! here is a failure, not a gap.

use std::collections::HashMap;

use super::{Disk, Id, Inode, Op, World};

/// Calls that change a folder, move in a file, or make something durable.
pub const CALLS: &str = "execve,open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,rename,\
                         renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,\
                         utimensat,fsync,fdatasync,sync_file_range,syncfs,sync,copy_file_range,sendfile,splice,mknod,mknodat,setxattr,\
                         fsetxattr,chown,fchown,lchown,fchownat";

/// Reads a log: the changes below `root`, beginning from `world`.
///
/// # Panics
/// On a line that cannot be read, or a call that the model lacks.
#[must_use]
pub fn read(text: &str, root: &str, world: &World) -> Vec<Op> {
    let next = world.0.keys().max().map_or(0, |id| id + 1);
    let mut reader = Reader {
        root: root.to_owned(),
        disk: Disk::new(world.clone()),
        next,
        open: HashMap::new(),
        ops: Vec::new(),
    };
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    for line in text.lines() {
        let (process, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begun.to_owned());
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let end = resumed.split_once("resumed>").expect("a call is resumed").1;
            let begun = unfinished.remove(process).expect("what is resumed was begun");
            // Others wrote while this one waited: what of that is on disk nobody knows, so nothing is believed of it.
            if !begun.starts_with("syncfs(") {
                reader.call(&format!("{begun}{end}"));
            }
        } else if !rest.starts_with("+++") && !rest.starts_with("---") {
            reader.call(rest);
        }
    }
    reader.ops
}

struct Reader {
    root: String,
    disk: Disk,
    next: Id,
    /// Open files below the root, with their offsets.
    open: HashMap<u32, (Id, usize, bool)>,
    ops: Vec<Op>,
}

/// One argument: its text, with strings and the paths behind descriptors decoded.
#[derive(Debug, Default)]
struct Argument {
    plain: String,
    string: Option<Vec<u8>>,
    path: Option<String>,
}

impl Reader {
    fn call(&mut self, line: &str) {
        let (name, rest) = line.split_once('(').unwrap_or_else(|| panic!("no call: {line}"));
        let (arguments, result) = arguments(rest);
        let result = result.trim_start().strip_prefix("= ").unwrap_or_else(|| panic!("no result: {line}"));
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let Some(op) = self.op(name, &arguments, result, line) else { return };
        for op in op {
            self.disk.apply(&op);
            self.ops.push(op);
        }
    }

    fn op(&mut self, name: &str, arguments: &[Argument], result: &str, line: &str) -> Option<Vec<Op>> {
        let number =
            |at: usize| arguments[at].plain.parse::<usize>().unwrap_or_else(|_| panic!("no number: {line}"));
        let octal = |at: usize| {
            u32::from_str_radix(&arguments[at].plain, 8).unwrap_or_else(|_| panic!("no mode: {line}"))
        };
        let one = |op| Some(vec![op]);
        match name {
            "execve" => {
                assert!(self.ops.is_empty(), "another program changes the folder: {line}");
                None
            }
            "open" | "creat" => panic!("the model does not know `{name}`"),
            "openat" => self.opened(arguments, result),
            "write" => {
                let (id, offset) = self.file(&arguments[0])?;
                let bytes = arguments[1].string.clone().expect("what is written");
                let written: usize = result.split(' ').next()?.parse().ok()?;
                assert!(bytes.len() >= written, "strace cut what was written: {}", &line[..60]);
                self.open.entry(number_of(&arguments[0])).and_modify(|open| open.1 = offset + written);
                one(Op::Write(id, offset, bytes[..written].to_vec()))
            }
            "lseek" => {
                let (_, _) = self.file(&arguments[0])?;
                let to = result.split(' ').next()?.parse().ok()?;
                self.open.entry(number_of(&arguments[0])).and_modify(|open| open.1 = to);
                None
            }
            "ftruncate" => one(Op::Truncate(self.file(&arguments[0])?.0, number(1))),
            "fchmod" => one(Op::Mode(self.handle(&arguments[0])?, octal(1))),
            "chmod" => one(Op::Mode(self.disk.seen.find(&self.below(None, &arguments[0])?)?, octal(1))),
            "fchmodat" => one(Op::Mode(
                self.disk.seen.find(&self.below(Some(&arguments[0]), &arguments[1])?)?,
                octal(2),
            )),
            "utimensat" => {
                let id = self.handle(&arguments[0])?;
                let time = arguments[2].plain.rsplit_once("tv_sec=")?.1.split(',').next()?.parse().ok()?;
                one(Op::Time(id, time))
            }
            "mkdir" => self.made(
                None,
                &arguments[0],
                Inode::Folder { names: Default::default(), mode: octal(1) & !0o022 },
            ),
            "symlink" => {
                let target = String::from_utf8(arguments[0].string.clone()?).ok()?;
                self.made(None, &arguments[1], Inode::Link(target))
            }
            "symlinkat" => {
                let target = String::from_utf8(arguments[0].string.clone()?).ok()?;
                self.made(Some(&arguments[1]), &arguments[2], Inode::Link(target))
            }
            "link" => self.linked(&self.below(None, &arguments[0])?, &self.below(None, &arguments[1])?),
            "linkat" => self.linked(
                &self.below(Some(&arguments[0]), &arguments[1])?,
                &self.below(Some(&arguments[2]), &arguments[3])?,
            ),
            "unlink" | "rmdir" => self.removed(&self.below(None, &arguments[0])?),
            "unlinkat" => self.removed(&self.below(Some(&arguments[0]), &arguments[1])?),
            "rename" => self.renamed(self.below(None, &arguments[0]), self.below(None, &arguments[1]), line),
            "renameat" | "renameat2" => self.renamed(
                self.below(Some(&arguments[0]), &arguments[1]),
                self.below(Some(&arguments[2]), &arguments[3]),
                line,
            ),
            "fsync" | "fdatasync" => one(Op::Sync(self.handle(&arguments[0])?)),
            "syncfs" => self.under(arguments[0].path.as_deref()?).map(|_| vec![Op::SyncAll]),
            "sync" => one(Op::SyncAll),
            _ => {
                let inside = arguments.iter().any(|argument| {
                    let string = argument.string.as_ref().and_then(|s| String::from_utf8(s.clone()).ok());
                    argument.path.iter().chain(&string).any(|path| self.under(path).is_some())
                });
                assert!(!inside, "the model does not know this call: {}", &line[..line.len().min(200)]);
                None
            }
        }
    }

    fn opened(&mut self, arguments: &[Argument], result: &str) -> Option<Vec<Op>> {
        let path = self.below(Some(&arguments[0]), &arguments[1])?;
        let flags = &arguments[2].plain;
        let fd: u32 = result.split(['<', ' ']).next()?.parse().ok()?;
        let append = flags.contains("O_APPEND");
        if let Some(id) = self.disk.seen.find(&path) {
            self.open.insert(fd, (id, 0, append));
            return flags.contains("O_TRUNC").then(|| vec![Op::Truncate(id, 0)]);
        }
        assert!(flags.contains("O_CREAT"), "a file was opened that the model does not have: {path}");
        let mode = u32::from_str_radix(&arguments[3].plain, 8).ok()? & !0o022;
        let made = self.made_at(&path, Inode::File { bytes: Vec::new(), mode, time: None });
        self.open.insert(fd, (self.next - 1, 0, append));
        made
    }

    fn made(&mut self, folder: Option<&Argument>, path: &Argument, inode: Inode) -> Option<Vec<Op>> {
        let path = self.below(folder, path)?;
        self.made_at(&path, inode)
    }

    fn made_at(&mut self, path: &str, inode: Inode) -> Option<Vec<Op>> {
        let (folder, name) = self.place(path);
        let id = self.next;
        self.next += 1;
        Some(vec![Op::Make(folder, name, id, inode)])
    }

    fn linked(&self, from: &str, to: &str) -> Option<Vec<Op>> {
        let id = self.disk.seen.find(from).unwrap_or_else(|| panic!("a link to what is not there: {from}"));
        let (folder, name) = self.place(to);
        Some(vec![Op::Name(folder, name, id)])
    }

    fn removed(&self, path: &str) -> Option<Vec<Op>> {
        let (folder, name) = self.place(path);
        Some(vec![Op::Remove(folder, name)])
    }

    fn renamed(&self, from: Option<String>, to: Option<String>, line: &str) -> Option<Vec<Op>> {
        match (from, to) {
            (None, None) => None,
            (Some(from), Some(to)) => {
                let ((from, old), (to, new)) = (self.place(&from), self.place(&to));
                Some(vec![Op::Rename(from, old, to, new)])
            }
            _ => panic!("a rename into or out of the folder: {line}"),
        }
    }

    /// The folder of a path, and the name in it.
    fn place(&self, path: &str) -> (Id, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = self.disk.seen.find(folder).unwrap_or_else(|| panic!("there is no folder for {path}"));
        (id, name.to_owned())
    }

    /// A path below the root; `None` for others.
    fn under(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(&self.root)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    }

    fn below(&self, folder: Option<&Argument>, path: &Argument) -> Option<String> {
        let text = String::from_utf8(path.string.clone()?).ok()?;
        if text.starts_with('/') {
            return self.under(&text);
        }
        self.under(&format!("{}/{text}", folder?.path.as_ref()?))
    }

    /// An open file below the root, and the offset of the next write.
    fn file(&self, argument: &Argument) -> Option<(Id, usize)> {
        self.under(argument.path.as_deref()?)?;
        let (id, offset, append) = *self.open.get(&number_of(argument)).expect("an open file is known");
        match &self.disk.seen.0[&id] {
            Inode::File { bytes, .. } if append => Some((id, bytes.len())),
            Inode::File { .. } => Some((id, offset)),
            _ => None,
        }
    }

    /// What an open descriptor stands for, folders too.
    fn handle(&self, argument: &Argument) -> Option<Id> {
        self.under(argument.path.as_deref()?)?;
        Some(self.open.get(&number_of(argument)).expect("an open descriptor is known").0)
    }
}

fn number_of(argument: &Argument) -> u32 {
    argument.plain.parse().unwrap_or_else(|_| panic!("no descriptor: {argument:?}"))
}

/// The arguments of a call, and what stands behind the bracket.
fn arguments(text: &str) -> (Vec<Argument>, &str) {
    let mut arguments = vec![Argument::default()];
    let mut depth = 0;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let current = arguments.last_mut().expect("there is always one");
        match first {
            '"' => {
                let end = rest[1..].find('"').expect("a string ends") + 1;
                current.string = Some(bytes(&rest[1..end]));
                rest = &rest[end + 1..];
                continue;
            }
            '<' => {
                let end = rest.find('>').expect("a path ends");
                current.path = String::from_utf8(bytes(&rest[1..end])).ok();
                rest = &rest[end + 1..];
                continue;
            }
            '[' | '{' | '(' => depth += 1,
            ')' if depth == 0 => return (arguments, &rest[1..]),
            ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(Argument::default());
                rest = rest[1..].trim_start();
                continue;
            }
            _ => {}
        }
        current.plain.push(first);
        rest = &rest[first.len_utf8()..];
    }
    panic!("a call without an end: {text}")
}

/// `\x41\x42`, and what strace left as it was.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&hex[..2], 16).expect("two digits"));
            rest = &hex[2..];
        } else {
            bytes.extend(first.to_string().bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::Loss;
    use std::collections::BTreeMap;

    #[test]
    fn a_log_becomes_changes() {
        // `/d/a` and so on, as `-xx` writes them.
        let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let path = |text: &str| format!("\"{}\"", hex(text));
        let (a, d, b) = (path("/d/a"), path("/d"), path("/d/b"));
        let log = format!(
            "7 openat(AT_FDCWD<{w}>, {a}, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 5<{ah}>\n\
             7 write(5<{ah}>, \"\\x41\\x42\", 2) = 2\n\
             8 write(5<{ah}>, \"\\x43\", 1 <unfinished ...>\n\
             7 write(1<{w}>, \"\\x43\", 1) = 1\n\
             8 <... write resumed>) = 1\n\
             7 utimensat(5<{ah}>, NULL, [UTIME_OMIT, {{tv_sec=1, tv_nsec=0}}], 0) = 0\n\
             7 fchmod(5<{ah}>, 0444) = 0\n\
             7 unlink({b}) = -1 ENOENT (No such file or directory)\n\
             7 rename({a}, {b}) = 0\n\
             7 openat(AT_FDCWD<{w}>, {d}, O_RDONLY|O_CLOEXEC) = 6<{dh}>\n\
             7 fsync(6<{dh}>) = 0\n\
             7 +++ exited with 0 +++\n",
            w = hex("/w"),
            ah = hex("/d/a"),
            dh = hex("/d"),
        );
        let world = World(BTreeMap::from([(0, Inode::Folder { names: BTreeMap::new(), mode: 0o755 })]));
        let mut disk = Disk::new(world.clone());
        for op in read(&log, "/d", &world) {
            disk.apply(&op);
        }
        let file = |text: &str, time| Inode::File { bytes: text.into(), mode: 0o444, time };
        assert_eq!(disk.seen.listing()["/b"], file("ABC", Some(1)));
        // Its name was synced, the file was not.
        assert_eq!(disk.after(Loss::All).listing()["/b"], file("", None));
    }
}

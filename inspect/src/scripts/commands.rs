//! What the commands of a script are: which are of note, what they are run through, where they write.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::destinations;
use super::lexer::{self, Lexed, RedirectKind, Simple};
use super::names::COMMANDS;
use super::word::{Variables, Word};
use crate::ScriptAction;

/// Commands listed of one script.
const ACTIONS: usize = 200;
/// Characters of one command.
const ACTION_CHARS: usize = 200;
/// Files listed that one script writes.
const WRITES: usize = 256;
/// Scripts inside scripts (`sh -c '…'`, here documents), and how deep.
const INNER: usize = 256;
const INNER_DEEP: usize = 4;
/// Variables whose values are kept.
const VARIABLES: usize = 4096;

/// What runs another command, and which of its options have an argument of their own.
const LEADERS: [(&str, &str); 23] = [
    ("builtin", ""),
    ("chroot", ""),
    ("chrt", ""),
    ("command", ""),
    ("doas", "uC"),
    ("env", "uCS"),
    ("eval", ""),
    ("exec", "a"),
    ("fakeroot", ""),
    ("flock", "wE"),
    ("ionice", "cnpPu"),
    ("nice", "n"),
    ("nohup", ""),
    ("pkexec", ""),
    ("runuser", "ugGsc"),
    ("setsid", ""),
    ("stdbuf", "ioe"),
    ("su", "sgGc"),
    ("sudo", "ugChpRrtT"),
    ("time", "fo"),
    ("timeout", "ks"),
    ("unshare", "RwSG"),
    ("xargs", "adEILnPs"),
];

/// Leaders whose first argument is not the command yet: a root, a lock, a time, a user, a priority.
const WITH_ARGUMENT: [&str; 5] = ["chroot", "chrt", "flock", "runuser", "timeout"];

const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];

/// Where redirections go that write nothing to a disk.
const NOWHERE: [&str; 4] = ["/dev/", "/proc/self/", "/proc/thread-self/", "/dev"];

/// What reading a script tells.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) calls: BTreeSet<String>,
    pub(super) actions: Vec<ScriptAction>,
    pub(super) writes: BTreeSet<String>,
    pub(super) removes: BTreeSet<String>,
    /// Every command of note, its arguments as far as their values are known, otherwise as they stand there.
    pub(super) commands: Vec<Vec<String>>,
}

/// A shell script, or a part of one that is a script itself.
struct Job<'t> {
    text: Cow<'t, str>,
    /// The line it begins on, from 1.
    line: usize,
    depth: usize,
    /// Text in which only `$(…)` is a command.
    quoted: bool,
}

/// Reads a shell script that begins on the given line.
pub(super) fn shell(text: &str, line: usize, found: &mut Found) {
    let mut reader =
        Reader { found, variables: Variables::new(), functions: BTreeSet::new(), inner: Vec::new() };
    let mut next = Some(Job { text: Cow::Borrowed(text), line, depth: 0, quoted: false });
    let mut read = 0;
    while let Some(job) = next.filter(|_| read < INNER) {
        reader.job(&job);
        read += 1;
        next = reader.inner.pop();
    }
    // What is inside another command was found before it.
    found.actions.sort_by_key(|action| action.line);
    found.actions.truncate(ACTIONS);
}

struct Reader<'f> {
    found: &'f mut Found,
    variables: Variables,
    functions: BTreeSet<String>,
    inner: Vec<Job<'static>>,
}

impl Reader<'_> {
    fn job(&mut self, job: &Job<'_>) {
        let text = job.text.as_ref();
        let lexed = if job.quoted { lexer::quoted_text(text) } else { lexer::script(text) };
        for command in &lexed.commands {
            self.assignments(command);
        }
        self.functions.extend(lexed.functions.iter().cloned());
        let mut lines = Lines::new(text, job.line);
        let mut order: Vec<&Simple> = lexed.commands.iter().collect();
        order.sort_by_key(|command| command.start);
        for command in order {
            let line = lines.of(command.start);
            self.redirects(command);
            self.command(job, command, line, &lexed);
        }
        for body in lexed.bodies.iter().filter(|body| !body.verbatim) {
            let inside = text.get(body.start..body.end).unwrap_or_default();
            if inside.contains(['`', '$']) {
                let line = Lines::new(text, job.line).of(body.start);
                self.nest(job, inside, line, true);
            }
        }
    }

    fn nest(&mut self, job: &Job<'_>, text: &str, line: usize, quoted: bool) {
        if job.depth < INNER_DEEP && self.inner.len() < INNER {
            self.inner.push(Job { text: Cow::Owned(text.to_owned()), line, depth: job.depth + 1, quoted });
        }
    }

    /// `NAME=value`, also behind `export` and the like. Two different values are none.
    fn assignments(&mut self, command: &Simple) {
        let words = match command.words.first().and_then(Word::bare) {
            Some("export" | "readonly" | "local" | "declare" | "typeset") => {
                command.words.get(1..).unwrap_or_default()
            }
            // What stands before a command holds for that command only.
            _ if command.words.iter().any(|word| word.assigned().is_none()) => return,
            _ => &command.words,
        };
        for word in words {
            let Some(name) = word.assigned() else { continue };
            let value = word.assigned_value(&self.variables).filter(|value| !value.is_empty());
            if let Some(known) = self.variables.get_mut(name) {
                if *known != value {
                    *known = None;
                }
            } else if self.variables.len() < VARIABLES {
                self.variables.insert(name.to_owned(), value);
            }
        }
    }

    fn redirects(&mut self, command: &Simple) {
        for redirect in &command.redirects {
            if redirect.kind == RedirectKind::Write {
                self.write(&redirect.target);
            }
        }
    }

    fn write(&mut self, target: &Word) {
        if let Some(path) = target.value(&self.variables).filter(|path| is_file(path))
            && self.found.writes.len() < WRITES
        {
            self.found.writes.insert(path);
        }
    }

    /// Files that a command makes, changes or removes.
    fn touch(&mut self, name: &str, arguments: &[Word]) {
        let values: Vec<Option<String>> = arguments.iter().map(|word| word.value(&self.variables)).collect();
        let touched = destinations::of(name, &values);
        let room = |set: &BTreeSet<String>| WRITES.saturating_sub(set.len());
        let written = touched.written.into_iter().filter(|path| is_file(path)).take(room(&self.found.writes));
        self.found.writes.extend(written);
        let removed =
            touched.removed.into_iter().filter(|path| is_file(path)).take(room(&self.found.removes));
        self.found.removes.extend(removed);
    }

    fn command(&mut self, job: &Job<'_>, simple: &Simple, line: usize, lexed: &Lexed) {
        let Some(at) = self.place(&simple.words) else { return };
        let words = simple.words.get(at..).unwrap_or_default();
        let Some(value) = words.first().and_then(|word| word.value(&self.variables)) else { return };
        let name = value.rsplit('/').next().unwrap_or_default();
        let arguments = words.get(1..).unwrap_or_default();
        if self.functions.contains(&value) {
            return;
        }
        if let Some((word, start)) = self.inner_script(simple, name, arguments) {
            let inside = Lines::new(job.text.as_ref(), job.line).of(start);
            self.nest(job, &word, inside, false);
        }
        if SHELLS.contains(&name)
            && arguments.iter().all(|word| word.bare().is_some_and(|text| text.starts_with('-')))
        {
            self.fed(job, simple, lexed);
        }
        self.enter(job.text.as_ref(), simple, line, name, words);
        if name == "find" {
            let run = |word: &Word| matches!(word.bare(), Some("-exec" | "-execdir" | "-ok"));
            if let Some(at) = arguments.iter().position(run)
                && let Some(words) = arguments.get(at.saturating_add(1)..)
                && let Some(value) = words.first().and_then(|word| word.value(&self.variables))
            {
                let name = value.rsplit('/').next().unwrap_or_default();
                self.enter(job.text.as_ref(), simple, line, name, words);
            }
        }
    }

    /// The script in `sh -c script`, `su -c script`, `eval script`, and where it stands.
    fn inner_script(&self, simple: &Simple, name: &str, arguments: &[Word]) -> Option<(String, usize)> {
        let through = |word: &Word| matches!(word.bare(), Some("su" | "runuser" | "eval"));
        let leader = simple.words.iter().position(through);
        let words = match leader {
            Some(at) => simple.words.get(at..)?,
            None if SHELLS.contains(&name) => arguments,
            None => return None,
        };
        let script = if words.first().and_then(Word::bare) == Some("eval") {
            words.get(1)?
        } else {
            let is_c = |word: &Word| {
                word.bare().is_some_and(|text| {
                    text.starts_with('-') && !text.starts_with("--") && text.ends_with('c')
                })
            };
            words.get(words.iter().position(is_c)?.checked_add(1)?)?
        };
        // What is not known of it stands there as a word nobody calls.
        let text: String = script.pieces.iter().map(|piece| self.known(piece)).collect();
        Some((text, script.start))
    }

    fn known(&self, piece: &super::word::Piece) -> String {
        let word = Word { pieces: vec![piece.clone()], ..Word::default() };
        word.value(&self.variables).unwrap_or_else(|| "_".to_owned())
    }

    /// A here document that a shell is given to run.
    fn fed(&mut self, job: &Job<'_>, simple: &Simple, lexed: &Lexed) {
        for redirect in &simple.redirects {
            let RedirectKind::Here { number, .. } = redirect.kind else { continue };
            let Some(body) = lexed.bodies.get(number) else { continue };
            let text = job.text.get(body.start..body.end).unwrap_or_default().to_owned();
            let line = Lines::new(job.text.as_ref(), job.line).of(body.start);
            self.nest(job, &text, line, false);
        }
    }

    /// Enters a command if it is one of note.
    fn enter(&mut self, text: &str, simple: &Simple, line: usize, name: &str, words: &[Word]) {
        self.touch(name, words.get(1..).unwrap_or_default());
        let Ok(index) = COMMANDS.binary_search(&name) else { return };
        let Some(name) = COMMANDS.get(index) else { return };
        self.found.calls.insert((*name).to_owned());
        if self.found.actions.len() >= ACTIONS.saturating_mul(INNER) {
            return;
        }
        let raw = text.get(simple.start..simple.end).unwrap_or_default();
        let action = ScriptAction { line, command: (*name).to_owned(), text: one_line(raw) };
        if self.found.actions.last() != Some(&action) {
            self.found.actions.push(action);
        }
        let value = |word: &Word| {
            let raw = || text.get(word.start..word.end).unwrap_or_default().to_owned();
            word.value(&self.variables).unwrap_or_else(raw)
        };
        let values = std::iter::once((*name).to_owned()).chain(words.iter().skip(1).map(value));
        self.found.commands.push(values.collect());
    }

    /// Which word is the command: behind assignments and what runs it.
    fn place(&self, words: &[Word]) -> Option<usize> {
        let mut at = 0;
        // Every round goes at least one word on.
        while let Some(word) = words.get(at) {
            if word.assigned().is_some() {
                at += 1;
                continue;
            }
            let Some(value) = word.value(&self.variables) else { return Some(at) };
            let name = value.rsplit('/').next().unwrap_or_default();
            let Some((leader, with_argument)) = LEADERS.iter().find(|(leader, _)| *leader == name) else {
                // `for name in words` and what only asks for a command run nothing.
                return (!matches!(name, "for" | "select" | "case" | "[" | "[[" | "test")).then_some(at);
            };
            at += 1;
            while let Some(option) = words.get(at).and_then(Word::bare).filter(|text| text.starts_with('-')) {
                if *leader == "command" && matches!(option, "-v" | "-V") {
                    return None;
                }
                at += if option.len() == 2 && with_argument.contains(option.get(1..)?) { 2 } else { 1 };
            }
            if WITH_ARGUMENT.contains(leader) || (*leader == "su" && words.len() > at.saturating_add(1)) {
                at += 1;
            }
            if matches!(*leader, "su" | "runuser") {
                // `su user -c script`: the script is looked at by itself.
                return Some(at.saturating_sub(1)).filter(|&at| at < words.len());
            }
        }
        None
    }
}

/// An absolute path that leads to a disk.
fn is_file(path: &str) -> bool {
    path.starts_with('/') && !NOWHERE.iter().any(|place| path.starts_with(place))
}

/// Whitespace made single, cut after [`ACTION_CHARS`].
fn one_line(raw: &str) -> String {
    let joined = raw.replace("\\\r\n", " ").replace("\\\n", " ");
    let words: Vec<&str> = joined.split_whitespace().collect();
    words.join(" ").chars().take(ACTION_CHARS).collect()
}

/// Numbers of lines, for places that are asked for in rising order.
struct Lines<'t> {
    bytes: &'t [u8],
    at: usize,
    line: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, line: usize) -> Self {
        Self { bytes: text.as_bytes(), at: 0, line }
    }

    fn of(&mut self, place: usize) -> usize {
        let passed = self.bytes.get(self.at..place).unwrap_or_default();
        self.line = self.line.saturating_add(memchr::memchr_iter(b'\n', passed).count());
        self.at = self.at.max(place);
        self.line
    }
}

/// Enters a command that another language gives as a list of words.
pub(super) fn enter_words(words: &[String], line: usize, found: &mut Found) {
    let text = words.join(" ");
    let words: Vec<Word> = words.iter().map(|word| Word::literal(word)).collect();
    let simple = Simple { start: 0, end: text.len(), words, redirects: Vec::new() };
    let job = Job { text: Cow::Borrowed(&text), line, depth: 0, quoted: false };
    let mut reader =
        Reader { found, variables: Variables::new(), functions: BTreeSet::new(), inner: Vec::new() };
    reader.command(&job, &simple, line, &Lexed::default());
    let Some(inner) = reader.inner.pop() else { return };
    shell(&inner.text, line, found);
}

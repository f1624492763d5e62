//! Splitting a shell script into simple commands, by the token and grammar rules of POSIX.1-2017 (Shell & Utilities, 2.2, 2.3,
//! 2.4, 2.7, 2.9 and 2.10) with what is common of bash: `$'…'`, `[[ … ]]`, arrays, `&>`, `<<<`, process substitution.
//!
//! One pass from left to right. Command substitutions are a stack of frames, not recursion. A script no shell would accept
//! gives the commands up to where it makes sense, and never an error.

mod grammar;

use std::collections::BTreeSet;

use super::word::{Piece, Word, is_name};

/// Command substitutions inside each other.
const FRAMES: usize = 64;
/// Subshells, functions and `case` inside each other in one frame.
const OPEN: usize = 256;
/// Bytes of one `${…}` or `$((…))`; they are searched for their end, again and again if they have none.
const EXPANSION: usize = 1024;
/// Simple commands of one script.
const SIMPLE: usize = 20_000;

/// A command without control words: assignments, words, redirections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// One redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) kind: RedirectKind,
    pub(super) target: Word,
}

/// What is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RedirectKind {
    /// `<`, `<&`, `<<<`, `>&2`.
    Read,
    /// `>`, `>>`, `>|`, `<>`, `&>`, `>&`.
    Write,
    /// A here document, by its number.
    Here { number: usize, strip: bool },
}

/// The body of a here document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether its delimiter is quoted: nothing in it is expanded.
    pub(super) verbatim: bool,
}

/// A script, taken apart.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// In the order of their ends; a command in `$(…)` comes before the one it is in.
    pub(super) commands: Vec<Simple>,
    pub(super) bodies: Vec<Body>,
    pub(super) functions: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closer {
    End,
    Parenthesis,
    Backtick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Subshell,
    Function,
    Array,
    Case,
}

/// One level of command substitution.
#[derive(Debug)]
struct Frame {
    closer: Closer,
    command: Simple,
    word: Option<Word>,
    /// Inside `"…"`.
    quote: bool,
    expecting: Option<RedirectKind>,
    open: Vec<Open>,
    /// Between `in` or `;;` and the `)` of a `case`.
    pattern: bool,
}

impl Frame {
    fn new(closer: Closer) -> Self {
        let (command, open) = (Simple::default(), Vec::new());
        Self { closer, command, word: None, quote: false, expecting: None, open, pattern: false }
    }

    /// Inside `[[ … ]]`, where operators are no operators.
    fn in_test(&self) -> bool {
        self.command.words.first().and_then(Word::bare) == Some("[[")
            && self.command.words.last().and_then(Word::bare) != Some("]]")
    }
}

#[derive(Debug)]
struct Pending {
    number: usize,
    strip: bool,
    delimiter: String,
    verbatim: bool,
}

struct Lexer<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    below: Vec<Frame>,
    top: Frame,
    pending: Vec<Pending>,
    lexed: Lexed,
}

/// Takes a script apart.
pub(super) fn script(text: &str) -> Lexed {
    lex(text, false)
}

/// Finds the commands in text that is expanded like a quoted string: the body of a here document.
pub(super) fn quoted_text(text: &str) -> Lexed {
    lex(text, true)
}

fn lex(text: &str, quote: bool) -> Lexed {
    let (bytes, top) = (text.as_bytes(), Frame { quote, ..Frame::new(Closer::End) });
    let lexed = Lexed::default();
    let mut lexer = Lexer { text, bytes, at: 0, below: Vec::new(), top, pending: Vec::new(), lexed };
    while let Some(&byte) = lexer.bytes.get(lexer.at) {
        if lexer.lexed.commands.len() >= SIMPLE {
            break;
        }
        let here_text = quote && lexer.below.is_empty();
        if lexer.top.quote { lexer.quoted(byte, here_text) } else { lexer.plain(byte) }
    }
    while lexer.close_frame() {}
    if !quote {
        lexer.end_command();
    }
    lexer.lexed
}

fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'\\'
            | b'\''
            | b'"'
            | b'$'
            | b'`'
            | b' '
            | b'\t'
            | b'\r'
            | b'\n'
            | b';'
            | b'&'
            | b'|'
            | b'('
            | b')'
            | b'<'
            | b'>'
    )
}

impl<'t> Lexer<'t> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at.checked_add(ahead)?).copied()
    }

    fn slice(&self, from: usize, to: usize) -> &'t str {
        self.text.get(from..to.min(self.text.len())).unwrap_or_default()
    }

    /// The word being read; it begins here if there is none.
    fn word(&mut self) -> &mut Word {
        let at = self.at;
        self.top.word.get_or_insert_with(|| Word { start: at, ..Word::default() })
    }

    fn take_text(&mut self, from: usize, to: usize) {
        let text = self.slice(from, to);
        self.word().push_text(text);
    }

    /// Outside of quotes.
    fn plain(&mut self, byte: u8) {
        let in_test = self.top.in_test();
        match byte {
            b'\\' => self.escape(),
            b'\'' => self.single_quotes(1, false),
            b'"' => {
                self.word().quoted = true;
                self.top.quote = true;
                self.at += 1;
            }
            b'$' => self.dollar(),
            b'`' => self.backtick(),
            b' ' | b'\t' | b'\r' => {
                self.end_word();
                self.at += 1;
            }
            b'\n' => {
                self.end_word();
                self.end_command();
                self.at += 1;
                self.here_bodies();
            }
            b'#' if self.top.word.is_none() => self.comment(),
            b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' if !in_test => self.operator(byte),
            _ => {
                let rest = self.bytes.get(self.at.saturating_add(1)..).unwrap_or_default();
                let run = rest.iter().position(|&b| is_special(b)).unwrap_or(rest.len());
                let end = self.at.saturating_add(run).saturating_add(1);
                self.take_text(self.at, end);
                self.at = end;
            }
        }
    }

    /// Inside `"…"`, or in the body of a here document, which no quote ends.
    fn quoted(&mut self, byte: u8, here_text: bool) {
        match byte {
            b'"' if !here_text => {
                self.top.quote = false;
                self.at += 1;
            }
            b'\\' => match self.peek(1) {
                Some(b'\n') => self.at += 2,
                Some(b'$' | b'`' | b'"' | b'\\') => {
                    self.take_text(self.at + 1, self.at + 2);
                    self.at += 2;
                }
                _ => {
                    self.take_text(self.at, self.at + 1);
                    self.at += 1;
                }
            },
            b'$' => self.dollar(),
            b'`' => self.backtick(),
            _ => {
                let rest = self.bytes.get(self.at.saturating_add(1)..).unwrap_or_default();
                let run =
                    rest.iter().position(|b| matches!(b, b'"' | b'\\' | b'$' | b'`')).unwrap_or(rest.len());
                let end = self.at.saturating_add(run).saturating_add(1);
                self.take_text(self.at, end);
                self.at = end;
            }
        }
    }

    fn escape(&mut self) {
        let after = self.bytes.get(self.at.saturating_add(1)..).unwrap_or_default();
        if let Some(length) =
            [&b"\n"[..], b"\r\n"].iter().find(|end| after.starts_with(end)).map(|end| end.len())
        {
            self.at += 1 + length;
            return;
        }
        let from = self.at + 1;
        let length = self.slice(from, self.text.len()).chars().next().map_or(0, char::len_utf8);
        self.word().quoted = true;
        self.take_text(from, from + length);
        self.at = from + length;
    }

    /// `'…'`, or `$'…'` with escapes; `skipped` bytes lead in.
    fn single_quotes(&mut self, skipped: usize, escapes: bool) {
        self.word().quoted = true;
        let from = self.at + skipped;
        let mut end = from;
        while let Some(&byte) = self.bytes.get(end) {
            match byte {
                b'\'' => break,
                b'\\' if escapes => end += 2,
                _ => end += 1,
            }
        }
        let end = end.min(self.bytes.len());
        self.take_text(from, end);
        self.at = end + 1;
    }

    fn comment(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let backtick = self.top.closer == Closer::Backtick;
        let ends = |&b: &u8| b == b'\n' || (backtick && b == b'`');
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    fn dollar(&mut self) {
        match self.peek(1) {
            Some(b'(') => {
                if self.peek(2) == Some(b'(')
                    && let Some(end) = self.arithmetic_end(self.at + 3)
                {
                    self.opaque(end);
                } else {
                    self.substitution(Closer::Parenthesis, 2);
                }
            }
            Some(b'{') => self.braces(),
            Some(b'\'') if !self.top.quote => self.single_quotes(2, true),
            Some(b'"') if !self.top.quote => self.at += 1,
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                let rest = self.bytes.get(self.at.saturating_add(1)..).unwrap_or_default();
                let length = rest.iter().position(|&b| !(b.is_ascii_alphanumeric() || b == b'_'));
                let end = self.at + 1 + length.unwrap_or(rest.len());
                let name = self.slice(self.at + 1, end).to_owned();
                self.word().pieces.push(Piece::Variable(name));
                self.at = end;
            }
            Some(b'0'..=b'9' | b'@' | b'*' | b'#' | b'?' | b'!' | b'$' | b'-') => self.opaque(self.at + 2),
            _ => {
                self.take_text(self.at, self.at + 1);
                self.at += 1;
            }
        }
    }

    fn opaque(&mut self, end: usize) {
        self.word().pieces.push(Piece::Opaque);
        self.at = end;
    }

    /// `${…}`. Commands in it are not looked for.
    fn braces(&mut self) {
        let from = self.at + 2;
        let window = self.bytes.get(from..).unwrap_or_default();
        let (mut depth, mut at) = (1_usize, 0_usize);
        while let Some(&byte) = window.get(at).filter(|_| at < EXPANSION) {
            match byte {
                b'\\' => at += 1,
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        if depth != 0 {
            self.take_text(self.at, self.at + 1);
            self.at += 1;
            return;
        }
        let name = self.slice(from, from + at - 1);
        let piece = if is_name(name) { Piece::Variable(name.to_owned()) } else { Piece::Opaque };
        self.word().pieces.push(piece);
        self.at = from + at;
    }

    /// Where `((…))` ends, whose inside begins at `from`.
    fn arithmetic_end(&self, from: usize) -> Option<usize> {
        let window = self.bytes.get(from..)?;
        let mut depth = 2_usize;
        for (index, byte) in window.iter().take(EXPANSION).enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\n' | b';' if depth == 2 => return None,
                _ => {}
            }
            if depth == 0 {
                return (window.get(index.checked_sub(1)?) == Some(&b')')).then_some(from + index + 1);
            }
        }
        None
    }

    fn backtick(&mut self) {
        if self.top.closer == Closer::Backtick {
            self.close_frame();
            self.at += 1;
        } else {
            self.substitution(Closer::Backtick, 1);
        }
    }

    fn substitution(&mut self, closer: Closer, skipped: usize) {
        self.word();
        self.at += skipped;
        if self.below.len() >= FRAMES {
            // Nobody writes that; the rest is not read.
            self.at = self.bytes.len();
            return;
        }
        let outer = std::mem::replace(&mut self.top, Frame::new(closer));
        self.below.push(outer);
    }

    /// Ends a command substitution; `false` if there is none.
    fn close_frame(&mut self) -> bool {
        let Some(outer) = self.below.pop() else { return false };
        self.end_command();
        self.top = outer;
        self.word().pieces.push(Piece::Opaque);
        true
    }
}

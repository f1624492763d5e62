//! Operators, words, commands and here documents: what the grammar makes of the tokens.

use super::{Body, Closer, Frame, Lexer, OPEN, Open, Pending, Redirect, RedirectKind, Simple};
use crate::scripts::word::{Piece, Word};

/// Control words after which a command follows, or which end a compound command (2.4).
const CONTROL: [&str; 14] =
    ["if", "then", "else", "elif", "fi", "while", "until", "do", "done", "!", "{", "}", "time", "coproc"];

impl Lexer<'_> {
    pub(super) fn operator(&mut self, byte: u8) {
        match byte {
            b';' => {
                self.end_word();
                self.end_command();
                self.at += 1;
                // `;;`, and `;&` and `;;&` of bash.
                while matches!(self.peek(0), Some(b';' | b'&')) {
                    self.top.pattern = self.top.open.last() == Some(&Open::Case);
                    self.at += 1;
                }
            }
            b'&' if self.peek(1) == Some(b'>') => {
                self.end_word();
                self.at += if self.peek(2) == Some(b'>') { 3 } else { 2 };
                self.top.expecting = Some(RedirectKind::Write);
            }
            b'&' | b'|' => {
                self.end_word();
                self.end_command();
                self.at += 1;
            }
            b'(' => self.opening(),
            b')' => self.closing(),
            _ => self.redirection(byte),
        }
    }

    fn opening(&mut self) {
        let is_array = self.top.word.as_ref().is_some_and(|word| {
            matches!(word.pieces.last(), Some(Piece::Text(text)) if text.ends_with('='))
                && word.assigned().is_some()
        });
        self.end_word();
        let frame = &mut self.top;
        let first = frame.command.words.first();
        let open = match (first, frame.command.words.len()) {
            _ if frame.pattern => None,
            _ if is_array => Some(Open::Array),
            (Some(name), 1) if frame.command.redirects.is_empty() => {
                self.lexed.functions.extend(name.bare().map(str::to_owned));
                frame.command = Simple::default();
                Some(Open::Function)
            }
            (None, _) if self.bytes.get(self.at.saturating_add(1)) == Some(&b'(') => {
                if let Some(end) = self.arithmetic_end(self.at + 2) {
                    self.at = end;
                    return;
                }
                Some(Open::Subshell)
            }
            _ => Some(Open::Subshell),
        };
        if self.top.open.len() < OPEN {
            self.top.open.extend(open);
        }
        self.at += 1;
    }

    fn closing(&mut self) {
        self.end_word();
        let at_end = self.top.closer == Closer::Parenthesis;
        match self.top.open.last() {
            Some(Open::Case) if self.top.pattern => self.top.pattern = false,
            Some(Open::Function | Open::Array) => {
                self.top.open.pop();
            }
            Some(Open::Subshell) => {
                self.end_command();
                self.top.open.pop();
            }
            Some(Open::Case) | None if at_end => {
                self.close_frame();
            }
            _ => self.end_command(),
        }
        self.at += 1;
    }

    fn redirection(&mut self, byte: u8) {
        if self.peek(1) == Some(b'(') {
            // Process substitution.
            self.substitution(Closer::Parenthesis, 2);
            return;
        }
        let is_descriptor =
            |word: &Word| word.bare().is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()));
        if self.top.word.as_ref().is_some_and(is_descriptor) {
            self.top.word = None;
        }
        self.end_word();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (length, kind) = match byte {
            b'<' if rest.starts_with(b"<<<") => (3, RedirectKind::Read),
            b'<' if rest.starts_with(b"<<") => {
                let strip = rest.get(2) == Some(&b'-');
                (if strip { 3 } else { 2 }, RedirectKind::Here { number: 0, strip })
            }
            b'<' if rest.starts_with(b"<&") => (2, RedirectKind::Read),
            b'<' if rest.starts_with(b"<>") => (2, RedirectKind::Write),
            b'<' => (1, RedirectKind::Read),
            _ if matches!(rest.get(1), Some(b'>' | b'|' | b'&')) => (2, RedirectKind::Write),
            _ => (1, RedirectKind::Write),
        };
        self.top.expecting = Some(kind);
        self.at += length;
    }

    pub(super) fn end_word(&mut self) {
        let Some(mut word) = self.top.word.take() else { return };
        word.end = self.at;
        let frame = &mut self.top;
        if let Some(mut kind) = frame.expecting.take() {
            if let RedirectKind::Here { strip, .. } = kind {
                let number = self.lexed.bodies.len() + self.pending.len();
                kind = RedirectKind::Here { number, strip };
                let delimiter = word.pieces.iter().filter_map(|piece| match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                let delimiter = delimiter.collect();
                self.pending.push(Pending { number, strip, delimiter, verbatim: word.quoted });
            }
            frame.begin(word.start);
            frame.command.end = word.end;
            frame.command.redirects.push(Redirect { kind, target: word });
            return;
        }
        if frame.pattern {
            if word.bare() == Some("esac") {
                frame.open.pop();
                frame.pattern = false;
            }
            return;
        }
        if frame.command.words.is_empty() && frame.is_control(&word) {
            return;
        }
        frame.begin(word.start);
        frame.command.end = word.end;
        frame.command.words.push(word);
        frame.compound();
    }

    pub(super) fn end_command(&mut self) {
        self.end_word();
        let command = std::mem::take(&mut self.top.command);
        self.top.expecting = None;
        if !(command.words.is_empty() && command.redirects.is_empty()) {
            self.lexed.commands.push(command);
        }
    }

    /// After the end of a line: the bodies of the here documents it announced.
    pub(super) fn here_bodies(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            let start = self.at;
            let mut end = self.bytes.len();
            let mut next = end;
            let mut at = start;
            while at < self.bytes.len() {
                let rest = self.bytes.get(at..).unwrap_or_default();
                let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                let line = self.slice(at, at + length);
                let line = line.strip_suffix('\r').unwrap_or(line);
                let line = if pending.strip { line.trim_start_matches('\t') } else { line };
                if line == pending.delimiter {
                    (end, next) = (at, at + length + 1);
                    break;
                }
                at += length + 1;
            }
            debug_assert_eq!(pending.number, self.lexed.bodies.len());
            self.lexed.bodies.push(Body { start, end, verbatim: pending.verbatim });
            self.at = next.min(self.bytes.len());
        }
    }
}

impl Frame {
    fn begin(&mut self, at: usize) {
        if self.command.words.is_empty() && self.command.redirects.is_empty() {
            self.command.start = at;
        }
    }

    /// Whether a word at the place of a command is a control word, and what follows from it.
    fn is_control(&mut self, word: &Word) -> bool {
        let Some(text) = word.bare() else { return false };
        if text == "esac" && self.open.last() == Some(&Open::Case) {
            self.open.pop();
            return true;
        }
        CONTROL.contains(&text)
    }

    /// `case word in` and `function name {` are followed by something else than arguments.
    fn compound(&mut self) {
        let words = &self.command.words;
        let bare = |index: usize| words.get(index).and_then(Word::bare);
        if bare(0) == Some("case") && words.len() == 3 && bare(2) == Some("in") {
            self.command = Simple::default();
            if self.open.len() < OPEN {
                self.open.push(Open::Case);
                self.pattern = true;
            }
        } else if bare(0) == Some("function") && words.len() == 3 && bare(2) == Some("{") {
            self.command = Simple::default();
        }
    }
}

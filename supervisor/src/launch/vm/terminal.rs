//! The caller's terminal, as long as the tool in the guest has its keys.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;

use hatchway_wire::guest::Window;
use rustix::termios::{OptionalActions, Termios};

/// The caller's standard streams.
fn all() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

/// Which streams are a terminal, and its settings while it is ours.
#[derive(Debug)]
pub(crate) struct Terminal {
    streams: [bool; 3],
    saved: RefCell<Option<Termios>>,
}

impl Terminal {
    pub(crate) fn find() -> Self {
        Self { streams: all().map(|stream| stream.is_terminal()), saved: RefCell::new(None) }
    }

    pub(crate) fn streams(&self) -> [bool; 3] {
        self.streams
    }

    /// All streams are at it: then keys are the tool's from the start, and otherwise when it reads them, since they may be
    /// meant for another program of the same pipeline.
    pub(crate) fn is_whole(&self) -> bool {
        self.streams == [true; 3]
    }

    fn first(&self, order: [usize; 3]) -> Option<BorrowedFd<'static>> {
        order.into_iter().find(|index| self.streams[*index]).map(|index| all()[index])
    }

    /// Where keys come from.
    pub(crate) fn keys(&self) -> Option<BorrowedFd<'static>> {
        self.first([0, 1, 2])
    }

    /// Where what the tool says is shown.
    pub(crate) fn screen(&self) -> Option<BorrowedFd<'static>> {
        self.first([1, 2, 0])
    }

    pub(crate) fn window(&self) -> Option<Window> {
        let size = rustix::termios::tcgetwinsize(self.screen()?).ok()?;
        Some(Window { rows: size.ws_row, columns: size.ws_col })
    }

    /// Raw, if this process is in front of it; true if it is now.
    pub(crate) fn take(&self) -> bool {
        let Some(keys) = self.keys() else { return false };
        if self.is_taken() {
            return true;
        }
        let front = rustix::termios::tcgetpgrp(keys).is_ok_and(super::super::is_own_group);
        let Some(settings) = rustix::termios::tcgetattr(keys).ok().filter(|_| front) else { return false };
        let mut raw = settings.clone();
        raw.make_raw();
        let taken = rustix::termios::tcsetattr(keys, OptionalActions::Now, &raw).is_ok();
        self.saved.replace(taken.then_some(settings));
        taken
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.saved.borrow().is_some()
    }

    /// As it was.
    pub(crate) fn give_back(&self) {
        if let (Some(settings), Some(keys)) = (self.saved.take(), self.keys()) {
            // A terminal that is gone needs no restoring.
            rustix::termios::tcsetattr(keys, OptionalActions::Drain, &settings).ok();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.give_back();
    }
}

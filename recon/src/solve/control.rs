//! What a caller hears of a solver while it runs, and how it calls it off.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// How far a solver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The first of the frames that are worked on, counted from 0.
    pub frame: usize,
    /// How many frames are worked on together.
    pub frames_together: usize,
    /// Iterations done on them.
    pub iteration: usize,
    /// Iterations at most.
    pub iterations_max: usize,
}

/// A caller's wishes; the default is to hear nothing and to let the solver end.
#[derive(Default, Clone, Copy)]
pub struct Control<'a> {
    /// Called after every iteration, on the thread that called the solver.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    /// Looked at after every iteration; once it is true, the solver ends with [`Error::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
    /// Leaves [`super::Report::residuals`] empty, which saves a pass over the matrix.
    pub skip_residuals: bool,
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Control");
        out.field("progress", &self.progress.is_some()).field("cancel", &self.cancel);
        out.field("skip_residuals", &self.skip_residuals).finish()
    }
}

impl Control<'_> {
    /// Tells of an iteration that is done.
    pub(super) fn done(&self, progress: Progress) -> Result<(), Error> {
        if let Some(tell) = self.progress {
            tell(progress);
        }
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => {
                Err(Error::Cancelled { iteration: progress.iteration })
            }
            _ => Ok(()),
        }
    }
}

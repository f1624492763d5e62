//! How long work tells that it goes on; what is shown is the caller's business.

/// A listener for progress. All methods may be called from several threads.
pub trait Progress: Sync {
    /// A phase begins, of `total` units (bytes or packages).
    fn begin(&self, phase: &str, total: u64);
    /// `amount` more units are done.
    fn advance(&self, amount: u64);
    /// The phase is over.
    fn end(&self);
    /// A line worth reading, such as a suite that was refused.
    fn note(&self, line: &str);
    /// A line that has to be read, also by those who asked for silence.
    fn warn(&self, line: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

//! Small helpers that every verb uses: arguments, processes with a time limit, tables, scratch folders.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The arguments after the verb. Each verb takes what it knows; `finish` refuses the rest.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    pub(crate) fn wants_help(&self) -> bool {
        self.0.iter().any(|word| word == "--help" || word == "-h")
    }

    /// Takes `name` out and says whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() != before
    }

    /// Takes the option `name` and the word behind it.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 == self.0.len() {
            bail!("`{name}` needs a value");
        }
        self.0.remove(at);
        Ok(Some(self.0.remove(at)))
    }

    /// Takes all words that are not options.
    pub(crate) fn positional(&mut self) -> Vec<String> {
        let (options, words) = self.0.drain(..).partition(|word| word.starts_with('-'));
        self.0 = options;
        words
    }

    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => bail!("`{word}` is not understood here; see `cargo xtask --help`"),
        }
    }
}

/// The folder of the workspace.
pub(crate) fn workspace() -> Result<PathBuf> {
    // Cargo sets the variable for `cargo run`; the built-in value serves a binary started by hand.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&manifest).parent().context("xtask's manifest has no folder above it")?;
    Ok(folder.to_path_buf())
}

/// The cargo that started us, else the one in the path.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Ok(folder) = workspace() {
        command.current_dir(folder);
    }
    command
}

/// What `cargo metadata` says about the workspace, without its dependencies.
pub(crate) fn metadata() -> Result<serde_json::Value> {
    let text = capture(cargo().args(["metadata", "--no-deps", "--format-version=1", "--offline"]))?;
    serde_json::from_str(&text).context("cargo metadata did not print JSON")
}

/// The target folder cargo uses, wherever configuration or environment have put it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata()?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(folder))
}

/// Whether nobody can be asked: `CI=true`, as CI services set it.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self").context("cannot read `/proc/self`")?.uid() == 0)
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect::<Vec<_>>().join(" ")
}

/// One word, quoted for a shell where it needs to be.
pub(crate) fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs with our own stdio and fails if the command does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` {}", shown(command), ended(status));
    }
    Ok(())
}

/// Runs and returns stdout; stderr passes through.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` {}", shown(command), ended(output.status));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

/// Whether the command starts and succeeds, with nothing shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// How a process ended, in words.
pub(crate) fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// Which of a command's streams are shown while they come; all are kept.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Runs a command, keeps both streams, and ends it when it takes longer than `limit`.
pub(crate) fn run_limited(command: &mut Command, limit: Duration, shown_streams: Shown) -> Result<Finished> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    let stderr = child.stderr.take().context("the child has no stderr")?;
    let stdout =
        thread::spawn(move || keep_lines(stdout, |line| shown_streams.stdout.then(|| print!("{line}"))));
    let stderr =
        thread::spawn(move || keep_lines(stderr, |line| shown_streams.stderr.then(|| eprint!("{line}"))));
    let status = wait_until(&mut child, started + limit)?;
    let took = started.elapsed();
    let Some(status) = status else {
        bail!("`{}` was ended after its limit of {} s", shown(command), limit.as_secs());
    };
    let stdout = stdout.join().ok().context("the reader of stdout panicked")?;
    let stderr = stderr.join().ok().context("the reader of stderr panicked")?;
    Ok(Finished { status, stdout, stderr, took })
}

/// `None`: the deadline came first, and the child was killed.
fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the child")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().context("cannot kill the child")?;
            child.wait().context("cannot wait for the killed child")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn keep_lines(stream: impl Read, show: impl Fn(&str) -> Option<()>) -> String {
    let mut reader = BufReader::new(stream);
    let mut kept = String::new();
    let mut line = Vec::new();
    // A read error on a pipe means that the other end is gone, which is the end of the text.
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        show(&text);
        kept.push_str(&text);
        line.clear();
    }
    kept
}

/// Columns aligned by their longest cell, two spaces between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Where downloads survive between runs: a folder of ours in the user's cache.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("hatchway-xtask"))
}

/// Removes a folder of ours, also where a program has left read-only folders in it.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    run(Command::new("chmod").args(["-R", "u+rwX", "--"]).arg(folder))?;
    run(Command::new("rm").args(["-rf", "--"]).arg(folder))
}

/// A new folder in the temporary folder, removed when dropped unless it is to be kept.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    pub(crate) keep: bool,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = capture(Command::new("mktemp").args(["-d", "--tmpdir", &format!("{name}.XXXXXXXX")]))?;
        Ok(Self { path: PathBuf::from(path.trim_end()), keep: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept: {}", self.path.display());
        } else if let Err(error) = remove_folder(&self.path) {
            eprintln!("warning: `{}` stays behind: {error:#}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_and_the_rest_is_refused() {
        let words = ["--yes", "unit", "--odd", "e2e"].map(str::to_owned);
        let mut args = Args::new(words.into_iter());
        assert!(args.flag("--yes"));
        assert!(!args.flag("--yes"));
        assert_eq!(args.positional(), ["unit", "e2e"]);
        assert!(args.finish().unwrap_err().to_string().contains("`--odd`"));
    }

    #[test]
    fn an_option_takes_the_word_behind_it() {
        let mut args = Args::new(["a", "--runs", "10", "--seconds"].map(str::to_owned).into_iter());
        assert_eq!(args.value("--runs").unwrap().as_deref(), Some("10"));
        assert_eq!(args.value("--runs").unwrap(), None);
        assert!(args.value("--seconds").is_err());
        assert_eq!(args.positional(), ["a"]);
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(OsStr::new("a/b=c")), "a/b=c");
        assert_eq!(quoted(OsStr::new("")), "''");
        assert_eq!(quoted(OsStr::new("it's *")), r"'it'\''s *'");
    }

    #[test]
    fn a_command_over_its_limit_is_ended() {
        let quiet = Shown { stdout: false, stderr: false };
        let result =
            run_limited(Command::new("sleep").arg("60"), Duration::from_millis(50), quiet).map(|_| ());
        assert!(result.unwrap_err().to_string().contains("limit"));
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let quiet = Shown { stdout: false, stderr: false };
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = run_limited(&mut command, Duration::from_secs(20), quiet).unwrap();
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str(), finished.status.code()),
            ("out\n", "err\n", Some(3))
        );
    }

    #[test]
    fn tables_align() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }

    #[test]
    fn scratch_folders_go_away_with_read_only_folders_in_them() {
        let scratch = Scratch::new("xtask-test").unwrap();
        let path = scratch.path.clone();
        std::fs::create_dir(path.join("sub")).unwrap();
        std::fs::write(path.join("sub/file"), "x").unwrap();
        run(Command::new("chmod").arg("0555").arg(path.join("sub"))).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}

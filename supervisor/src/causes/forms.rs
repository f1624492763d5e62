//! Lines that have a meaning by their form, whatever words are in them.

/// What a shell says where nobody is meant to say the same.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "-sh", "-bash"];
/// Other messages of shells in the same form: those have causes of their own.
const OTHERS: &[&str] = &[
    "not found",
    "command not found",
    "permission denied",
    "no such file",
    "is a directory",
    "not a directory",
    "bad substitution",
    "readonly variable",
    "is read only",
    "cannot execute",
    "exec format",
    "bad interpreter",
    "ambiguous redirect",
    "syntax error",
];

/// The variable of `${NAME:?message}` (POSIX, 2.6.2): `sh: 1: NAME: message` of dash, `x.sh: line 3: NAME: message` of bash. The message
/// is the author's, so only the form tells it: the shell or a script with a line's number, and a name as variables have it.
#[must_use]
pub(super) fn unset_variable(line: &str) -> Option<&str> {
    let mut parts = line.trim_start().splitn(4, ": ");
    let (speaker, second) = (parts.next()?, parts.next()?);
    let bare = second.strip_prefix("line ").unwrap_or(second);
    let numbered = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    let name = if numbered { parts.next()? } else { second };
    let message = match numbered {
        true => parts.next()?,
        false => line.split_once(&format!(": {name}: "))?.1,
    };
    // zsh has the line's number without a blank: `zsh:1: NAME: message`.
    let named = speaker.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':');
    let shell = SHELLS.contains(&named.rsplit('/').next().unwrap_or(named));
    let script = numbered && !speaker.contains(char::is_whitespace);
    let message = message.trim().to_ascii_lowercase();
    let of_variable = is_variable(name) && !message.is_empty();
    let other = OTHERS.iter().any(|other| message.starts_with(other));
    ((shell || script) && of_variable && !other).then_some(name)
}

/// Names of the environment are in capitals (POSIX, 8.1); a command in capitals alone is rare.
fn is_variable(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Whether `env` looks for this for a script's first line: then it is an interpreter, else whatever program was to be run.
#[must_use]
pub(super) fn is_interpreter(program: &str) -> bool {
    let name = program.split_whitespace().next().unwrap_or(program);
    let name = name.rsplit('/').next().unwrap_or(name);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let known = [
        "sh",
        "bash",
        "dash",
        "ksh",
        "zsh",
        "csh",
        "tcsh",
        "fish",
        "python",
        "pypy",
        "perl",
        "ruby",
        "node",
        "nodejs",
        "lua",
        "tclsh",
        "wish",
        "expect",
        "php",
        "Rscript",
        "julia",
        "octave",
        "gawk",
        "awk",
        "pwsh",
        "guile",
        "groovy",
        "deno",
        "osascript",
    ];
    known.contains(&bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_say_that_a_variable_is_not_set() {
        for (line, expected) in [
            ("/usr/bin/dash: 1: LIMS_URL: put it into site.env", Some("LIMS_URL")),
            ("sh: LIMS_URL: set this first", Some("LIMS_URL")),
            ("zsh:1: LIMS_URL: set this first", Some("LIMS_URL")),
            ("/opt/x/start.sh: line 12: DATA_DIR: parameter null or not set", Some("DATA_DIR")),
            ("sh: 1: ACQ: not found", None),
            ("bash: line 1: /x/y: Permission denied", None),
            ("acme: ERROR: cannot do it", None),
            ("sh: 1: cannot open /x: No such file", None),
            ("sh: ", None),
        ] {
            assert_eq!(unset_variable(line), expected, "{line}");
        }
    }

    #[test]
    fn interpreters_have_names() {
        assert!(is_interpreter("python3 -u") && is_interpreter("perl") && is_interpreter("python3.11"));
        assert!(!is_interpreter("acme-convert") && !is_interpreter("python-config"));
    }
}

//! Numbers of errors: some tools say `errno=98` where others say `Address already in use`.
//!
//! Words are looked for in texts, so a number becomes the text of strerror(3) behind its line. A number is one of Linux only where
//! its line says so: a vendor's `Error 24` is an axis, a status of HTTP, or whatever it likes.

use super::pattern;

/// Numbers of Linux (`asm-generic/errno-base.h`, `asm-generic/errno.h`) with the C library's texts, as far as a cause has to do with one.
const TEXTS: &[(u16, &str)] = &[
    (1, "Operation not permitted"),
    (2, "No such file or directory"),
    (5, "Input/output error"),
    (6, "No such device or address"),
    (8, "Exec format error"),
    (11, "Resource temporarily unavailable"),
    (12, "Cannot allocate memory"),
    (13, "Permission denied"),
    (16, "Device or resource busy"),
    (17, "File exists"),
    (19, "No such device"),
    (20, "Not a directory"),
    (21, "Is a directory"),
    (23, "Too many open files in system"),
    (24, "Too many open files"),
    (25, "Inappropriate ioctl for device"),
    (27, "File too large"),
    (28, "No space left on device"),
    (30, "Read-only file system"),
    (32, "Broken pipe"),
    (80, "Accessing a corrupted shared library"),
    (98, "Address already in use"),
    (99, "Cannot assign requested address"),
    (100, "Network is down"),
    (101, "Network is unreachable"),
    (104, "Connection reset by peer"),
    (110, "Connection timed out"),
    (111, "Connection refused"),
    (112, "Host is down"),
    (113, "No route to host"),
    (116, "Stale file handle"),
    (117, "Structure needs cleaning"),
    (122, "Disk quota exceeded"),
];
/// `enum libusb_error` of libusb.h.
const LIBUSB: &[(u16, &str)] = &[
    (1, "LIBUSB_ERROR_IO"),
    (3, "LIBUSB_ERROR_ACCESS"),
    (4, "LIBUSB_ERROR_NO_DEVICE"),
    (5, "LIBUSB_ERROR_NOT_FOUND"),
    (6, "LIBUSB_ERROR_BUSY"),
    (7, "LIBUSB_ERROR_TIMEOUT"),
    (9, "LIBUSB_ERROR_PIPE"),
    (11, "Cannot allocate memory"),
];
/// Behind these a number is one of Linux.
const SURE: &[&str] = &["errno", "errno is", "os error"];
/// Behind these it is one only in a line that names a call of the system.
const VAGUE: &[&str] = &["error", "~rc", "~ret", "failed", "failed with"];
/// And behind these only with a minus, as the kernel passes errors on: a code without one is of the tool's own.
const MINUS: &[&str] = &["returned", "status", "code", "result", ") ="];
/// Calls of the system and of the kernel's USB: whoever names one passes on its error.
const CALLS: &[&str] = &[
    "~open~",
    "~openat~",
    "~creat~",
    "~fopen~",
    "~read~",
    "~write~",
    "~pwrite~",
    "~writev~",
    "~fwrite~",
    "~fsync~",
    "~fallocate~",
    "~posix_fallocate~",
    "~ftruncate~",
    "~rename~",
    "~unlink~",
    "~mkdir~",
    "~opendir~",
    "~chmod~",
    "~chown~",
    "~mount~",
    "~bind~",
    "~bind()",
    "~listen~",
    "~accept~",
    "~accept4~",
    "~connect~",
    "~socket~",
    "~send~",
    "~sendto~",
    "~recv~",
    "~recvfrom~",
    "~ioctl~",
    "~mmap~",
    "~mlock~",
    "~mlockall~",
    "~fork~",
    "~clone~",
    "~pthread_create~",
    "~pipe~",
    "~epoll_create~",
    "~epoll_create1~",
    "~eventfd~",
    "~dup~",
    "~dup2~",
    "~execve~",
    "~execvp~",
    "~execv~",
    "~posix_spawn~",
    "~shm_open~",
    "~shmget~",
    "~semget~",
    "~inotify_add_watch~",
    "~inotify_init~",
    "~sched_setscheduler~",
    "~usb_submit_urb~",
    "~submit urb",
    "~urb~",
    "vidioc_",
];
/// Words of other numberings that are written alike.
const OTHERS: &[&str] = &["http", "curl", "cuda", "sqlite", "ora-", "hresult", "winerror", "win32", "wsa"];

/// The texts of the numbers in a line, as far as the line does not have them itself; `lower` is the line in lower case.
#[must_use]
pub(super) fn told(lower: &str) -> Option<String> {
    let text = of_linux(lower).or_else(|| of_libusb(lower))?;
    (!lower.contains(&text.to_ascii_lowercase())).then(|| text.to_owned())
}

/// Of glibc's loader a bare `Error 24` is one, too: `elf/dl-minimal.c` knows few texts.
fn of_linux(lower: &str) -> Option<&'static str> {
    let text = |number: u16| TEXTS.iter().find(|(own, _)| *own == number).map(|(_, text)| *text);
    let said = |words: &[&str]| words.iter().find_map(|word| behind(word, lower, false).and_then(text));
    if let Some(found) = said(SURE) {
        return Some(found);
    }
    if let Some((_, rest)) = lower.split_once("cannot open shared object file: error ") {
        return number(rest).and_then(text);
    }
    let calls = CALLS.iter().any(|call| pattern::find(call, lower, lower).is_some());
    if !calls || OTHERS.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let passed_on = || MINUS.iter().find_map(|word| behind(word, lower, true).and_then(text));
    said(VAGUE).or_else(passed_on).or_else(|| in_brackets(lower).and_then(text))
}

fn of_libusb(lower: &str) -> Option<&'static str> {
    if !lower.contains("libusb") {
        return None;
    }
    let mut from = 0;
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find('-')) {
        let begin = from + at;
        let is_edge = lower[..begin].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        let found = number(&lower[begin + 1..]).filter(|_| is_edge);
        let text = found.and_then(|found| LIBUSB.iter().find(|(own, _)| *own == found));
        if let Some((_, text)) = text {
            return Some(text);
        }
        from = begin + 1;
    }
    None
}

/// The number behind a word: `errno=98`, `errno: -98`, `[Errno 98]`, `"errno":98`, `os error 98`.
fn behind(word: &str, lower: &str, minus: bool) -> Option<u16> {
    let (starts, bare) = (word.starts_with('~'), word.trim_start_matches('~'));
    let mut from = 0;
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find(bare)) {
        let (begin, end) = (from + at, from + at + bare.len());
        let before = lower[..begin].chars().next_back();
        if !starts || before.is_none_or(|c| !c.is_alphanumeric() && c != '_') {
            let rest = lower[end..].trim_start_matches(|c: char| " :=(\"'#".contains(c));
            let apart = if minus { rest.starts_with('-') } else { rest.len() < lower.len() - end };
            if let Some(found) = number(rest.strip_prefix('-').unwrap_or(rest)).filter(|_| apart) {
                return Some(found);
            }
        }
        from = end;
    }
    None
}

/// `bind failed (98)`, `(98)Address already in use`; `(98, ...)` and `f(98)` are arguments.
fn in_brackets(lower: &str) -> Option<u16> {
    let mut from = 0;
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find('(')) {
        let begin = from + at + 1;
        let of_call = lower[..begin - 1].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let rest = &lower[begin..];
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        if let (false, Some(found), Some((_, after))) = (of_call, number(digits), rest.split_once(')'))
            && rest.len() - after.len() <= 5
            && (after.trim().is_empty() || after.starts_with([':', '.', ',', ';']) || begin == 1)
        {
            return Some(found);
        }
        from = begin;
    }
    None
}

/// A number that stands for itself: `28`, but not `28.5`, `28ms` or `0x1c`.
fn number(text: &str) -> Option<u16> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let after = &text[digits.len()..];
    let fraction = after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit());
    let alone = !fraction && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '%');
    digits.parse().ok().filter(|_| alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_error_only_where_its_line_says_so() {
        let cases = [
            ("bind [::]:5025 errno=98", "Address already in use"),
            ("cannot store frame (errno 28)", "No space left on device"),
            ("{\"call\":\"listen\",\"errno\":-98}", "Address already in use"),
            ("OSError: [Errno 24] x", "Too many open files"),
            ("store: io failure, os error 30", "Read-only file system"),
            ("x: cannot open shared object file: Error 24", "Too many open files"),
            ("bind() to 0.0.0.0:5025 failed (98)", "Address already in use"),
            ("open /x failed: error 13", "Permission denied"),
            ("cannot submit urb 0, error -28", "No space left on device"),
            ("fallocate(/data/x) = -28", "No space left on device"),
            ("usb_submit_urb returned -28", "No space left on device"),
            ("libusb_open: rc=-4", "LIBUSB_ERROR_NO_DEVICE"),
        ];
        for (line, expected) in cases {
            assert_eq!(told(&line.to_ascii_lowercase()).as_deref(), Some(expected), "{line}");
        }
        for line in [
            "Error 24: axis not homed",
            "interlock (28)",
            "http open error 111",
            "errno=98: address already in use",
            "submit rc=-4",
            "gain set to -6 dB",
            "write of 28 blocks failed",
            "write failed, exit code 28",
            "open(28) failed",
            "errno 28.5",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}

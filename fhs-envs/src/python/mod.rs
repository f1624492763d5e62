//! Python packages: which wheels, for which Python, from an index that the host knows.
//!
//! Only wheels: building a source distribution would run its code. The lock names each wheel by its hash; the index is
//! asked again only for where a file of that name is.

mod html;
mod index;
mod resolve;
mod tags;

pub use crate::build::wheel_programs as programs_of;
pub use index::{File, INDEX_VARIABLE, Index, from_pip};
pub use resolve::{Local, Outcome, Request, resolve};
pub use tags::{Target, WheelName, suitable};

/// A project's name in normal form (PEP 503): lower case, runs of `-`, `_` and `.` as one dash.
#[must_use]
pub fn normal_name(name: &str) -> String {
    let mut normal = String::new();
    for c in name.chars() {
        if matches!(c, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(c.to_ascii_lowercase());
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_have_one_form() {
        for name in ["Foo.Bar", "foo__bar", "FOO-_.bar"] {
            assert_eq!(super::normal_name(name), "foo-bar");
        }
    }
}

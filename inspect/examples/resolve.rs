//! Prints the tree of programs: `resolve ROOT PROGRAM…`; with a name in `WHY`, the story of that library.
#![allow(clippy::print_stdout, reason = "an example is looked at")]
use hatchway_inspect::resolve::{self, DirectoryRoot, Search};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root =
        DirectoryRoot::open(std::path::Path::new(&arguments.next().unwrap_or_default())).expect("a root");
    let why = std::env::var("WHY").ok();
    let search = Search { trace: why.is_some(), ..Search::default() };
    for program in arguments {
        let Some(closure) = resolve::closure_with(&root, &program, &search) else { continue };
        match &why {
            Some(name) => print!("{}", resolve::render_why(&resolve::why(&[closure], name))),
            None => print!("{}", resolve::render_tree(&resolve::tree(&closure))),
        }
    }
}

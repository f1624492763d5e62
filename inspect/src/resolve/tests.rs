//! The rules, over listings.

use std::sync::Arc;

use super::*;

fn object(class: u8, needed: &[&str]) -> Object {
    Object {
        class,
        machine: if class == 64 { "x86-64" } else { "i386" }.to_owned(),
        needed: needed.iter().map(|name| (*name).to_owned()).collect(),
        ..Object::default()
    }
}

fn listing(objects: &[(&str, Object)], links: &[(&str, &str)]) -> Listing {
    let mut listing = Listing::default();
    for (path, object) in objects {
        listing.insert_object(path, Arc::new(object.clone()));
    }
    for (path, target) in links {
        listing.insert(path, Node::Symlink((*target).to_owned()));
    }
    listing
}

fn first(listing: &Listing) -> Option<(String, String)> {
    let closure = closure(listing, "/bin/run").unwrap();
    let index = closure.edges[0].found?;
    Some((closure.objects[index].path.clone(), closure.objects[index].rule.to_string()))
}

#[test]
fn the_wrong_word_size_is_passed_over() {
    let objects = [
        ("/bin/run", object(32, &["libx.so"])),
        ("/lib/libx.so", object(64, &[])),
        ("/usr/lib/libx.so", object(32, &[])),
    ];
    let found = first(&listing(&objects, &[]));
    assert_eq!(found, Some(("/usr/lib/libx.so".to_owned(), "default directory".to_owned())));
}

#[test]
fn default_directories_may_be_refused() {
    let mut run = object(64, &["libx.so"]);
    run.no_default_directories = true;
    let mut listing = listing(&[("/bin/run", run), ("/usr/lib/libx.so", object(64, &[]))], &[]);
    assert_eq!(first(&listing), None);
    // The cache does not serve what lies below a default directory then.
    listing.configure("/usr/lib");
    assert_eq!(first(&listing), None);
    listing.insert_object("/opt/lib/libx.so", Arc::new(object(64, &[])));
    listing.configure("/opt/lib");
    assert_eq!(first(&listing), None, "the cache has the first by that name");
    listing.insert("/usr/lib/libx.so", Node::Symlink("nowhere".to_owned()));
    assert_eq!(first(&listing).unwrap().1, "ld.so.conf");
}

#[test]
fn tokens_are_expanded() {
    for (entry, place) in [
        ("$ORIGIN/../lib", "/opt/lib/libx.so"),
        ("${ORIGIN}/x", "/opt/bin/x/libx.so"),
        ("/opt/$LIB", "/opt/lib/x86_64-linux-gnu/libx.so"),
        ("/opt/$PLATFORM", "/opt/x86_64/libx.so"),
    ] {
        let mut run = object(64, &["libx.so"]);
        run.runpath = Some(vec!["relative".to_owned(), entry.to_owned()]);
        let listing =
            listing(&[("/opt/bin/run", run), (place, object(64, &[]))], &[("/bin/run", "../opt/bin/run")]);
        assert_eq!(first(&listing), Some((place.to_owned(), format!("RUNPATH {entry}"))));
    }
}

#[test]
fn links_stay_inside_and_end() {
    let links =
        [("/a", "b"), ("/b", "a"), ("/up", "../../../etc"), ("/lib", "usr/lib"), ("/over", "/lib/libx.so/y")];
    let listing = listing(&[("/usr/lib/libx.so", object(64, &[]))], &links);
    assert_eq!(canonical(&listing, "/a"), None);
    assert_eq!(canonical(&listing, "/up"), None);
    assert_eq!(canonical(&listing, "/over"), None);
    assert_eq!(canonical(&listing, "/lib/../lib/./libx.so").as_deref(), Some("/usr/lib/libx.so"));
    assert_eq!(canonical(&listing, "/../../").as_deref(), Some("/"));
}

#[test]
fn a_loaded_name_satisfies_later_wishes() {
    let mut plugin = object(64, &["libx.so.1"]);
    plugin.runpath = Some(vec!["/nowhere".to_owned()]);
    let mut run = object(64, &["libx.so.1", "plugin.so"]);
    run.runpath = Some(vec!["/opt".to_owned()]);
    let objects = [("/bin/run", run), ("/opt/libx.so.1", object(64, &[])), ("/opt/plugin.so", plugin)];
    let closure = closure(&listing(&objects, &[]), "/bin/run").unwrap();
    assert_eq!((closure.objects.len(), closure.missing().count()), (3, 0));
}

#[test]
fn lookups_are_bounded() {
    let listing = listing(&[("/bin/run", object(64, &["libx.so"])), ("/lib/libx.so", object(64, &[]))], &[]);
    assert_eq!(closure_within(&listing, "/bin/run", &mut 0).unwrap().missing().count(), 1);
}

fn wants(library: &str, version: &str, weak: bool) -> VersionsNeeded {
    let version = VersionNeeded { name: version.to_owned(), weak };
    VersionsNeeded { library: library.to_owned(), versions: vec![version] }
}

#[test]
fn versions() {
    let mut run = object(64, &["libx.so", "liby.so"]);
    run.versions_needed = vec![wants("libx.so", "X_2", false), wants("liby.so", "Y_1", false)];
    run.versions_needed.push(wants("libz.so", "Z_1", false));
    run.versions_needed.push(wants("libx.so", "X_3", true));
    let mut x = object(64, &[]);
    x.versions_defined = Some(vec!["libx.so".to_owned(), "X_1".to_owned()]);
    let y = Object { version_table: true, ..object(64, &[]) };
    let objects = [("/bin/run", run), ("/lib/libx.so", x), ("/lib/liby.so", y)];
    let closure = closure(&listing(&objects, &[]), "/bin/run").unwrap();
    let problems: Vec<String> =
        closure.edges.iter().flat_map(|edge| edge.problems.iter().map(ToString::to_string)).collect();
    assert_eq!(
        problems,
        [
            "version X_2 not found in /lib/libx.so",
            "weak version X_3 not found in /lib/libx.so",
            "no version information in /lib/liby.so",
            "versions are wanted of libz.so, which nothing loads",
        ]
    );
    assert_eq!(closure.failures().count(), 2);
}

#[test]
fn what_cannot_be_loaded_ends_the_search() {
    let mut run = object(64, &["libx.so", "liby.so"]);
    run.runpath = Some(vec!["/a".to_owned()]);
    let objects =
        [("/bin/run", run), ("/lib/libx.so", object(64, &[])), ("/usr/lib/liby.so", object(64, &[]))];
    let mut listing = listing(&objects, &[]);
    listing.insert_refused("/a/libx.so", Refusal::LinkerScript);
    listing.insert_refused("/a/liby.so", Refusal::Unreadable("permission denied".to_owned()));
    let closure = closure(&listing, "/bin/run").unwrap();
    assert_eq!(closure.missing().collect::<Vec<_>>(), [("libx.so", "/bin/run")]);
    let refused = closure.edges[0].problems[0].to_string();
    assert_eq!(refused, "/a/libx.so is a linker script, which the loader cannot load");
    assert_eq!(closure.edges[1].passed.len(), 1);
}

#[test]
fn an_artifact_over_a_tree() {
    let mut run = object(64, &["liba.so", "libc.so.6"]);
    run.runpath = Some(vec!["/opt/lib".to_owned()]);
    let artifact = listing(&[("/opt/bin/run", run), ("/lib/liba.so", object(64, &[]))], &[]);
    let tree = listing(
        &[("/usr/lib/x86_64-linux-gnu/libc.so.6", object(64, &[])), ("/usr/lib/liba.so", object(64, &[]))],
        &[("/lib", "usr/lib")],
    );
    let both = Layered::new(vec![&artifact, &tree]);
    let closure = closure(&both, "/opt/bin/run").unwrap();
    let paths: Vec<&str> = closure.objects.iter().map(|loaded| loaded.path.as_str()).collect();
    assert_eq!(paths, ["/opt/bin/run", "/lib/liba.so", "/lib/x86_64-linux-gnu/libc.so.6"]);
}

#[test]
fn a_library_of_an_rpath_names_its_ancestor() {
    let mut run = object(64, &["liba.so"]);
    run.rpath = Some(vec!["$ORIGIN/../lib".to_owned()]);
    let objects = [
        ("/opt/bin/run", run),
        ("/opt/lib/liba.so", object(64, &["libb.so"])),
        ("/opt/lib/libb.so", object(64, &["liba.so", "libmissing.so"])),
    ];
    let mut listing = listing(&objects, &[]);
    listing.insert("/opt/lib/glibc-hwcaps/x86-64-v3/libb.so", Node::File);
    let search = Search { trace: true, ..Search::default() };
    let closure = closure_with(&listing, "/opt/bin/run", &search).unwrap();
    let expected = "\
/opt/bin/run
  liba.so => /opt/lib/liba.so (RPATH $ORIGIN/../lib)
    libb.so => /opt/lib/libb.so (RPATH $ORIGIN/../lib of /opt/bin/run)
        also as a faster copy at /opt/lib/glibc-hwcaps/x86-64-v3/libb.so
      liba.so => /opt/lib/liba.so (RPATH $ORIGIN/../lib, above)
      libmissing.so  NOT FOUND
";
    assert_eq!(render_tree(&tree(&closure)), expected);
    let story = why(&[closure], "libmissing.so");
    assert_eq!(story.wanted_by[0].chain, ["/opt/bin/run", "/opt/lib/liba.so", "/opt/lib/libb.so"]);
    let tried: Vec<&str> = story.wanted_by[0].tried.iter().map(|tried| tried.path.as_str()).collect();
    assert_eq!(
        tried,
        [
            "/opt/bin/../lib/libmissing.so",
            "/lib/x86_64-linux-gnu/libmissing.so",
            "/usr/lib/x86_64-linux-gnu/libmissing.so",
            "/lib/libmissing.so",
            "/usr/lib/libmissing.so"
        ]
    );
    let text = render_why(&story);
    assert!(text.contains("which is loaded for /opt/bin/run → /opt/lib/liba.so"), "{text}");
    assert!(text.ends_with("    gets nothing: NOT FOUND\n"), "{text}");
}

#[test]
fn musl_has_rules_of_its_own() {
    let mut run = object(64, &["liba.so", "libm.so.6"]);
    run.interpreter = Some("/lib/ld-musl-x86_64.so.1".to_owned());
    run.runpath = Some(vec!["$ORIGIN/../lib".to_owned()]);
    let objects = [
        ("/opt/bin/run", run),
        ("/lib/ld-musl-x86_64.so.1", object(64, &[])),
        ("/opt/lib/liba.so", object(64, &["libb.so", "libc.so", "libd.so"])),
        ("/opt/lib/libb.so", object(64, &[])),
        ("/usr/local/lib/libd.so", object(32, &[])),
        ("/usr/lib/libd.so", object(64, &[])),
    ];
    let closure = closure(&listing(&objects, &[]), "/opt/bin/run").unwrap();
    let found: Vec<(&str, Option<usize>)> =
        closure.edges.iter().map(|edge| (edge.name.as_str(), edge.found)).collect();
    // A RUNPATH is inherited, the C library is the loader, and a file of the wrong word size ends the search.
    let expected = [
        ("liba.so", Some(1)),
        ("libm.so.6", Some(2)),
        ("libb.so", Some(3)),
        ("libc.so", Some(2)),
        ("libd.so", None),
    ];
    assert_eq!(found, expected);
}

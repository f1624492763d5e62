use super::*;
use hatchway_envs::build::owners::Share;
use hatchway_envs::digest::Sha256;
use proptest::prelude::*;

fn file(content: &str) -> Node {
    Node::File { sha256: Sha256::of(content.as_bytes()), size: content.len() as u64, executable: false }
}

fn large(content: &str) -> Node {
    Node::File { sha256: Sha256::of(content.as_bytes()), size: LARGE_BYTES, executable: false }
}

fn manifest(nodes: &[(&str, Node)]) -> Manifest {
    let mut manifest = Manifest::default();
    nodes.iter().for_each(|(path, node)| manifest.insert(path, node.clone()));
    manifest
}

/// The union of layers by another way than [`apply`]: whiteouts first, then every entry in the order of the archive, where
/// one that is no folder replaces a folder with all below it.
fn union(layers: &[Layer]) -> Manifest {
    let mut all: BTreeMap<String, Node> = BTreeMap::new();
    for layer in layers {
        let gone = |path: &str| {
            layer.removes.iter().any(|gone| path == gone || path.starts_with(&format!("{gone}/")))
        };
        all.retain(|path, _| !gone(path));
        for (path, node) in &layer.brings.nodes {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            assert!(
                folder.is_empty() || layer.brings.nodes.get(folder) == Some(&Node::Directory),
                "{path} comes without its folder"
            );
            if *node != Node::Directory {
                all.retain(|there, _| !there.starts_with(&format!("{path}/")));
            }
            all.insert(path.clone(), node.clone());
        }
    }
    Manifest { nodes: all }
}

fn group<'a>(title: &str, shares: &[&'a Manifest]) -> Group<'a> {
    Group { title: title.into(), contents: vec![title.into()], shares: shares.to_vec() }
}

#[test]
fn what_was_changed_replaced_and_removed_is_made_up_for() {
    let base = manifest(&[
        ("etc/passwd", file("1")),
        ("etc/gone/x", file("2")),
        ("usr/bin/a", file("3")),
        ("was/folder", file("4")),
        ("was-file", file("5")),
    ]);
    let vendor = manifest(&[("opt/v", file("6")), ("usr/bin/a", file("7")), ("usr/bin/patched", file("8"))]);
    let tree = manifest(&[
        ("etc/passwd", file("1b")),
        ("usr/bin/a", file("7")),
        ("usr/bin/patched", file("8b")),
        ("was", file("9")),
        ("was-file/x", file("10")),
        ("opt/v", file("6")),
    ]);
    let layers = stack(&tree, &[group("base", &[&base])], &[group("vendor", &[&vendor])]);
    assert_eq!(union(&layers), tree);
    let names = |layer: &Layer| layer.brings.nodes.keys().cloned().collect::<Vec<_>>();
    assert_eq!(layers[0].brings, base);
    assert_eq!(layers[1].removes, BTreeSet::from(["etc/gone".to_owned()]));
    assert_eq!(
        names(&layers[1]),
        ["etc", "etc/passwd", "usr", "usr/bin", "usr/bin/patched", "was", "was-file", "was-file/x"]
    );
    assert_eq!(names(&layers[2]), ["opt", "opt/v", "usr", "usr/bin", "usr/bin/a"]);
}

fn lock(packages: &[(&str, &[&str])], base: &[&str]) -> Lock {
    let mut text = format!(
        "schema = 1\nrecipe = \"{0}\"\nrung = \"fhs\"\nbase = \"debian:test\"\narchitectures = [\"amd64\"]\n\
         base-packages = {base:?}\n",
        "0".repeat(64)
    );
    for (name, needs) in packages {
        let sha256 = Sha256::of(name.as_bytes());
        text.push_str(&format!(
            "[[package]]\nname = \"{name}\"\nversion = \"1\"\narchitecture = \"amd64\"\nsource = \"s\"\npath = \"p\"\nsize = 1\n\
             sha256 = \"{sha256}\"\nwhy = \"dependency\"\ndependencies = {needs:?}\n"
        ));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    std::fs::write(&path, text).unwrap();
    Lock::read(&path).unwrap()
}

fn owners(brings: &[Manifest]) -> Owners {
    let shares = brings.iter().enumerate();
    Owners {
        skeleton: manifest(&[("bin", Node::Link { target: "usr/bin".into() })]),
        shares: shares
            .map(|(n, brings)| Share { input: Input::Package(n), brings: brings.clone() })
            .collect(),
    }
}

fn tree_of(owners: &Owners) -> Manifest {
    let mut tree = owners.skeleton.clone();
    tree.nodes.extend(owners.shares.iter().flat_map(|share| share.brings.nodes.clone()));
    tree
}

#[test]
fn large_packages_have_layers_of_their_own_with_libraries_below_programs() {
    let lock = lock(
        &[
            ("aprogram", &["zlib", "small"]),
            ("bash", &["libc6"]),
            ("libc6", &[]),
            ("small", &[]),
            ("tzdata", &["debconf"]),
            ("debconf", &[]),
            ("zlib", &["libc6"]),
        ],
        &["bash", "tzdata"],
    );
    let brings: Vec<Manifest> = lock
        .packages
        .iter()
        .map(|package| {
            let node = if package.name.ends_with("c6") || package.name == "small" || package.name == "debconf"
            {
                file(&package.name)
            } else {
                large(&package.name)
            };
            manifest(&[(&format!("usr/{}", package.name), node)])
        })
        .collect();
    let owners = owners(&brings);
    let layers = layers(&lock, &tree_of(&owners), &owners).unwrap();
    let titles: Vec<&str> = layers.iter().map(|layer| layer.title.as_str()).collect();
    assert_eq!(titles, ["debian:test: base", "zlib 1", "aprogram 1", "more packages"]);
    // What tzdata's script alone asks for is no part of the base.
    assert_eq!(layers[0].contents, ["bash 1", "libc6 1", "tzdata 1"]);
    assert_eq!(layers[3].contents, ["debconf 1", "small 1"]);
    assert!(layers[0].brings.nodes.contains_key("bin"));
}

#[test]
fn the_layers_of_packages_do_not_depend_on_the_rest_of_the_tree() {
    let packages: [(&str, &[&str]); 3] = [("bash", &["libc6"]), ("libc6", &[]), ("zlib", &["libc6"])];
    let brings = [
        manifest(&[("usr/bin/bash", file("b"))]),
        manifest(&[("etc/ld.so.conf", file("c"))]),
        manifest(&[("usr/lib/z", large("z"))]),
    ];
    let one = owners(&brings);
    let small = layers(&lock(&packages, &["bash"]), &tree_of(&one), &one).unwrap();
    let more: Vec<(&str, &[&str])> = packages.iter().copied().chain([("zz", &["zlib"][..])]).collect();
    let other = owners(&[&brings[..], &[manifest(&[("etc/zz", large("zz"))])]].concat());
    let mut tree = tree_of(&other);
    tree.insert("etc/ld.so.conf", file("changed"));
    tree.remove("usr/lib/z");
    let large = layers(&lock(&more, &["bash"]), &tree, &other).unwrap();
    assert_eq!(small[..2], large[..2]);
    assert_eq!(union(&large), tree);
}

#[test]
fn there_are_never_too_many_layers() {
    let names: Vec<String> = (0..300).map(|n| format!("p{n}")).collect();
    let packages: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let brings: Vec<Manifest> =
        names.iter().map(|name| manifest(&[(&format!("usr/{name}"), large(name))])).collect();
    let owners = owners(&brings);
    let all = layers(&lock(&packages, &[]), &tree_of(&owners), &owners).unwrap();
    // The skeleton alone is no layer of packages.
    assert_eq!(all.len(), LARGE_MAX + 2);
    assert_eq!(union(&all), tree_of(&owners));
}

#[test]
fn a_file_named_like_a_whiteout_is_refused() {
    let owners = owners(&[manifest(&[("usr/.wh.x", file("x"))])]);
    let refused = layers(&lock(&[("p", &[])], &[]), &tree_of(&owners), &owners);
    assert!(matches!(refused, Err(Error::Whiteout(path)) if path == "usr/.wh.x"));
}

/// Folders, files and links with few names, so that they meet.
fn any_manifest() -> impl Strategy<Value = Manifest> {
    let path = proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"));
    let node = prop_oneof![
        Just(Node::Directory),
        "[xy]".prop_map(|content| file(&content)),
        Just(Node::Link { target: "a".into() }),
    ];
    proptest::collection::vec((path, node), 0..12).prop_map(|entries| {
        let mut all = Manifest::default();
        for (path, node) in entries {
            // A later entry wins over what is in its way.
            let above = path.match_indices('/').map(|(slash, _)| path[..slash].to_owned());
            for above in above
                .filter(|above| all.nodes.get(above).is_some_and(|n| *n != Node::Directory))
                .collect::<Vec<_>>()
            {
                all.remove(&above);
            }
            all.remove(&path);
            all.insert(&path, node);
        }
        all
    })
}

fn each(all: &[Manifest]) -> Vec<Group<'_>> {
    all.iter().map(|one| group("", &[one])).collect()
}

proptest! {
    #[test]
    fn the_union_of_all_layers_is_the_tree(
        tree in any_manifest(),
        packed in proptest::collection::vec(any_manifest(), 0..4),
        vendors in proptest::collection::vec(any_manifest(), 0..3),
    ) {
        tree.check().unwrap();
        let layers = stack(&tree, &each(&packed), &each(&vendors));
        prop_assert_eq!(union(&layers), tree);
    }

    #[test]
    fn several_packages_in_one_layer_are_still_the_tree(
        tree in any_manifest(),
        packed in proptest::collection::vec(any_manifest(), 0..4),
    ) {
        let one = Group { title: String::new(), contents: Vec::new(), shares: packed.iter().collect() };
        prop_assert_eq!(union(&stack(&tree, &[one], &[])), tree);
    }
}

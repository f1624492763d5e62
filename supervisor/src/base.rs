//! Bases without an index of packages: an OCI image, or nothing but the artifacts.
//!
//! There is nothing to choose, so a lock is made of what is there; whether that is enough is looked up in the tree itself, by the
//! same needs that a suite of Debian is held against.

use std::path::{Path, PathBuf};

use hatchway_envs::choose::{Asked, Need, Upgrade};
use hatchway_envs::lock::{Lock, LockedArtifact, SCHEMA};
use hatchway_envs::oci::{self, Image};
use hatchway_inspect::resolve::{DirectoryRoot, Root, canonical, default_directories};

use crate::context::Context;
use crate::error::Error;
use crate::recipe::{Architecture, Base, Located};
use crate::{patches, steps};

/// Folders of libraries of other distributions than Debian, and of musl's.
const FOLDERS: [&str; 5] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
/// As many missing libraries as a person reads.
const MISSING_MAX: usize = 20;

/// Makes the lock of a recipe with such a base.
///
/// # Errors
/// An image that cannot be used; [`Error::Missing`] with the libraries that are not there.
pub(crate) fn lock(
    context: &Context,
    located: &Located,
    wish: &steps::LockWish,
    artifacts: Vec<LockedArtifact>,
    (needs, depends): (&[Need], &[Asked]),
    rung: String,
) -> Result<Lock, Error> {
    let environment = &located.recipe.environment;
    if !wish.suites.is_empty() {
        return Err(Error::Usage("`--suite` is for a base of Debian; the recipe names another one".into()));
    }
    if let Upgrade::Only(names) = &wish.upgrade
        && let Some(package) = names.first().cloned()
    {
        return Err(hatchway_envs::Error::NotLocked { package }.into());
    }
    let image = image(context, located)?;
    let lock = Lock {
        schema: SCHEMA,
        recipe: located.recipe.lock_inputs(),
        rung,
        runner: String::new(),
        base: image.as_ref().map_or("none".to_owned(), |i| format!("oci:sha256:{}", i.locked.manifest)),
        architectures: environment.architectures.iter().map(|a| a.name().to_owned()).collect(),
        base_packages: Vec::new(),
        refused: Vec::new(),
        python: String::new(),
        image: image.as_ref().map(|image| image.locked.clone()),
        kernel: None,
        artifacts,
        patches: patches::gather(context, located)?,
        wheels: Vec::new(),
        sources: Vec::new(),
        packages: Vec::new(),
    };
    tell(context, located, image.as_ref(), depends);
    if !needs.is_empty() {
        let tree = steps::build(context, located, &lock)?.tree;
        let missing = missing(&context.store.tree(tree), needs, image.is_some())?;
        if !missing.is_empty() {
            return Err(Error::Missing { base: shown(located), missing });
        }
    }
    Ok(lock)
}

/// Sees that the store has the layers of a lock's image.
///
/// # Errors
/// When it lacks one, and the image is not there any more or has become another.
pub(crate) fn provide(context: &Context, located: &Located, lock: &Lock) -> Result<(), Error> {
    let Some(locked) = &lock.image else { return Ok(()) };
    if locked.layers.iter().all(|layer| context.store.artifact(layer.sha256).exists()) {
        return Ok(());
    }
    let found = image(context, located)?;
    match found.filter(|found| found.locked == *locked) {
        Some(_) => Ok(()),
        None => Err(Error::StaleLock(located.recipe.package.name.to_string())),
    }
}

/// The recipe's image, if it has one, its layers in the store.
fn image(context: &Context, located: &Located) -> Result<Option<Image>, Error> {
    let Some(Base::Oci(text)) = located.recipe.environment.base() else { return Ok(None) };
    let (path, reference) = place(located.folder(), text);
    if !path.exists() {
        let (file, folder) = (text.clone(), located.folder().to_owned());
        return Err(Error::NoArtifact { file, folder });
    }
    Ok(Some(oci::read(&context.store, &path, reference)?))
}

/// `image.tar`, `layout:NAME`: what is there under the whole text is meant first.
fn place<'t>(folder: &Path, text: &'t str) -> (PathBuf, Option<&'t str>) {
    let whole = folder.join(text);
    if whole.exists() {
        return (whole, None);
    }
    // A name of docker's may have a colon itself: `image.tar:acme:1.0`.
    let mut colons = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let there = colons.find(|(path, _)| folder.join(path).exists());
    there.map_or((whole, None), |(path, reference)| (folder.join(path), Some(reference)))
}

fn shown(located: &Located) -> String {
    match located.recipe.environment.base() {
        Some(Base::Oci(text)) => format!("`oci:{text}`"),
        _ => "`none`".to_owned(),
    }
}

/// What nobody sees to with such a base.
fn tell(context: &Context, located: &Located, image: Option<&Image>, depends: &[Asked]) {
    let say = |text: String| context.printer.say(format!("note: {text}"));
    match image {
        Some(image) if !image.starts.is_empty() && located.recipe.run.program.is_none() => {
            let words: Vec<String> =
                image.starts.iter().map(|word| word.escape_debug().to_string()).collect();
            say(format!(
                "a container of the image would start `{}`; `program` in [run] says what a tool starts",
                words.join(" ")
            ));
        }
        Some(_) => {}
        None => {
            say("base = \"none\": no shell, certificates, time zones and locales but those of the artifacts"
                .into());
        }
    }
    let mut whose: Vec<&str> = depends.iter().map(|asked| asked.whose.as_str()).collect();
    whose.dedup();
    for name in whose {
        say(format!(
            "the packages that `{name}` depends on are not looked for in such a base: its libraries are"
        ));
    }
}

/// The libraries that a tree lacks, or has without the symbol versions that are needed.
fn missing(tree: &Path, needs: &[Need], image: bool) -> Result<Vec<String>, Error> {
    let root = DirectoryRoot::open(tree).map_err(hatchway_envs::Error::from)?;
    let mut missing = Vec::new();
    for need in needs {
        let place = if image { "is not in the image" } else { "is in no artifact" };
        match versions(&root, need) {
            None => missing.push(format!("`{}` (needed by {}) {place}", need.soname, need.wanted_by)),
            Some(defined) => {
                let lacking = need.versions.iter().rfind(|version| !defined.contains(version));
                missing.extend(lacking.map(|version| {
                    format!("`{version}` is not in {} (needed by {})", need.soname, need.wanted_by)
                }));
            }
        }
    }
    let more = missing.len().saturating_sub(MISSING_MAX);
    missing.truncate(MISSING_MAX);
    if more > 0 {
        missing.push(format!("and {more} more"));
    }
    Ok(missing)
}

/// The symbol versions of the library that a loader of the tree would find, if there is one.
fn versions(root: &DirectoryRoot, need: &Need) -> Option<Vec<String>> {
    let (class, machine) =
        if need.architecture == Architecture::I386.name() { (32, "i386") } else { (64, "x86-64") };
    let default = default_directories(class, machine);
    let folders = root.configured().iter().chain(&default).map(String::as_str).chain(FOLDERS);
    let mut found = folders.filter_map(|folder| {
        let file = canonical(root, &format!("{folder}/{}", need.soname))?;
        root.object(&file).filter(|object| object.class == class && object.machine == machine)
    });
    found.next().map(|object| object.versions_defined.clone().unwrap_or_default())
}

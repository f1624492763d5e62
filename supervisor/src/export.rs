//! From a locked recipe to an image: the tree's layers, and what of the recipe an image can say.

use std::fs;
use std::path::{Path, PathBuf};

use hatchway_envs::build::owners;
use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::{Lock, write_atomically};
use hatchway_envs::sandbox::{self, common_environment};
use hatchway_images::engine::{Engine, Outcome};
use hatchway_images::layout::Written;
use hatchway_images::{About, Image, layer};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Error;
use crate::recipe::Located;
use crate::steps;

/// Where an image goes.
#[derive(Debug)]
pub enum Place {
    /// An OCI layout in a folder.
    Folder(PathBuf),
    /// One tar archive.
    Archive(PathBuf),
    /// The container engine of this machine, which answers.
    Engine(Engine),
}

impl Place {
    /// What a person means: `docker`, a name that ends with `.tar`, or a folder.
    ///
    /// # Errors
    /// When there is no engine.
    pub fn new(text: &str, docker_host: Option<&str>) -> Result<Self, Error> {
        if text == "docker" {
            return Ok(Self::Engine(Engine::find(docker_host)?));
        }
        let path = PathBuf::from(text);
        if path.extension().is_some_and(|extension| extension == "tar") && !path.is_dir() {
            return Ok(Self::Archive(path));
        }
        Ok(Self::Folder(path))
    }

    /// The folder that must be there.
    fn parent(&self) -> Option<&Path> {
        let (Self::Folder(path) | Self::Archive(path)) = self else { return None };
        path.parent().filter(|parent| !parent.as_os_str().is_empty())
    }

    /// Looks before work is done that would be for nothing.
    ///
    /// # Errors
    /// When the folder above is not there.
    pub fn check(&self) -> Result<(), Error> {
        match self.parent() {
            Some(parent) if !parent.is_dir() => Err(Error::Host {
                message: format!("there is no folder `{}` to write into", parent.display()),
                hints: vec![format!("make it first: `mkdir -p {}`", parent.display())],
            }),
            _ => Ok(()),
        }
    }
}

/// The image of a recipe whose tree was built.
///
/// # Errors
/// Records of unpacked archives that are gone and cannot be made again, a file that no image can hold.
pub fn image(
    context: &Context,
    located: &Located,
    lock: &Lock,
    tree: Sha256,
    program: Option<&str>,
) -> Result<Image, Error> {
    let owners: owners::Owners = steps::owners(context, located, lock)?;
    let manifest = context.store.manifest(tree)?;
    let layers = layer::layers(lock, &manifest, &owners)?;
    let recipe = &located.recipe;
    let environment = common_environment(&recipe.run.env);
    let about = About {
        name: recipe.package.name.to_string(),
        version: recipe.package.version.clone(),
        base: lock.base.clone(),
        architecture: lock.native().to_owned(),
        entrypoint: entrypoint(context, located, program)?,
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        tree,
        lock: lock.inputs(),
    };
    Ok(Image { store: context.store.clone(), about, layers })
}

/// The name of a tool's image in an engine.
#[must_use]
pub fn tagged(located: &Located, tree: Sha256) -> String {
    hatchway_images::tagged(&located.recipe.package.name.to_string(), tree)
}

/// Images that engines have of trees, as far as this user's Hatchway has sent them: an id is a digest of the whole image.
const KNOWN: &str = "images";
/// Part of each record. A version of Hatchway that makes other images of the same tree does not use those of an older one.
const BUILDER: &str = concat!(env!("CARGO_PKG_VERSION"), " 1");
/// Ids that are remembered of one tree: one for each program that was started in it first.
const IDS_MAX: usize = 16;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    builder: String,
    ids: Vec<String>,
}

fn known_path(context: &Context, tree: Sha256) -> PathBuf {
    context.dirs.cache.join(KNOWN).join(format!("{}.json", tree.hex()))
}

/// The ids of images of a tree that were sent to an engine. Where the record is gone they are computed anew, and nothing is sent
/// that the engine has.
#[must_use]
pub fn known(context: &Context, tree: Sha256) -> Vec<String> {
    let text = fs::read(known_path(context, tree)).unwrap_or_default();
    let known: Known = serde_json::from_slice(&text).unwrap_or_default();
    if known.builder == BUILDER { known.ids } else { Vec::new() }
}

/// Sends an image to an engine and remembers what it is there; the id is its.
///
/// # Errors
/// What the engine says; the cache cannot be written.
pub fn load(context: &Context, engine: &Engine, image: &Image) -> Result<(Written, Outcome, String), Error> {
    let (written, outcome) = engine.load(image, &context.printer)?;
    let tree = image.about.tree;
    let gone = || Error::Engine("it has loaded the image, and does not know it".into());
    let id = engine.named(&image.about.tagged(), tree)?.ok_or_else(gone)?;
    let mut ids = known(context, tree);
    ids.retain(|known| *known != id);
    ids.insert(0, id.clone());
    ids.truncate(IDS_MAX);
    let path = known_path(context, tree);
    let folder = context.dirs.cache.join(KNOWN);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let text = serde_json::to_vec(&Known { builder: BUILDER.to_owned(), ids });
    write_atomically(&path, &text.map_err(sandbox::Error::from)?)?;
    Ok((written, outcome, id))
}

/// The program, and the arguments that the recipe always gives its own. An environment without a program is an image, too.
fn entrypoint(context: &Context, located: &Located, wish: Option<&str>) -> Result<Vec<String>, Error> {
    let program = match steps::program(context, located, wish) {
        Ok(program) => program,
        Err(Error::NoProgram(_)) => {
            context.printer.say("note: the recipe has no program, so the image starts nothing by itself");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let args: &[String] = if wish.is_none() { &located.recipe.run.args } else { &[] };
    Ok([program].into_iter().chain(args.iter().cloned()).collect())
}

/// What of the recipe's `[run]` an image cannot say, for whoever starts it.
#[must_use]
pub fn left_out(located: &Located) -> Vec<String> {
    let recipe = &located.recipe;
    let mut notes = Vec::new();
    for at in &recipe.run.state {
        let at = at.get_ref().as_str();
        notes.push(format!("state in `{at}` is lost with the container; keep it with `--volume NAME:{at}`"));
    }
    for slot in &recipe.files {
        let (name, at) = (slot.name.get_ref(), slot.at.as_str());
        notes.push(format!("the file slot `{name}` is empty; fill it with `--volume FILE:{at}:ro`"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_image_goes_is_told_by_its_name() {
        let place = |text: &str| Place::new(text, Some("unix:///nowhere"));
        assert!(matches!(place("a.tar"), Ok(Place::Archive(_))));
        assert!(matches!(place("images/acme"), Ok(Place::Folder(_))));
        assert!(matches!(place("./docker"), Ok(Place::Folder(_))));
        assert!(place("docker").is_err());
        assert!(place("/no/such/folder/a.tar").unwrap().check().is_err());
        assert!(place("a.tar").unwrap().check().is_ok());
    }
}

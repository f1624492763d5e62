//! `hatchway export`

use std::process::ExitCode;

use hatchway_envs::store::space::readable;
use hatchway_images::engine::Outcome;
use hatchway_images::layout::Written;
use hatchway_images::{Image, archive, layout};
use schemars::JsonSchema;
use serde::Serialize;

use super::NetworkArgs;
use crate::context::Context;
use crate::error::Error;
use crate::export::{self, Place};
use crate::{recipe, steps};

/// Formats.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write a tool's tree as an OCI image: the same recipe and lock give the same bytes everywhere
    Oci(Args),
}

/// Arguments of `export oci`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recipe's name or path
    recipe: String,
    /// Where to: a folder (an OCI layout, which may hold other images), a file that ends with `.tar` (for
    /// `docker load`, `podman load` and OCI tools), or `docker` (the engine of this machine)
    #[arg(value_name = "DIR|FILE.tar|docker")]
    to: String,
    /// The image's name in the layout or archive [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// The program that the image starts
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// What `export oci --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    /// The tree's digest.
    tree: String,
    /// Where the image is: a path, or its name in the engine.
    place: String,
    /// The digest of the image's manifest, as registries and layouts name it. In an engine layers are not compressed, so the
    /// manifest is another one there.
    manifest: String,
    /// The digest of its configuration, by which engines name an image. The same wherever it is exported to.
    config: String,
    /// Its name in the layout or archive; none in an engine.
    reference: Option<String>,
    /// Its name in an engine that loads it.
    tag: String,
    /// Whether the engine had it; `false` for a folder and an archive.
    was_there: bool,
    /// How many of its layers the layout had.
    layers_shared: usize,
    /// Its layers, the lowest first.
    layers: Vec<LayerReport>,
}

/// A layer.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct LayerReport {
    /// What it is.
    title: String,
    /// Packages, Python packages or artifacts in it, each with its version.
    contents: Vec<String>,
    /// The digest of its blob.
    digest: String,
    /// The bytes of its blob.
    size: u64,
    /// The digest of its archive before it is compressed.
    diff_id: String,
    /// The bytes of that archive.
    plain_size: u64,
}

pub(super) fn main(command: &Command, quiet: bool) -> Result<ExitCode, Error> {
    let Command::Oci(args) = command;
    let context = Context::open(quiet || args.json, args.network.into())?;
    let place = Place::new(&args.to, std::env::var("DOCKER_HOST").ok().as_deref())?;
    place.check()?;
    if args.reference.as_ref().is_some_and(|name| !is_reference(name)) {
        return Err(Error::Usage("`--reference` takes letters, digits and `-._:@/+`".into()));
    }
    let located = recipe::find(&args.recipe, &context.dirs.recipes())?;
    let lock = steps::read_lock(&located)?;
    let (built, _held) = steps::build_and_hold(&context, &located, &lock)?;
    let image = export::image(&context, &located, &lock, built.tree, args.program.as_deref())?;
    let reference = args.reference.clone().unwrap_or_else(|| located.recipe.package.name.to_string());
    let (written, outcome) = match &place {
        Place::Folder(path) => (layout::write(&image, path, &reference, &context.printer)?, None),
        Place::Archive(path) => (archive::write(&image, path, &reference, &context.printer)?, None),
        Place::Engine(engine) => {
            let (written, outcome, _) = export::load(&context, engine, &image)?;
            (written, Some(outcome))
        }
    };
    let report = report(&args.to, &image, &written, outcome, &reference);
    if args.json {
        context.printer.data(super::json(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    tell(&context, &report, outcome);
    export::left_out(&located).iter().for_each(|note| context.printer.say(format!("note: {note}")));
    context.printer.say(format!("next: {}", next(&report, &place)));
    context.printer.data(if outcome.is_some() { &report.tag } else { &report.manifest });
    Ok(ExitCode::SUCCESS)
}

/// The grammar of `org.opencontainers.image.ref.name` (OCI image specification, "Pre-Defined Annotation Keys"), nearly.
fn is_reference(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-._:@/+".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 128 && name.chars().all(inside)
}

fn report(
    place: &str,
    image: &Image,
    written: &Written,
    outcome: Option<Outcome>,
    reference: &str,
) -> Report {
    let digest = |sha256| format!("sha256:{sha256}");
    let layers = image.layers.iter().zip(&written.blobs);
    let layers = layers.map(|(layer, blob)| LayerReport {
        title: layer.title.clone(),
        contents: layer.contents.clone(),
        digest: digest(blob.sha256),
        size: blob.size,
        diff_id: digest(blob.diff_id),
        plain_size: blob.plain_size,
    });
    Report {
        tree: image.about.tree.to_string(),
        place: if outcome.is_some() { image.about.tagged() } else { place.to_owned() },
        manifest: digest(written.manifest),
        config: digest(written.config),
        reference: outcome.is_none().then(|| reference.to_owned()),
        tag: image.about.tagged(),
        was_there: outcome.is_some_and(|outcome| outcome != Outcome::Loaded),
        layers_shared: written.shared,
        layers: layers.collect(),
    }
}

fn tell(context: &Context, report: &Report, outcome: Option<Outcome>) {
    let printer = &context.printer;
    // Of an image that was there they are no news.
    for layer in report.layers.iter().filter(|_| !report.was_there) {
        let count = match layer.contents.len() {
            0 | 1 => String::new(),
            several => format!(" ({several} packages)"),
        };
        printer.say(format!("  {:>9}  {}{count}", readable(layer.size), layer.title));
    }
    let sum = readable(report.layers.iter().map(|layer| layer.size).sum());
    let count = report.layers.len();
    printer.say(match outcome {
        None if report.layers_shared > 0 => {
            format!(
                "wrote {}: {count} layers, {sum}; {} of them were there",
                report.place, report.layers_shared
            )
        }
        None => format!("wrote {}: {count} layers, {sum}", report.place),
        Some(Outcome::Loaded) => format!("loaded {}: {count} layers, {sum}", report.tag),
        Some(Outcome::Tagged) => format!("the engine had the image; it is named {} now", report.tag),
        Some(Outcome::There) => format!("the engine has {} already", report.tag),
    });
    printer.say(format!("image {}", report.config));
}

fn next(report: &Report, place: &Place) -> String {
    let name = report.reference.as_deref().unwrap_or_default();
    match place {
        Place::Folder(path) => {
            format!("skopeo copy oci:{}:{name} docker://REGISTRY/NAME:TAG", path.display())
        }
        Place::Archive(path) => format!("docker load --input {}", path.display()),
        Place::Engine(_) => format!("docker run --rm --network none {}", report.tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_those_of_the_specification() {
        assert!(["acme", "acme:1.0", "a/b@c+d"].iter().all(|name| is_reference(name)));
        assert!(["", "-a", "a b", "ä"].iter().all(|name| !is_reference(name)));
    }
}

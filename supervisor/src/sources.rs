//! The package sources of a recipe beside Debian's: a vendor's apt repository, each with its own key.

use hatchway_envs::choose::Extra;
use hatchway_envs::debian::archive::Archive;
use hatchway_envs::debian::sources::{Holds, Mirror};

use crate::context::Context;
use crate::recipe::{Located, Source};

/// The sources of a recipe, as the resolver reads them. What a source's key signs is believed of that source alone.
#[must_use]
pub fn of_recipe(context: &Context, located: &Located) -> Vec<Extra> {
    located.recipe.sources.iter().map(|source| extra(context, located, source)).collect()
}

fn extra(context: &Context, located: &Located, source: &Source) -> Extra {
    let mirror = |url: &String| Mirror {
        check_valid_until: source.check_valid_until,
        ..Mirror::new(url, Holds::All, "the recipe")
    };
    let archive = Archive {
        id: format!("source:{}", source.name.get_ref()),
        mirrors: source.urls.iter().map(mirror).collect(),
        keyrings: vec![located.folder().join(&source.key)],
        ..context.archive().clone()
    };
    Extra { archive, suite: source.suite.clone(), components: source.components.clone() }
}

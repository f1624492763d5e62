//! `--bind SLOT=VALUE`: what this machine puts into the slots of a recipe.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::recipe::Recipe;

/// The values by the name of their slot.
#[derive(Debug)]
pub(super) struct Bindings<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Bindings<'a> {
    /// Each has to name a slot of the recipe.
    pub(super) fn new(recipe: &Recipe, bind: &'a [String]) -> Result<Self, Error> {
        let slots = slots(recipe);
        let mut bound = BTreeMap::new();
        for text in bind {
            let wrong = || Error::Usage(format!("`--bind {text}`: it has the form SLOT=VALUE"));
            let (slot, value) = text.split_once('=').ok_or_else(wrong)?;
            if !slots.iter().any(|name| name == slot) {
                let have = if slots.is_empty() {
                    "the recipe has none".into()
                } else {
                    format!("it has {}", slots.join(", "))
                };
                return Err(Error::Usage(format!("`--bind {text}`: there is no slot `{slot}`; {have}")));
            }
            bound.insert(slot, value);
        }
        Ok(Self(bound))
    }

    pub(super) fn get(&self, slot: &str) -> Option<&'a str> {
        self.0.get(slot).copied()
    }
}

fn slots(recipe: &Recipe) -> Vec<String> {
    let files = recipe.files.iter().map(|file| file.name.get_ref().to_string());
    let devices = recipe.devices.iter().map(|device| device.name.get_ref().to_string());
    let channels = recipe.channels.iter().map(|channel| channel.name.get_ref().to_string());
    let identity = recipe.identity.iter().flat_map(|identity| &identity.needs);
    let image = recipe.image().map(|_| "image".to_owned());
    let mut slots: Vec<String> = files
        .chain(image)
        .chain(devices)
        .chain(channels)
        .chain(identity.map(|item| format!("identity.{item}")))
        .collect();
    // An address belongs to an interface and an interface has an address: either may be given where one is needed.
    if slots.iter().any(|slot| slot == "identity.mac")
        && !slots.iter().any(|slot| slot == "identity.interface")
    {
        slots.push("identity.interface".to_owned());
    }
    slots
}

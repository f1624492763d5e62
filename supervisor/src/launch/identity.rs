//! The licence identity that a tool is bound to, as this machine's owner states it.

use hatchway_envs::sandbox::{Interface, Network, Spec};

use super::bindings::Bindings;
use crate::context::Context;
use crate::error::Error;
use crate::recipe::{IdentityItem, Recipe};

/// The name licence managers look for first.
const INTERFACE: &str = "eth0";

pub(super) fn add(
    context: &Context,
    recipe: &Recipe,
    bindings: &Bindings<'_>,
    spec: &mut Spec,
) -> Result<(), Error> {
    let Some(identity) = &recipe.identity else { return Ok(()) };
    for item in &identity.needs {
        let slot = format!("identity.{item}");
        if bindings.get(&slot).is_none() && *item != IdentityItem::Interface {
            context.printer.warn(format!(
                "the tool wants to see a {item} that its licence is bound to, and none is bound; bind it with \
                 `--bind {slot}=…`"
            ));
        }
    }
    if let Some(id) = bindings.get("identity.machine-id") {
        // Its form is checked with the rest of the plan.
        id.clone_into(&mut spec.machine_id);
    }
    if let Some(name) = bindings.get("identity.hostname") {
        spec.hostname = Some(name.to_owned());
    }
    let name = bindings.get("identity.interface");
    let Some(mac) = bindings.get("identity.mac") else {
        return match name {
            None => Ok(()),
            Some(_) => {
                Err(Error::Usage("`identity.interface` needs its address: `--bind identity.mac=…`".into()))
            }
        };
    };
    if spec.network == Network::Host {
        return Err(Error::Host {
            message: "an identity with an address of its own needs a network of its own, and the recipe has \
                      `network = \"host\"`"
                .into(),
            hints: vec!["use `network = \"loopback\"`, or `{ allow = [\"ADDRESS:PORT\"] }`".into()],
        });
    }
    let mac = parse(mac)
        .ok_or_else(|| Error::Usage(format!("`{mac}` is not a hardware address, as `00:1b:21:0a:0b:0c`")))?;
    spec.interface = Some(Interface { name: name.unwrap_or(INTERFACE).to_owned(), mac });
    Ok(())
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    // The number parser takes a sign as well.
    let pair = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = parts.iter().map(|part| u8::from_str_radix(part, 16).ok().filter(|_| pair(part)));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_six_pairs() {
        assert_eq!(super::parse("00:1b:21:0A:0b:0c"), Some([0, 0x1b, 0x21, 0x0a, 0x0b, 0x0c]));
        assert_eq!(super::parse("00-1b-21-0a-0b-0c"), Some([0, 0x1b, 0x21, 0x0a, 0x0b, 0x0c]));
        for bad in ["", "00:1b:21:0a:0b", "00:1b:21:0a:0b:0c:0d", "0:1b:21:0a:0b:0c", "+0:1b:21:0a:0b:0c"] {
            assert_eq!(super::parse(bad), None, "{bad}");
        }
    }
}

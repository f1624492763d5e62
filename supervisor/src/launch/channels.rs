//! Channels: streams of I/O of the tool, and what of this machine they lead to.
//!
//! A server (`tcp:…`) is spoken to by the unit's relay: in the fhs rung's own process on this machine's network, from containers
//! and guests by way of this process ([`super::broker`]). A serial channel that is bound to a device is that device's node.

use hatchway_envs::sandbox::{Channel, Door, Endpoint, Spec};
use hatchway_wire::{Owner, Transport};

use super::bindings::Bindings;
use super::inside;
use crate::context::Context;
use crate::error::Error;
use crate::recipe::{self, ChannelKind, DeviceSlot, Recipe};

/// Adds those that lead to a server.
pub(super) fn add(
    context: &Context,
    recipe: &Recipe,
    bindings: &Bindings<'_>,
    spec: &mut Spec,
) -> Result<(), Error> {
    let owner = Owner { uid: spec.identity.uid, gid: spec.identity.gid };
    for channel in &recipe.channels {
        let name = channel.name.get_ref().as_str();
        let serial = channel.kind == ChannelKind::Serial;
        let Some(value) = bindings.get(name) else {
            let more =
                if serial { ", `by-id:…`, `by-path:…` or `usb:VENDOR:PRODUCT:SERIAL`" } else { "" };
            context.printer.warn(format!(
                "the channel `{name}` is not bound, so the tool does not find it; bind it with `--bind {name}=tcp:ADDRESS:PORT`{more}"
            ));
            continue;
        };
        if serial && !is_server(value) {
            // Among the devices.
            continue;
        }
        let to = server(value).map_err(|why| Error::Usage(format!("`--bind {name}={value}`: {why}")))?;
        let door = door(channel, owner)?;
        spec.channels.push(Channel { name: name.to_owned(), door, to });
    }
    Ok(())
}

fn door(channel: &recipe::Channel, owner: Owner) -> Result<Door, Error> {
    let unusable = || Error::Usage(format!("the channel `{}` is nowhere", channel.name.get_ref()));
    Ok(match channel.kind {
        ChannelKind::Tcp => Door::Port { at: channel.address().ok_or_else(unusable)? },
        _ => Door::Line { at: inside(channel.line().ok_or_else(unusable)?.as_str())?, owner },
    })
}

/// What is bound is a server, not a device.
pub(super) fn is_server(value: &str) -> bool {
    value.starts_with("tcp:")
}

fn server(value: &str) -> Result<Endpoint, String> {
    let form = "it has the form tcp:ADDRESS:PORT, with an address in numbers: tcp:10.0.0.5:5025";
    let to: Endpoint = value.parse().map_err(|()| form.to_owned())?;
    let is_tcp = is_server(value) && to.transport == Transport::Tcp && to.address.port() != 0;
    if is_tcp { Ok(to) } else { Err(form.to_owned()) }
}

/// Serial channels as slots for devices.
pub(super) fn slots(recipe: &Recipe) -> impl Iterator<Item = DeviceSlot> {
    let serial = recipe.channels.iter().filter(|channel| channel.kind == ChannelKind::Serial);
    serial.map(|channel| DeviceSlot {
        name: channel.name.clone(),
        class: "serial".to_owned(),
        at: channel.line(),
        port: channel.port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_an_address_in_numbers_and_a_port() {
        assert_eq!(server("tcp:10.0.0.5:5025").unwrap().to_string(), "tcp:10.0.0.5:5025");
        assert_eq!(server("tcp:[::1]:1").unwrap().to_string(), "tcp:[::1]:1");
        for bad in
            ["tcp:scope:5025", "10.0.0.5:5025", "udp:10.0.0.5:1", "tcp:10.0.0.5", "tcp:10.0.0.5:0", "by-id:x"]
        {
            assert!(server(bad).is_err(), "{bad}");
        }
    }
}

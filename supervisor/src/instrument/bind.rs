//! From the instrument's bindings to the words of `hatchway run --bind`.

use super::{ChannelConfig, UnitConfig};

/// `SLOT=VALUE` for each slot, or why one cannot be bound so.
pub(super) fn words(config: &UnitConfig) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (name, path) in &config.files {
        if !path.is_absolute() {
            return Err(format!("`files.{name}` is no absolute path"));
        }
        words.push(format!("{name}={}", path.display()));
    }
    for (name, device) in &config.devices {
        let stable = ["by-id:", "by-path:", "usb:"].iter().any(|prefix| device.starts_with(prefix));
        if !stable {
            return Err(format!(
                "`devices.{name}`: `{device}` is no stable name (`by-id:…`, `by-path:…`, `usb:VENDOR:PRODUCT:SERIAL`)"
            ));
        }
        // A device that is there for a channel only is no slot of its own.
        let of_channel = config.channels.values().any(|channel| target(channel) == Some(name.as_str()));
        if !of_channel {
            words.push(format!("{name}={device}"));
        }
    }
    for (name, channel) in &config.channels {
        words.push(format!("{name}={}", bound(config, name.as_str(), channel)?));
    }
    for (item, value) in &config.identity {
        if !["mac", "interface", "machine-id", "hostname"].contains(&item.as_str()) {
            return Err(format!("`identity.{item}` is none of mac, interface, machine-id and hostname"));
        }
        words.push(format!("identity.{item}={value}"));
    }
    Ok(words)
}

fn target(channel: &ChannelConfig) -> Option<&str> {
    channel.to.strip_prefix("device:")
}

fn bound(config: &UnitConfig, name: &str, channel: &ChannelConfig) -> Result<String, String> {
    let not_yet =
        |what: &str| format!("`channels.{name}`: {what} is not carried out by this version of Hatchway");
    if channel.gate.is_some() {
        return Err(not_yet("`gate`"));
    }
    if channel.record {
        return Err(not_yet("`record`"));
    }
    if let Some(device) = target(channel) {
        let found = config.devices.iter().find(|(other, _)| other.as_str() == device);
        return found.map(|(_, value)| value.clone()).ok_or_else(|| {
            format!("`channels.{name}`: there is no device `{device}` in `devices` of this unit")
        });
    }
    match channel.to.split_once(':') {
        Some(("tcp", _)) => Ok(channel.to.clone()),
        Some(("service" | "file", _)) => Err(not_yet(&format!("`to = \"{}\"`", channel.to))),
        _ => Err(format!(
            "`channels.{name}`: `{}` is neither `tcp:ADDRESS:PORT` nor `device:NAME`",
            channel.to
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::instrument::parse;

    #[test]
    fn a_channels_device_is_bound_to_the_channel_alone() {
        let text = "schema = 1\n[instrument]\nname = \"x\"\n[unit.a]\nrecipe = \"r\"\n\
                    channels.motion = { to = \"device:controller\" }\nchannels.scope = { to = \"tcp:10.0.0.5:5025\" }\n\
                    devices = { controller = \"by-id:usb-x\", dongle = \"usb:1:2:3\" }\n\
                    files.license = \"/etc/l\"\nidentity = { mac = \"02:00:00:00:00:01\" }\n";
        let bound = parse(text).unwrap().unit("a").unwrap().bindings();
        assert_eq!(
            bound,
            [
                "license=/etc/l",
                "dongle=usb:1:2:3",
                "motion=by-id:usb-x",
                "scope=tcp:10.0.0.5:5025",
                "identity.mac=02:00:00:00:00:01"
            ]
        );
    }
}

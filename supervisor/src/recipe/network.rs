//! What network a tool sees.

use std::fmt;
use std::net::IpAddr;

use hatchway_wire::op::Endpoint;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// More than any instrument has; each is a listening socket.
const ADDRESSES_MAX: usize = 64;

/// What network a tool sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// No interface is up.
    None,
    /// Its own loopback.
    #[default]
    Loopback,
    /// The host's.
    Host,
    /// Only these addresses.
    #[serde(untagged)]
    Allow {
        /// `10.0.0.5:5025` or `tcp:10.0.0.5:5025`, `udp:10.0.0.5:5025`
        #[schemars(
            with = "Vec<String>",
            length(max = 64),
            inner(regex(pattern = r"^((tcp|udp):)?[^:].*:[0-9]{1,5}$"))
        )]
        allow: Vec<Server>,
    },
}

/// By hand, since an error of serde's about untagged variants names none of them.
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wish;
        impl<'de> Visitor<'de> for Wish {
            type Value = Network;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"loopback\", \"host\" or { allow = [\"ADDRESS:PORT\", \"udp:ADDRESS:PORT\"] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
                match text {
                    "none" => Ok(Network::None),
                    "loopback" => Ok(Network::Loopback),
                    "host" => Ok(Network::Host),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Network, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct List {
                    allow: Vec<Server>,
                }
                let list = List::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let many = list.allow.len();
                if many > ADDRESSES_MAX {
                    let why = format!("`allow` has {many} addresses, more than {ADDRESSES_MAX}");
                    return Err(de::Error::custom(why));
                }
                Ok(Network::Allow { allow: list.allow })
            }
        }
        deserializer.deserialize_any(Wish)
    }
}

/// The address and port of one server, reached by TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Server(Endpoint);

impl Server {
    /// As the sandbox knows it.
    #[must_use]
    pub fn endpoint(self) -> Endpoint {
        self.0
    }
}

impl TryFrom<String> for Server {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let endpoint: Endpoint = text.parse().map_err(|()| {
            format!(
                "`{text}` in `allow` is not an address and a port, as `10.0.0.5:5025`, `udp:10.0.0.5:5025` or \
                 `[fd00::5]:5025`; names are not resolved, since what they mean may change"
            )
        })?;
        let ip = endpoint.address.ip();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if endpoint.address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(format!("`{text}` in `allow` is not the address of one server"));
        }
        Ok(Self(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_one_server_are_taken() {
        let read = |text: &str| Server::try_from(text.to_owned());
        for (good, says) in [
            ("10.0.0.5:5025", "tcp:10.0.0.5:5025"),
            ("tcp:10.0.0.5:5025", "tcp:10.0.0.5:5025"),
            ("udp:10.0.0.5:5025", "udp:10.0.0.5:5025"),
            ("[fd00::5]:80", "tcp:[fd00::5]:80"),
            ("udp:[fd00::5]:80", "udp:[fd00::5]:80"),
            ("127.0.0.1:27000", "tcp:127.0.0.1:27000"),
        ] {
            assert_eq!(read(good).unwrap().endpoint().to_string(), says);
        }
        for bad in [
            "10.0.0.5",
            "host:80",
            "udp:host:80",
            "0.0.0.0:80",
            "10.0.0.5:0",
            "224.0.0.1:80",
            "udp:224.0.0.1:80",
            "udp:255.255.255.255:1",
            "UDP:10.0.0.5:1",
            "udp: 10.0.0.5:1",
            "udp://10.0.0.5:1",
            "udp:tcp:10.0.0.5:1",
            "sctp:10.0.0.5:1",
            "udp:",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

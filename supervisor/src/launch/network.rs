//! What network the tool sees.

use std::net::SocketAddr;

use hatchway_envs::sandbox;

use crate::error::Error;
use crate::recipe;

/// More than any instrument has; each is a listening socket.
const ADDRESSES_MAX: usize = 64;

pub(super) fn network(wish: &recipe::Network) -> Result<sandbox::Network, Error> {
    Ok(match wish {
        recipe::Network::None => sandbox::Network::None,
        recipe::Network::Loopback => sandbox::Network::Loopback,
        recipe::Network::Host => sandbox::Network::Host,
        recipe::Network::Allow { allow } => sandbox::Network::Allow(addresses(allow)?),
    })
}

fn addresses(allow: &[String]) -> Result<Vec<SocketAddr>, Error> {
    if allow.len() > ADDRESSES_MAX {
        return Err(Error::Usage(format!(
            "`allow` has {} addresses, more than {ADDRESSES_MAX}",
            allow.len()
        )));
    }
    let mut found: Vec<SocketAddr> = Vec::new();
    for text in allow {
        let address: SocketAddr = text.parse().map_err(|_| {
            Error::Usage(format!(
                "`{text}` in `allow` is not an address and a port, as `10.0.0.5:5025` or `[fd00::5]:5025`; names are \
                 not resolved, since what they mean may change"
            ))
        })?;
        let ip = address.ip();
        let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(Error::Usage(format!("`{text}` in `allow` is not the address of one server")));
        }
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_one_server_are_taken() {
        let read = |text: &str| addresses(&[text.to_owned()]);
        for good in ["10.0.0.5:5025", "[fd00::5]:80", "127.0.0.1:27000"] {
            assert_eq!(read(good).unwrap().len(), 1, "{good}");
        }
        for bad in
            ["10.0.0.5", "host:80", "0.0.0.0:80", "10.0.0.5:0", "224.0.0.1:80", "255.255.255.255:1", ""]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(addresses(&["10.0.0.5:1".to_owned(), "10.0.0.5:1".to_owned()]).unwrap().len(), 1);
    }
}

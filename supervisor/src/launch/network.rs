//! What network the tool sees.

use hatchway_envs::sandbox;

use crate::recipe::{self, Server};

pub(super) fn network(wish: &recipe::Network) -> sandbox::Network {
    match wish {
        recipe::Network::None => sandbox::Network::None,
        recipe::Network::Loopback => sandbox::Network::Loopback,
        recipe::Network::Host => sandbox::Network::Host,
        recipe::Network::Allow { allow } => {
            let mut once = Vec::new();
            for server in allow.iter().copied().map(Server::endpoint) {
                if !once.contains(&server) {
                    once.push(server);
                }
            }
            sandbox::Network::Allow(once)
        }
    }
}

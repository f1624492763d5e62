//! The online service: frames come in over a socket, images go out to whoever watches, while the scan runs.
//!
//! The system matrix is read once and stays in memory. A source connects and sends frames ([`hatchway_wire::frames`]); what the solver
//! cannot keep up with is handled by a [`Policy`], and nothing is left out without being counted. Subscribers get images in the same
//! format, viewers as OpenIGTLink. A slow one misses images, which is counted, and holds nobody up.
//!
//! Threads: one reads the source whose turn it is, one those that come, one solves, one accepts at each door, two serve each subscriber. Between the first two is a
//! [`mailbox`](Mailbox), between the solver and a subscriber a place for one image.

mod background;
mod door;
mod frame;
mod hub;
mod igtl;
mod mailbox;
mod metrics;
mod pages;
mod plan;
mod play;
mod service;
mod solve;
mod source;
mod stop;
mod watch;
mod words;

pub use background::Running;
pub use door::{Door, Listener, Stream};
pub use frame::{Frame, decode, describe};
pub use hub::Hub;
pub use igtl::{crc64, image_message};
pub use mailbox::{Mailbox, Policy};
pub use metrics::{Counts, Metrics};
pub use plan::{Doors, ServePlan};
pub use play::{Pace, Played, play};
pub use service::{Served, serve, serve_on};
pub use stop::Stop;
pub use watch::{Seen, Watcher};

//! UDP through the relay, as a router that translates addresses does it: each client, which is an address the tool sends
//! from, has one socket on the host, and what comes back to that goes to this client, from the address it was sent to.
//!
//! Nobody says when a client has no more to say, so one that is silent for long is forgotten; of too many, the one that
//! was silent longest. A datagram that cannot be passed on at once is dropped, as on any way.
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Clients at a time, each with a socket.
const CLIENTS_MAX: usize = 128;
/// As long as routers wait that follow RFC 4787 (REQ-5: not less than two minutes).
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of a datagram: no longer one can be sent.
const DATAGRAM: usize = 65_535;
/// Datagrams of one socket before the next one has its turn.
const AT_ONCE: usize = 64;

/// More datagrams than fit into the queue of a socket: 208 KiB as the kernel counts, and the shortest counts 512 bytes
/// and more (`net.core.rmem_default`; socket(7)).
const QUEUED_MAX: usize = 1024;

/// An address that the tool sends to, and the socket that answers for it.
pub(super) type Door = (SocketAddr, UdpSocket);

/// All clients of all addresses.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    doors: &'a [Door],
    open: Vec<Client>,
    buffer: Vec<u8>,
    idle: Duration,
}

#[derive(Debug)]
struct Client {
    /// Which of the doors it knocked at.
    door: usize,
    from: SocketAddr,
    other: UdpSocket,
    last: Instant,
}

impl<'a> Clients<'a> {
    pub(super) fn new(doors: &'a [Door]) -> io::Result<Self> {
        doors.iter().try_for_each(|(_, socket)| socket.set_nonblocking(true))?;
        Ok(Self { doors, open: Vec::new(), buffer: vec![0; DATAGRAM], idle: IDLE })
    }

    /// What is waited for, in the order in which [`Self::turn`] wants the answers.
    pub(super) fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let doors = self.doors.iter().map(|(_, socket)| socket);
        let all = doors.chain(self.open.iter().map(|client| &client.other));
        all.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
    }

    /// Until the next client is to be forgotten.
    pub(super) fn timeout(&self) -> PollTimeout {
        let Some(oldest) = self.open.iter().map(|client| client.last).min() else { return PollTimeout::NONE };
        let left = self.idle.saturating_sub(oldest.elapsed()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    pub(super) fn turn(&mut self, ready: &[PollFlags]) {
        let (heads, others) = ready.split_at(self.doors.len());
        for (client, _) in self.open.iter_mut().zip(others).filter(|(_, ready)| !ready.is_empty()) {
            client.pass_back(&self.doors[client.door].1, &mut self.buffer);
        }
        for (door, _) in heads.iter().enumerate().filter(|(_, ready)| !ready.is_empty()) {
            self.pass_on(door);
        }
        let idle = self.idle;
        self.open.retain(|client| client.last.elapsed() < idle);
    }

    fn pass_on(&mut self, door: usize) {
        for _ in 0..AT_ONCE {
            // Nothing more, or word of an earlier answer that nobody took.
            let Ok((size, from)) = self.doors[door].1.recv_from(&mut self.buffer) else { return };
            // Without a descriptor or a way there the datagram is lost, as elsewhere.
            if let Ok(at) = self.client(door, from) {
                self.open[at].last = Instant::now();
                send(&self.open[at].other, &self.buffer[..size]);
            }
        }
    }

    /// The place of a client, which is made where it is new.
    fn client(&mut self, door: usize, from: SocketAddr) -> io::Result<usize> {
        let known = self.open.iter().position(|client| client.door == door && client.from == from);
        if let Some(at) = known {
            return Ok(at);
        }
        if self.open.len() >= CLIENTS_MAX
            && let Some((oldest, _)) = self.open.iter().enumerate().min_by_key(|(_, client)| client.last)
        {
            self.open.swap_remove(oldest);
        }
        let to = self.doors[door].0;
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let other = UdpSocket::bind(SocketAddr::new(any, 0))?;
        other.set_nonblocking(true)?;
        // From now on the kernel takes nothing from anybody else; what came before may be anybody's, and nobody was asked yet.
        other.connect(to)?;
        empty(&other, &mut self.buffer);
        self.open.push(Client { door, from, other, last: Instant::now() });
        Ok(self.open.len() - 1)
    }
}

impl Client {
    fn pass_back(&mut self, door: &UdpSocket, buffer: &mut [u8]) {
        for _ in 0..AT_ONCE {
            match self.other.recv(buffer) {
                Ok(size) => {
                    self.last = Instant::now();
                    // The client may be gone.
                    drop(door.send_to(&buffer[..size], self.from));
                }
                Err(_) => return,
            }
        }
    }
}

/// Takes out what a socket has received, as much as its queue can hold.
fn empty(socket: &UdpSocket, buffer: &mut [u8]) {
    // Only what the kernel could queue before the socket was connected: an asker that answers itself does not hold it up.
    for _ in 0..QUEUED_MAX {
        if socket.recv(buffer).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return;
        }
    }
}

/// Word that nobody took an earlier datagram is told at the next one, which is then not sent.
fn send(socket: &UdpSocket, bytes: &[u8]) {
    if socket.send(bytes).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        drop(socket.send(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::poll;

    fn socket() -> (SocketAddr, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (socket.local_addr().unwrap(), socket)
    }

    /// A server, its relay's door, and where that is.
    fn way() -> (UdpSocket, Vec<Door>, SocketAddr) {
        let ((to, server), (at, door)) = (socket(), socket());
        (server, vec![(to, door)], at)
    }

    fn step(clients: &mut Clients<'_>) {
        let mut fds: Vec<PollFd<'_>> = clients.interest().collect();
        poll(&mut fds, clients.timeout()).unwrap();
        let ready: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap()).collect();
        drop(fds);
        clients.turn(&ready);
    }

    fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 64];
        let (size, from) = socket.recv_from(&mut bytes).unwrap();
        (bytes[..size].to_vec(), from)
    }

    #[test]
    fn what_came_before_is_nobodys_answer() {
        let (at, asker) = socket();
        asker.set_nonblocking(true).unwrap();
        let stranger = socket().1;
        for word in ["one", "", "three"] {
            stranger.send_to(word.as_bytes(), at).unwrap();
        }
        let mut buffer = vec![0; DATAGRAM];
        empty(&asker, &mut buffer);
        assert_eq!(asker.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn each_client_gets_its_own_answers_from_where_it_sent_to() {
        let (server, doors, at) = way();
        let mut clients = Clients::new(&doors).unwrap();
        let (one, two) = (socket().1, socket().1);
        let mut seen = Vec::new();
        for (client, word) in [(&one, "one"), (&two, "two"), (&one, "")] {
            client.send_to(word.as_bytes(), at).unwrap();
            step(&mut clients);
            let (bytes, from) = received(&server);
            assert_eq!(bytes, word.as_bytes());
            seen.push(from);
        }
        assert!(seen[0] == seen[2] && seen[0] != seen[1], "{seen:?}");
        // In the other order: who is meant says the socket alone.
        for (from, word) in [(seen[1], "for two"), (seen[0], "for one")] {
            server.send_to(word.as_bytes(), from).unwrap();
            step(&mut clients);
        }
        assert_eq!(received(&one), (b"for one".to_vec(), at));
        assert_eq!(received(&two), (b"for two".to_vec(), at));
        // Somebody else's word is not taken for the server's.
        socket().1.send_to(b"forged", seen[0]).unwrap();
        server.send_to(b"real", seen[0]).unwrap();
        step(&mut clients);
        assert_eq!(received(&one).0, b"real");
    }

    #[test]
    fn silent_clients_are_forgotten_and_many_are_no_more_than_the_bound() {
        let (_server, doors, at) = way();
        let mut clients = Clients::new(&doors).unwrap();
        let many: Vec<UdpSocket> = (0..=CLIENTS_MAX).map(|_| socket().1).collect();
        for client in &many {
            client.send_to(b"x", at).unwrap();
            step(&mut clients);
        }
        assert_eq!(clients.open.len(), CLIENTS_MAX);
        let first = many[0].local_addr().unwrap();
        assert!(clients.open.iter().all(|client| client.from != first), "the oldest went");
        clients.idle = Duration::from_millis(20);
        let begin = Instant::now();
        while !clients.open.is_empty() {
            assert!(begin.elapsed().as_secs() < 20, "{} are left", clients.open.len());
            step(&mut clients);
        }
        assert!(clients.timeout().is_none(), "nothing to wait for");
    }

    #[test]
    fn a_server_that_comes_later_gets_the_next_datagram() {
        let (server, doors, at) = way();
        let to = server.local_addr().unwrap();
        drop(server);
        let mut clients = Clients::new(&doors).unwrap();
        let client = socket().1;
        client.send_to(b"lost", at).unwrap();
        step(&mut clients);
        let server = UdpSocket::bind(to).unwrap();
        server.set_nonblocking(true).unwrap();
        client.send_to(b"there", at).unwrap();
        while server.peek(&mut [0; 8]).is_err() {
            step(&mut clients);
        }
        assert_eq!(received(&server).0, b"there");
    }
}

use super::frame::{Broken, Decoder, Frame};
use super::*;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

#[derive(Debug)]
struct Socket(UnixStream);

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Local for Socket {
    fn end(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn reset(&mut self) {}
}

fn pair() -> (Box<dyn Local>, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (Box::new(Socket(one)), other)
}

/// Carries everything between two sides, `step` bytes at a time.
fn carry(one: &mut Mux, other: &mut Mux, step: usize) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.extend(one.turn());
        events.extend(other.turn());
        if one.out().is_empty() && other.out().is_empty() {
            return events;
        }
        let bytes: Vec<u8> = one.out().iter().take(step).copied().collect();
        one.written(bytes.len());
        events.extend(other.take(&bytes).unwrap());
        let bytes: Vec<u8> = other.out().iter().take(step).copied().collect();
        other.written(bytes.len());
        events.extend(one.take(&bytes).unwrap());
    }
}

fn read(mut from: &UnixStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return (all, true),
            Ok(count) => all.extend(&buffer[..count]),
            Err(_) => return (all, false),
        }
    }
}

/// Two sides with a stream between them: the far ends of it.
fn connected(step: usize) -> (Mux, Mux, UnixStream, UnixStream) {
    let (mut inner, mut outer) = (Mux::new(Side::Inner), Mux::new(Side::Outer));
    let (local, tool) = pair();
    inner.open("tcp:10.0.0.5:1", local).unwrap();
    let events = carry(&mut inner, &mut outer, step);
    assert_eq!(events, [Event::Wanted { id: 1, target: "tcp:10.0.0.5:1".into() }]);
    let (local, other) = pair();
    outer.accept(1, local);
    (inner, outer, tool, other)
}

#[test]
fn bytes_arrive_and_each_direction_ends_for_itself() {
    for step in [1, 7, 9, 1000, 1 << 20] {
        let (mut inner, mut outer, tool, other) = connected(step);
        (&tool).write_all(b"question").unwrap();
        tool.shutdown(Shutdown::Write).unwrap();
        carry(&mut inner, &mut outer, step);
        assert_eq!(read(&other), (b"question".to_vec(), true), "{step}");
        (&other).write_all(b"answer").unwrap();
        carry(&mut inner, &mut outer, step);
        assert_eq!(read(&tool), (b"answer".to_vec(), false), "{step}");
        drop(other);
        assert_eq!(carry(&mut inner, &mut outer, step), [Event::Over { id: 1 }], "{step}");
        assert_eq!(read(&tool), (Vec::new(), true));
        assert_eq!((inner.count(), outer.count()), (0, 0));
    }
}

#[test]
fn what_nobody_reads_is_bounded_and_holds_up_no_other() {
    let (mut inner, mut outer, tool, other) = connected(1 << 20);
    let (local, second) = pair();
    inner.open("second", local).unwrap();
    carry(&mut inner, &mut outer, 1 << 20);
    let (local, second_other) = pair();
    outer.accept(3, local);
    let mut sent = 0;
    loop {
        match (&tool).write(&[7; 8192]) {
            Ok(count) => sent += count,
            Err(_) => {
                let before = outer.streams[&1].waiting.len();
                carry(&mut inner, &mut outer, 1 << 20);
                if outer.streams[&1].waiting.len() == before && (&tool).write(&[7]).is_err() {
                    break;
                }
            }
        }
    }
    assert!(outer.streams[&1].waiting.len() <= WINDOW as usize);
    (&second).write_all(b"through").unwrap();
    carry(&mut inner, &mut outer, 1 << 20);
    assert_eq!(read(&second_other).0, b"through");
    let mut got = 0;
    while got < sent {
        let (bytes, _) = read(&other);
        assert!(bytes.iter().all(|byte| *byte == 7));
        got += bytes.len();
        carry(&mut inner, &mut outer, 1 << 20);
    }
}

#[test]
fn a_refusal_ends_it() {
    let (mut inner, mut outer) = (Mux::new(Side::Inner), Mux::new(Side::Outer));
    let (local, tool) = pair();
    inner.open("nowhere", local).unwrap();
    carry(&mut inner, &mut outer, 100);
    outer.refuse(1);
    assert_eq!(carry(&mut inner, &mut outer, 100), [Event::Over { id: 1 }]);
    assert_eq!(read(&tool), (Vec::new(), true));
}

#[test]
fn what_breaks_the_rules_is_found() {
    let open = |id| Frame::Open { id, target: "x".into() }.encode();
    let data = |size: usize| Frame::Data { id: 1, bytes: vec![0; size] }.encode();
    let accepted = || {
        let mut outer = Mux::new(Side::Outer);
        outer.take(&open(1)).unwrap();
        outer
    };
    assert_eq!(Mux::new(Side::Outer).take(&open(2)), Err(Broken::Order), "a number of ours");
    assert_eq!(accepted().take(&open(1)), Err(Broken::Order), "twice");
    assert_eq!(accepted().take(&data(1)), Err(Broken::Order), "before it is taken");
    assert_eq!(
        accepted().take(&Frame::Credit { id: 1, count: 1 }.encode()),
        Err(Broken::Order),
        "too much credit"
    );
    assert_eq!(accepted().take(&[9; 9]), Err(Broken::Kind(9)));
    assert_eq!(accepted().take(&[3, 1, 0, 0, 0, 0, 0, 1, 0]), Err(Broken::Length(65536)));
    assert_eq!(accepted().take(&[1, 3, 0, 0, 0, 1, 0, 0, 0, 0xff]), Err(Broken::Target));
    let mut outer = accepted();
    outer.accept(1, pair().0);
    for _ in 0..WINDOW as usize / DATA_MAX {
        outer.take(&data(DATA_MAX)).unwrap();
    }
    assert_eq!(outer.take(&data(1)), Err(Broken::Order), "more than there is room for");
    let mut outer = Mux::new(Side::Outer);
    for id in (0..).take(STREAMS_MAX) {
        outer.take(&open(2 * id + 1)).unwrap();
    }
    let said = outer.out().len();
    assert_eq!(outer.take(&open(9999)), Ok(Vec::new()), "one too many is refused");
    assert_eq!(outer.out()[said..], Frame::Reset { id: 9999 }.encode());
    assert_eq!(outer.take(&open(2)), Err(Broken::Order), "a number of ours");
    assert_eq!(outer.take(&Frame::Reset { id: 1 }.encode()), Err(Broken::Order), "for good");
    assert!(outer.has(1), "nothing is taken any more");
    // Late words about a stream that is gone are no offence.
    let mut outer = accepted();
    outer.refuse(1);
    for frame in [data(1), Frame::End { id: 1 }.encode(), Frame::Reset { id: 1 }.encode()] {
        assert_eq!(outer.take(&frame), Ok(Vec::new()));
    }
}

#[test]
fn frames_come_whole_however_they_are_cut() {
    let all = [
        Frame::Open { id: 1, target: "tcp:x".into() },
        Frame::Opened { id: 2 },
        Frame::Data { id: 3, bytes: b"bytes".to_vec() },
        Frame::Credit { id: 4, count: 5 },
        Frame::End { id: 6 },
        Frame::Reset { id: u32::MAX },
    ];
    let bytes: Vec<u8> = all.iter().flat_map(Frame::encode).collect();
    for size in 1..=bytes.len() {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for part in bytes.chunks(size) {
            decoder.push(part);
            while let Some(frame) = decoder.next().unwrap() {
                found.push(frame);
            }
        }
        assert_eq!(found, all, "{size}");
    }
}

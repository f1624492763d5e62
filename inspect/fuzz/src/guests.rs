//! What comes out of guests and containers, and out of the programs that run them.

mod way;

use std::fmt::Debug;

use hatchway_wire::attend::LeaseReport;
use hatchway_wire::control::{ControlOrder, ControlReport};
use hatchway_wire::guest::{self, GuestReport};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::machinereadable::{Properties, machines, snapshots};
use crate::qmp::{LINE_MAX, Lines, Message};

pub use way::mux;

/// Characters of what is quoted in a message.
const QUOTED_MAX: usize = 500;

/// Takes off how many bytes come at a time. That lines have a bound is seen by tests beside them: an input of its length would cost
/// most of the executions.
fn cut(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first()?;
    Some((if *head == 0 { usize::MAX } else { usize::from(*head) }, rest))
}

/// The lines of a guest and of a container: each is a message that survives being written and read, or none.
pub fn guest(bytes: &[u8]) {
    let Some((step, rest)) = cut(bytes) else { return };
    let mut lines = guest::Lines::default();
    for chunk in rest.chunks(step) {
        let Ok(whole) = lines.push(chunk) else { return };
        for line in whole {
            assert!(line.len() < guest::LINE_MAX && !line.contains(&b'\n'));
            message::<GuestReport>(&line);
            message::<LeaseReport>(&line);
            message::<ControlReport>(&line);
            message::<ControlOrder>(&line);
            stream(&line);
        }
    }
}

pub(crate) fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(line: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(line) else { return };
    let text = serde_json::to_vec(&read).expect("a message can be written");
    assert!(!text.contains(&b'\n'), "a message is a line");
    assert_eq!(serde_json::from_slice::<T>(&text).expect("a message can be read"), read);
}

/// The name of a stream of a program.
fn stream(name: &[u8]) {
    let Some((id, number)) = std::str::from_utf8(name).ok().and_then(guest::read_stream) else { return };
    assert_eq!(guest::read_stream(&guest::stream_of(id, number)), Some((id, number)));
}

/// What QEMU says: lines come out however they are cut, and what is quoted of one is harmless.
pub fn qmp(bytes: &[u8]) {
    let Some((step, rest)) = cut(bytes) else { return };
    let mut lines = Lines::default();
    for chunk in rest.chunks(step) {
        lines.push(chunk);
        loop {
            let may = lines.has_line();
            match lines.next_line() {
                Ok(Some(line)) => {
                    assert!(may && line.len() <= LINE_MAX && !line.contains(&b'\n'));
                    line_of_qemu(&line);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn line_of_qemu(line: &[u8]) {
    match Message::parse(line) {
        Ok(Message::Answer(_, Err(said))) | Err(said) => {
            assert!(!said.contains(char::is_control) && said.chars().count() <= QUOTED_MAX);
        }
        Ok(Message::Answer(_, Ok(_)) | Message::Event(_) | Message::Greeting) => {}
    }
}

/// What `VBoxManage` prints: nothing comes out that was not in it.
pub fn machinereadable(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = Properties::parse(&text);
    let mut total = 0;
    for (key, value) in read.iter() {
        assert!(!key.is_empty() && !key.contains(char::is_control) && read.get(key) == Some(value));
        total += key.len() + value.len();
    }
    assert!(total <= text.len());
    let found = snapshots(&read);
    assert!(found.iter().all(|snapshot| read.iter().any(|(_, value)| value == snapshot.name)));
    assert!(machines(&text).len() <= text.lines().count());
}

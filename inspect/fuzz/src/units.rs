//! What the parts of Hatchway tell each other about a unit: files in its folder and messages over its sockets. Whoever may write
//! there is trusted; what an older or newer version, half a disk or a guest has left there is not.

use hatchway_wire::attend::LeaseOrder;
use hatchway_wire::log::{DATA_MAX, HEAD, Head, RECORD, Record};
use hatchway_wire::ready::{ReadyRecord, Standing, line_of};
use hatchway_wire::unit::{Unit, UnitOrder, UnitReport};
use hatchway_wire::{Bootstrap, ExitRecord};

use crate::guests::message;

/// Lines: each is a message that survives being written and read, or none. What begins like a segment of a log is one.
pub fn unit(bytes: &[u8]) {
    if Head::read(bytes).is_some() {
        return segment(bytes);
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        message::<Unit>(line);
        message::<UnitOrder>(line);
        message::<UnitReport>(line);
        message::<ReadyRecord>(line);
        message::<Standing>(line);
        message::<ExitRecord>(line);
        message::<Bootstrap>(line);
        message::<LeaseOrder>(line);
        let shown = line_of(&String::from_utf8_lossy(line));
        assert!(!shown.chars().any(char::is_control), "nothing steers a terminal");
    }
}

/// Records of a log, one after the other until one is cut off: each has a length that a reader may allocate.
fn segment(bytes: &[u8]) {
    let head = Head::read(bytes).expect("it was read before");
    assert_eq!(head.bytes(), bytes[..HEAD]);
    let mut rest = &bytes[HEAD..];
    while let Some(front) = rest.get(..RECORD) {
        let Some(record) = Record::read(front) else { return };
        assert!((1..=DATA_MAX).contains(&record.length));
        assert_eq!(Record::read(&record.bytes()), Some(record));
        let Some(next) = rest.get(RECORD + record.length..) else { return };
        rest = next;
    }
}

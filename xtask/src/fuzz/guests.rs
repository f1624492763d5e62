//! Seeds of what guests and the programs that run them say: each message there is, once.

/// Lines of a guest, a container, and of who comes to a unit (`hatchway-wire`).
const GUEST: &str = r#"{"ready":{"kernel":"6.1.0-57-cloud-amd64","uptime_ms":1234}}
"keys"
{"stopped":{"signal":20}}
{"end":{"stream":"output","bytes":7}}
{"failed":{"message":"no disk"}}
{"control":{"id":1,"report":{"started":{"pid":7}}}}
{"control":{"id":1,"report":{"stats":{"processes":1,"threads":2,"cpu_us":3,"resident_bytes":4,"uptime_ms":5}}}}
{"ended":{"code":0,"record":null}}
{"ended":{"code":7,"record":{"version":1,"unit":"acme","incarnation":"1","program":"/usr/bin/acme","started":{"realtime_ns":1,"tai_ns":2,"monotonic_ns":3},"ended":{"realtime_ns":4,"tai_ns":5,"monotonic_ns":6},"reason":{"requested":{"signal":15,"forced":true,"outcome":{"exit":{"code":7}}}},"code":7,"shim_pid":2,"tool_pid":3,"usage":{"user_us":1,"system_us":2,"max_rss_kib":3,"major_faults":4},"notes":["a note"],"exit_file":"/hatchway/run/exit.json"}}}
{"ended":{"record":{"version":1,"unit":"acme","incarnation":"1","program":"/usr/bin/acme","started":{"realtime_ns":1,"tai_ns":2,"monotonic_ns":3},"ended":{"realtime_ns":4,"tai_ns":5,"monotonic_ns":6},"reason":{"exec-failed":{"program":"acme","errno":2,"found":false,"message":"none"}},"code":127,"shim_pid":2,"tool_pid":null,"usage":{"user_us":1,"system_us":2,"max_rss_kib":3,"major_faults":4},"notes":[],"exit_file":null}}}
"terminal"
{"ended":{"outcome":{"signal":{"signal":9,"core":false}}}}
{"failed":{"found":true,"message":"it is not there","hint":null}}
{"exec":{"program":"ls","args":["-l"],"env":[["A","b"]],"terminal":{"rows":24,"columns":80}}}
{"signal":{"signal":15}}
{"resize":{"rows":24,"columns":80}}
"stats"
1/3
"#;

/// Files of a unit's folder and messages over its sockets (`hatchway-wire`).
const UNIT: &str = r#"{"version":1,"unit":"acme","incarnation":"1-2","command":["hatchway","run","acme"],"logs":{"size":67108864,"full":"drop-oldest"},"begun":{"boot":"b","monotonic_ms":7},"config":"c","linger_ms":30000,"ready":{"what":{"tcp":{"port":5025}},"within_ms":60000}}
{"signal":{"signal":15}}
"kill"
"clear-log"
"watch"
"done"
{"failed":{"message":"it has ended"}}
{"state":{"ready":"late","how":"looked for `up` in what it says","after_ms":3000,"health":"unhealthy","status":"no answer"}}
{"version":1,"stamp":{"realtime_ns":1,"tai_ns":2,"monotonic_ns":3},"after_ms":7,"how":"a line","late":false}
{"version":1,"unit":"acme","incarnation":"1","program":"/usr/bin/acme","started":{"realtime_ns":1,"tai_ns":2,"monotonic_ns":3},"ended":{"realtime_ns":4,"tai_ns":5,"monotonic_ns":6},"reason":{"missing-library":{"library":"liba.so.1"}},"code":127,"shim_pid":2,"tool_pid":3,"usage":{"user_us":1,"system_us":2,"max_rss_kib":3,"major_faults":4},"notes":[],"evidence":["a line"],"logged":{"out":1,"err":2,"dropped":3},"exit_file":null}
"#;

/// What QEMU says (its "QEMU Machine Protocol Specification").
const QMP: &str = r#"{"QMP": {"version": {"qemu": {"micro": 19, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}
{"return": {}, "id": 1}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}
{"id": 2, "error": {"class": "GenericError", "desc": "no such device"}}
"#;

/// What `VBoxManage` prints, shortened.
const VIRTUALBOX: &str = r#"WARNING: The character device /dev/vboxdrv does not exist.
name="gue\"st \\ one"
memory=512
VMState="poweroff"
"SATA-0-0"="/vm/one.vdi"
Forwarding(0)="web,tcp,127.0.0.1,8080,,80"
SnapshotName="before "update""
SnapshotUUID="a726c681-821b-4ce6-903b-28df9ba828b3"
SnapshotDescription="two
lines"
SnapshotName-1="second"
SnapshotUUID-1="e22b3b30-a70a-4ed5-bd37-d09fe9e65b31"
CurrentSnapshotUUID="e22b3b30-a70a-4ed5-bd37-d09fe9e65b31"
"guest one" {11111111-2222-3333-4444-555555555555}
"#;

/// Target, file name, content.
pub(super) fn files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let with = |head: &[u8], text: &str| [head, text.as_bytes()].concat();
    vec![
        ("guest", "all", with(&[0], GUEST)),
        ("guest", "in-pieces", with(&[7], GUEST)),
        ("machinereadable", "all", VIRTUALBOX.into()),
        ("mux", "raw", raw()),
        ("mux", "steps", steps()),
        ("qmp", "all", with(&[0], QMP)),
        ("qmp", "in-pieces", with(&[7], QMP)),
        ("unit", "messages", UNIT.into()),
        ("unit", "segment", segment()),
    ]
}

/// A segment of a log with a record of each stream, and one that is cut off.
fn segment() -> Vec<u8> {
    let mut bytes = b"HWLOG\0\0\x01".to_vec();
    bytes.extend([1_u64, 0, 0, 0].iter().flat_map(|number| number.to_le_bytes()));
    for (stream, text) in [(0_u8, "hello\n"), (1, "oops\n"), (2, "note\n"), (0, "cut")] {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_le_bytes());
        bytes.extend([stream, 0, 0, 0]);
        bytes.extend(5_i64.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.truncate(bytes.len() - 1);
    bytes
}

/// One stream from its beginning to its end, as bytes; read in pieces of 64, and what is to be sent is sent.
fn raw() -> Vec<u8> {
    let frame = |kind: u8, id: u32, rest: &[u8]| {
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        [&[kind][..], &id.to_le_bytes(), &length.to_le_bytes(), rest].concat()
    };
    let frames = [
        frame(1, 1, b"echo"),
        frame(3, 1, b"question"),
        frame(4, 1, &8_u32.to_le_bytes()),
        frame(2, 2, b""),
        frame(5, 1, b""),
        frame(6, 2, b""),
    ];
    [vec![63 << 2], frames.concat()].concat()
}

/// More than the window on a stream that reads and on one that does not, with turns and looks at what is sent in between.
fn steps() -> Vec<u8> {
    let step = |kind: u8, id: u8, size: u16| [&[kind, id][..], &size.to_le_bytes()].concat();
    let (open, opened, data, credit, end, reset, turn, drain) = (0, 1, 2, 4, 5, 6, 7, 8);
    // Sizes are counted in two bytes; the remainder by six of an open says how the other end behaves.
    let mut all = vec![step(open, 1, 0), step(open, 3, 2), step(opened, 2, 0), step(opened, 4, 0)];
    for _ in 0..10 {
        all.extend([step(data, 1, 16_000), step(turn, 0, 0), step(drain, 0, 16_000)]);
    }
    all.extend([step(credit, 1, 500), step(data, 3, 16_000), step(end, 3, 0), step(turn, 0, 0)]);
    all.extend([
        step(end, 1, 0),
        step(turn, 0, 0),
        step(reset, 3, 0),
        step(reset, 2, 0),
        step(drain, 0, 16_000),
    ]);
    [vec![1], all.concat()].concat()
}

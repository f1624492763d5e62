//! QEMU's machine protocol over a unix socket: JSON, a line a message.
//!
//! As QEMU's "QEMU Machine Protocol Specification" has it: a greeting, `qmp_capabilities`, then commands with an `id` that
//! their answers repeat, and events in between. QEMU works on what a guest hands it, so its words are bounded and checked like
//! any stranger's: a line that is too long or no message ends the conversation.
//!
//! Own, since what is needed are a dozen commands: `qapi` 0.15 makes some thousand types of QEMU's schema at each build, and
//! reads lines without a bound.

mod message;
pub use message::{Event, LINE_MAX, Lines, Message};

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Fault;

/// Events that wait to be asked for. Only those of [`KNOWN`] are kept, and a machine sends few.
const EVENTS_MAX: usize = 1024;
/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// What is looked for among events; others are passed over.
const KNOWN: &[&str] =
    &["SHUTDOWN", "POWERDOWN", "RESET", "STOP", "RESUME", "GUEST_PANICKED", "DEVICE_DELETED"];

/// A conversation.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: Lines,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Client {
    /// Begins it: waits for the greeting, and leaves the negotiation.
    ///
    /// # Errors
    /// When QEMU does not greet in time, or says something else.
    pub fn new(stream: UnixStream, time: Duration) -> Result<Self, Fault> {
        let mut client = Self { stream, lines: Lines::default(), events: VecDeque::new(), last_id: 0 };
        let until = Instant::now() + time;
        match client.receive(until)? {
            Some(Message::Greeting) => {}
            Some(_) => return Err(Fault::Protocol("it does not greet".into())),
            None => return Err(Fault::Silent("its greeting")),
        }
        client.execute("qmp_capabilities", &json!({}), time)?;
        Ok(client)
    }

    /// Has a command carried out.
    ///
    /// # Errors
    /// When QEMU refuses, does not answer in time, or is gone.
    pub fn execute(
        &mut self,
        command: &'static str,
        arguments: &Value,
        time: Duration,
    ) -> Result<Value, Fault> {
        self.last_id += 1;
        let id = self.last_id;
        let text = json!({ "execute": command, "arguments": arguments, "id": id }).to_string() + "\n";
        let until = Instant::now() + time;
        self.stream
            .set_write_timeout(Some(time))
            .and_then(|()| self.stream.write_all(text.as_bytes()))
            .map_err(gone)?;
        loop {
            let message = self.receive(until)?;
            // One that talks without end does not answer.
            let message = message.filter(|message| is_answer(message, id) || Instant::now() < until);
            match message {
                Some(Message::Answer(number, answer)) if number == id => {
                    return answer.map_err(|said| Fault::Refused { command, said });
                }
                // To a command that was not waited for to its end.
                Some(Message::Answer(number, _)) if number < id => {}
                Some(Message::Answer(..)) => {
                    return Err(Fault::Protocol("it answers what was not asked".into()));
                }
                Some(Message::Greeting) => return Err(Fault::Protocol("it greets twice".into())),
                Some(Message::Event(event)) => self.keep(event),
                None => return Err(Fault::Silent(command)),
            }
        }
    }

    /// The next event that matters here, if one comes in time.
    ///
    /// # Errors
    /// When QEMU is gone or speaks nonsense.
    pub fn event(&mut self, time: Duration) -> Result<Option<Event>, Fault> {
        let until = Instant::now() + time;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.receive(until)? {
                Some(Message::Event(event)) => self.keep(event),
                Some(Message::Answer(number, _)) if number <= self.last_id => {}
                Some(_) => return Err(Fault::Protocol("it answers what was not asked".into())),
                None => return Ok(None),
            }
            // Whoever waits has other things to do than to hear one that talks without end.
            if !self.has_more() && Instant::now() >= until {
                return Ok(None);
            }
        }
    }

    /// Whether something came that nobody has looked at yet, so that its stream need not be readable.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.events.is_empty() || self.lines.has_line()
    }

    fn keep(&mut self, event: Event) {
        if KNOWN.contains(&event.name.as_str()) {
            self.events.push_back(event);
        }
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// The next message; none when the time is over.
    fn receive(&mut self, until: Instant) -> Result<Option<Message>, Fault> {
        let mut chunk = [0; CHUNK];
        loop {
            if let Some(line) = self.lines.next_line().map_err(Fault::Protocol)? {
                return Message::parse(&line).map(Some).map_err(Fault::Protocol);
            }
            let left = until.saturating_duration_since(Instant::now());
            // A timeout of zero means to wait for ever.
            let wait = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(wait)).map_err(gone)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Fault::Gone),
                Ok(read) => {
                    self.lines.push(&chunk[..read]);
                    // A line that comes byte by byte is for the next time.
                    if left.is_zero() && !self.lines.has_line() {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if left.is_zero() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

fn is_answer(message: &Message, id: u64) -> bool {
    matches!(message, Message::Answer(number, _) if *number == id)
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn gone(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fault::Silent("what it was told"),
        _ => Fault::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);
    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}}, \"capabilities\": [\"oob\"]}}\r\n";

    /// Talks to something that says this after it has heard as many lines; it keeps the socket open until it is let go.
    fn with(script: Vec<(usize, String)>) -> (Result<Client, Fault>, thread::JoinHandle<UnixStream>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            let mut byte = [0];
            for (lines, text) in script {
                let mut heard = 0;
                while heard < lines && theirs.read(&mut byte).unwrap() == 1 {
                    heard += usize::from(byte[0] == b'\n');
                }
                if theirs.write_all(text.as_bytes()).is_err() {
                    break;
                }
            }
            theirs
        });
        (Client::new(ours, LONG), peer)
    }

    fn greeted(rest: Vec<(usize, String)>) -> (Client, thread::JoinHandle<UnixStream>) {
        let begin = vec![(0, GREETING.to_owned()), (1, "{\"return\": {}, \"id\": 1}\r\n".to_owned())];
        let (client, peer) = with(begin.into_iter().chain(rest).collect());
        (client.unwrap(), peer)
    }

    #[test]
    fn answers_are_told_from_events() {
        let event = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n";
        let unknown = "{\"event\": \"RTC_CHANGE\", \"data\": {}}\r\n";
        let answer = "{\"return\": {\"running\": true}, \"id\": 2}\r\n";
        let (mut client, peer) = greeted(vec![(1, format!("{unknown}{event}{answer}"))]);
        let status = client.execute("query-status", &json!({}), LONG).unwrap();
        assert_eq!(status["running"], true);
        let event = client.event(LONG).unwrap().unwrap();
        assert_eq!((event.name.as_str(), event.data["guest"].as_bool()), ("SHUTDOWN", Some(true)));
        assert_eq!(client.event(SHORT).unwrap(), None);
        drop(peer.join().unwrap());
        assert!(matches!(client.event(LONG), Err(Fault::Gone)));
    }

    #[test]
    fn a_refusal_is_quoted_without_control_characters() {
        let (mut client, _peer) = greeted(vec![(
            1,
            "{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J\"}}\n".into(),
        )]);
        let error = client.execute("device_add", &json!({}), LONG).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refuses `device_add`: no [2J");
    }

    #[test]
    fn silence_nonsense_and_endless_lines_end_the_conversation() {
        let (mut client, _peer) = greeted(vec![]);
        assert!(matches!(
            client.execute("query-status", &json!({}), SHORT),
            Err(Fault::Silent("query-status"))
        ));
        for nonsense in [
            "hello\n",
            "[]\n",
            "{\"return\": {}}\n",
            "{\"return\": 1, \"id\": 99}\n",
            "{\"QMP\": 1}\n",
            "{\"id\": 2}\n",
        ] {
            let (mut client, _peer) = greeted(vec![(1, nonsense.into())]);
            let error = client.execute("query-status", &json!({}), LONG).unwrap_err();
            assert!(matches!(error, Fault::Protocol(_)), "{nonsense} {error}");
        }
        let (mut client, peer) = greeted(vec![(1, "x".repeat(LINE_MAX + CHUNK))]);
        let error = client.execute("query-status", &json!({}), LONG).unwrap_err();
        assert_eq!(error.to_string(), "QEMU does not speak its protocol: a line has no end");
        drop(client);
        drop(peer.join());
        let (client, _peer) = with(vec![(0, "{\"event\": \"STOP\"}\n".into())]);
        assert!(matches!(client, Err(Fault::Protocol(_))));
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let flood = "{\"event\": \"RESET\"}\n".repeat(EVENTS_MAX * 2) + "{\"return\": {}, \"id\": 2}\n";
        let (mut client, _peer) = greeted(vec![(1, flood)]);
        client.execute("query-status", &json!({}), LONG).unwrap();
        assert_eq!(client.events.len(), EVENTS_MAX);
    }

    #[test]
    fn one_that_talks_without_end_keeps_nobody_from_other_work() {
        let (mut client, mut theirs) = {
            let (client, peer) = greeted(vec![]);
            (client, peer.join().unwrap())
        };
        let peer = thread::spawn(move || {
            while theirs.write_all(b"{\"event\": \"RTC_CHANGE\"}\n{\"event\": \"RESET\"}\n").is_ok() {}
        });
        let begun = Instant::now();
        for _ in 0..20 {
            while client.event(Duration::ZERO).unwrap().is_some() && client.has_more() {}
        }
        let silent = client.execute("system_powerdown", &json!({}), SHORT);
        assert_eq!(silent, Err(Fault::Silent("system_powerdown")));
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        drop(client);
        peer.join().unwrap();
    }

    proptest! {
        #[test]
        fn lines_come_out_however_they_were_cut(lines in prop::collection::vec("[^\n]{0,30}", 0..20), cuts in prop::collection::vec(1..20usize, 1..10)) {
            let bytes: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
            let mut reader = Lines::default();
            let (mut out, mut rest, mut cut) = (Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                reader.push(now);
                rest = later;
                while let Some(line) = reader.next_line().unwrap() {
                    out.push(String::from_utf8(line).unwrap());
                }
            }
            prop_assert_eq!(out, lines);
        }

        #[test]
        fn any_line_is_a_message_or_none(text in "\\{\"(event|return|id|error|QMP)\": (1|\"a\"|\\{\\}|null)(, \"(id|data|error)\": (1|\\{\"desc\": \"x\"\\}|\\[\\]))?\\}|\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(Message::parse(text.as_bytes()));
            drop(Message::parse(&bytes));
            let deep = "[".repeat(100_000);
            prop_assert!(Message::parse(deep.as_bytes()).is_err());
        }
    }
}

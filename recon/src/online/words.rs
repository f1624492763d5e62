//! What a source is told of its frames ([`Word`]).

use std::io::{Read, Write};
use std::time::Duration;

use hatchway_wire::frames::{Becomes, Head, Kind, Word};

use super::Stream;
use super::frame::head;
use crate::Error;

/// How long a word may wait for room. A few of them always have room where somebody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells it, if the source is still there.
pub(super) fn tell(stream: &Stream, becomes: Becomes, text: &str) {
    let word = Word { becomes, text: text.to_owned() };
    // Two strings are always JSON, and short.
    let text = serde_json::to_vec(&word).unwrap_or_default();
    let head = Head::description(Kind::Word, u32::try_from(text.len()).unwrap_or(0));
    let told = || {
        let mut stream = stream.try_clone()?;
        stream.set_patience(PATIENCE)?;
        stream.write_all(&[head.bytes().as_slice(), &text].concat())
    };
    // Who has gone needs no word.
    drop(told());
}

/// The next word; none at the end of the stream.
pub(super) fn hear(stream: &mut impl Read) -> Result<Option<Word>, Error> {
    let Some(head) = head(stream)? else { return Ok(None) };
    if head.kind != Kind::Word {
        return Err(Error::Stream(format!("{:?} came where a word is expected", head.kind)));
    }
    let mut text = vec![0; head.length as usize];
    stream.read_exact(&mut text).map_err(Error::StreamLost)?;
    let mut word: Word = serde_json::from_slice(&text)
        .map_err(|error| Error::Stream(format!("its word cannot be read: {error}")))?;
    word.text = one_line(&word.text);
    Ok(Some(word))
}

/// What a peer has sent makes no line of its own, and steers no terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn words_are_heard_as_they_were_told() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = Stream::Unix(near);
        tell(&near, Becomes::Waiting, "for another");
        tell(&near, Becomes::Refused, "a\nb");
        drop(near);
        let word = |becomes, text: &str| Some(Word { becomes, text: text.to_owned() });
        assert_eq!(hear(&mut far).unwrap(), word(Becomes::Waiting, "for another"));
        assert_eq!(hear(&mut far).unwrap(), word(Becomes::Refused, "a\u{fffd}b"));
        assert_eq!(hear(&mut far).unwrap(), None);
        let other = Head::description(Kind::Images, 0).bytes();
        assert!(matches!(hear(&mut other.as_slice()), Err(Error::Stream(_))));
        // Nobody is there any more.
        tell(&Stream::Unix(far), Becomes::Ended, "");
    }
}

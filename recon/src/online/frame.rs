//! Frames as they are sent, and as numbers.

use std::io::Read;
use std::time::Instant;

use hatchway_wire::frames::{Frames, HEAD, Head, Kind, Sample};

use crate::Error;

/// A frame whose samples are in volts.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was sent of it; the newest one's, if it is several.
    pub head: Head,
    /// J × C × V samples; the sum of the samples, if it is several.
    pub samples: Vec<f64>,
    /// How many frames are in it.
    pub count: u64,
    /// When the last byte was here.
    pub received: Instant,
}

/// A description without which a stream means nothing.
///
/// # Errors
/// The stream ends, is another one, or describes frames that cannot be.
pub fn describe(stream: &mut impl Read) -> Result<Frames, Error> {
    let head = head(stream)?.ok_or_else(|| Error::Stream("it ended before its description".to_owned()))?;
    if head.kind != Kind::Frames {
        return Err(Error::Stream(format!("it begins with {:?} and not with a description", head.kind)));
    }
    let mut text = vec![0; head.length as usize];
    stream.read_exact(&mut text).map_err(Error::StreamLost)?;
    let frames: Frames = serde_json::from_slice(&text)
        .map_err(|error| Error::Stream(format!("its description cannot be read: {error}")))?;
    check(&frames)?;
    Ok(frames)
}

fn check(frames: &Frames) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::Stream(text));
    let Frames { periods, channels, samples, .. } = frames;
    let Some(bytes) = size(frames).filter(|bytes| (1..=1 << 30).contains(bytes)) else {
        return wrong(format!("frames of {periods} x {channels} x {samples} samples cannot be"));
    };
    if !frames.conversion.is_empty() && frames.conversion.len() != *channels {
        return wrong(format!("{} conversions do not fit {channels} channels", frames.conversion.len()));
    }
    if frames.conversion.iter().flatten().any(|number| !number.is_finite()) {
        return wrong("a conversion is no number".to_owned());
    }
    debug_assert!(bytes > 0);
    Ok(())
}

/// Bytes of a frame.
pub(super) fn size(frames: &Frames) -> Option<usize> {
    [frames.channels, frames.samples, frames.sample.size()]
        .iter()
        .try_fold(frames.periods, |product, factor| product.checked_mul(*factor))
}

/// The front of the next message; none at the end of the stream.
pub(super) fn head(stream: &mut impl Read) -> Result<Option<Head>, Error> {
    let mut bytes = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Error::StreamLost(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::StreamLost(error)),
        }
    }
    match Head::parse(&bytes) {
        Some(head) => Ok(Some(head)),
        None => Err(Error::Stream("a message of another kind or version came".to_owned())),
    }
}

/// Samples in volts from the bytes of a frame.
///
/// # Errors
/// There are not as many as described, or one is no number.
pub fn decode(frames: &Frames, bytes: &[u8]) -> Result<Vec<f64>, Error> {
    if Some(bytes.len()) != size(frames) {
        let text = format!(
            "a frame of {} bytes came, where {:?} are described",
            bytes.len(),
            size(frames).unwrap_or(0)
        );
        return Err(Error::Stream(text));
    }
    let mut samples = numbers(frames.sample, bytes);
    for (row, samples) in samples.chunks_exact_mut(frames.samples).enumerate() {
        if let Some([factor, offset]) = frames.conversion.get(row % frames.channels) {
            samples.iter_mut().for_each(|sample| *sample = *sample * factor + offset);
        }
    }
    match samples.iter().position(|sample| !sample.is_finite()) {
        Some(index) => Err(Error::NotFinite { what: "sample of a frame", index }),
        None => Ok(samples),
    }
}

fn numbers(sample: Sample, bytes: &[u8]) -> Vec<f64> {
    match sample {
        Sample::Int16 => parts(bytes).map(|bytes| f64::from(i16::from_le_bytes(bytes))).collect(),
        Sample::Int32 => parts(bytes).map(|bytes| f64::from(i32::from_le_bytes(bytes))).collect(),
        Sample::Float32 => parts(bytes).map(|bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
        Sample::Float64 => parts(bytes).map(f64::from_le_bytes).collect(),
    }
}

fn parts<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn described(sample: Sample) -> Frames {
        Frames {
            periods: 1,
            channels: 2,
            samples: 2,
            sample,
            conversion: vec![[0.5, 1.0], [2.0, 0.0]],
            bandwidth: 1.25e6,
            base_frequency: 2.5e6,
            dividers: vec![102, 96],
            strengths: vec![0.012, 0.012],
            simulated: true,
            words: false,
        }
    }

    #[test]
    fn samples_become_volts() {
        let whole = [-2_i16, 3, 4, 5];
        let expected = [0.0, 2.5, 8.0, 10.0];
        let bytes: Vec<u8> = whole.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(decode(&described(Sample::Int16), &bytes).unwrap(), expected);
        let bytes: Vec<u8> = whole.iter().flat_map(|sample| f32::from(*sample).to_le_bytes()).collect();
        assert_eq!(decode(&described(Sample::Float32), &bytes).unwrap(), expected);
        let bytes: Vec<u8> = whole.iter().flat_map(|sample| f64::from(*sample).to_le_bytes()).collect();
        assert_eq!(decode(&described(Sample::Float64), &bytes).unwrap(), expected);
        let bytes: Vec<u8> = whole.iter().flat_map(|sample| i32::from(*sample).to_le_bytes()).collect();
        assert_eq!(decode(&described(Sample::Int32), &bytes).unwrap(), expected);
        assert!(decode(&described(Sample::Int16), &bytes).is_err());
        let nan: Vec<u8> = [f32::NAN; 4].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert!(matches!(decode(&described(Sample::Float32), &nan), Err(Error::NotFinite { index: 0, .. })));
    }

    #[test]
    fn descriptions_that_cannot_be_are_refused() {
        let say = |change: fn(&mut Frames)| {
            let mut frames = described(Sample::Int16);
            change(&mut frames);
            let text = serde_json::to_vec(&frames).unwrap();
            let head = Head::description(Kind::Frames, u32::try_from(text.len()).unwrap());
            describe(&mut [head.bytes().as_slice(), &text].concat().as_slice()).map(drop)
        };
        assert!(say(|_| ()).is_ok());
        assert!(say(|frames| frames.samples = usize::MAX).is_err());
        assert!(say(|frames| frames.periods = 0).is_err());
        assert!(say(|frames| frames.conversion.truncate(1)).is_err());
        assert!(describe(&mut [].as_slice()).is_err());
        assert!(describe(&mut [0; 100].as_slice()).is_err());
    }
}

//! The other end of the door of images.

use std::io::{BufReader, Read};

use hatchway_wire::frames::{Head, Images, Kind};

use super::frame::head;
use super::stop::Until;
use super::{Door, Stop, Stream};
use crate::Error;
use crate::image::Image;
use crate::physics::Grid;

/// A subscriber.
#[derive(Debug)]
pub struct Watcher<'s> {
    stream: BufReader<Until<'s, Stream>>,
    images: Images,
}

/// An image that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was sent of it.
    pub head: Head,
    /// The image.
    pub image: Image,
}

impl<'s> Watcher<'s> {
    /// Connects and hears what images are.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else does.
    pub fn connect(door: &Door, stop: &'s Stop) -> Result<Self, Error> {
        let mut stream = BufReader::new(Until { stream: door.connect()?, stop, patience: None });
        let wrong = |text: &str| Error::Stream(text.to_owned());
        let head = head(&mut stream)?.ok_or_else(|| wrong("it ended before its description"))?;
        if head.kind != Kind::Images {
            return Err(wrong("it does not begin with a description of images"));
        }
        let mut text = vec![0; head.length as usize];
        stream.read_exact(&mut text).map_err(Error::StreamLost)?;
        let images = serde_json::from_slice(&text)
            .map_err(|error| Error::Stream(format!("its description cannot be read: {error}")))?;
        Ok(Self { stream, images })
    }

    /// What images are.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The next image, waited for; none when the service has ended, or it is time to end.
    ///
    /// # Errors
    /// What comes is no image of the described form.
    pub fn image(&mut self) -> Result<Option<Seen>, Error> {
        let head = match head(&mut self.stream) {
            Err(Error::StreamLost(error)) if error.kind() == std::io::ErrorKind::ConnectionAborted => {
                return Ok(None);
            }
            other => other?,
        };
        let Some(head) = head else { return Ok(None) };
        let Images { size, field_of_view, center, .. } = &self.images;
        let grid = Grid { size: *size, field_of_view: *field_of_view, center: *center };
        let bytes = size.iter().try_fold(4_usize, |product, edge| product.checked_mul(*edge));
        if head.kind != Kind::Image || Some(head.length as usize) != bytes {
            return Err(Error::Stream(format!(
                "{:?} of {} bytes came, where images are described",
                head.kind, head.length
            )));
        }
        let mut bytes = vec![0; head.length as usize];
        // The service may end, or the watcher, while an image is under way.
        if self.stream.read_exact(&mut bytes).is_err() {
            return Ok(None);
        }
        let voxels = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Some(Seen { head, image: Image::new(grid, voxels)? }))
    }
}

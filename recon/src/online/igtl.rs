//! Images as OpenIGTLink sends them to 3D Slicer and others: an IMAGE message of version 1 of the protocol
//! (<https://openigtlink.org/developers/spec>). All numbers but the voxels are big-endian.

use crate::Error;
use crate::physics::Grid;

/// Polynomial of ECMA-182, which the protocol's checksum has, begun with 0 and without reflection.
const POLYNOMIAL: u64 = 0x42F0_E1EB_A9EA_3693;
/// 32-bit floating point (`TYPE_FLOAT32`).
const FLOAT32: u8 = 10;
/// Voxels are little-endian (`ENDIAN_LITTLE`).
const LITTLE: u8 = 2;
/// Right, anterior, superior (`COORDINATE_RAS`), which the scanner's axes are, as in [`crate::image::write_nrrd`].
const RAS: u8 = 1;

/// A message with a volume.
///
/// `device` has 20 bytes at most, what is more is cut off. `seconds` are those since 1970, `voxels` x fastest.
///
/// # Errors
/// An edge has more than 65535 voxels.
pub fn image_message(device: &str, seconds: f64, grid: &Grid, voxels: &[f32]) -> Result<Vec<u8>, Error> {
    let body = body(grid, voxels)?;
    let mut message = Vec::with_capacity(58 + body.len());
    message.extend(1_u16.to_be_bytes());
    message.extend(padded::<12>("IMAGE"));
    message.extend(padded::<20>(device));
    message.extend(time(seconds).to_be_bytes());
    message.extend((body.len() as u64).to_be_bytes());
    message.extend(crc64(&body).to_be_bytes());
    message.extend(body);
    Ok(message)
}

fn body(grid: &Grid, voxels: &[f32]) -> Result<Vec<u8>, Error> {
    let mut size = [0_u16; 3];
    for (size, edge) in size.iter_mut().zip(grid.size) {
        *size = u16::try_from(edge).map_err(|_| {
            Error::Image(format!("{edge} voxels along an edge are more than OpenIGTLink can have"))
        })?;
    }
    let mut body = Vec::with_capacity(72 + 4 * voxels.len());
    body.extend(1_u16.to_be_bytes());
    body.extend([1, FLOAT32, LITTLE, RAS]);
    size.iter().for_each(|edge| body.extend(edge.to_be_bytes()));
    place(grid).iter().for_each(|number| body.extend(number.to_be_bytes()));
    // The whole of it, not a part.
    [0; 3].iter().chain(&size).for_each(|edge| body.extend(edge.to_be_bytes()));
    voxels.iter().for_each(|voxel| body.extend(voxel.to_le_bytes()));
    Ok(body)
}

/// The steps along the three axes and the middle of the volume, in millimetres.
fn place(grid: &Grid) -> [f32; 12] {
    #[expect(clippy::cast_possible_truncation, reason = "the message has single precision")]
    let [x, y, z] = grid.spacing().map(|edge| (edge * 1e3) as f32);
    #[expect(clippy::cast_possible_truncation, reason = "the message has single precision")]
    let [cx, cy, cz] = grid.center.map(|at| (at * 1e3) as f32);
    [x, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, z, cx, cy, cz]
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// Whole seconds in the upper 32 bits, fractions in the lower.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating, and NaN is 0")]
fn time(seconds: f64) -> u64 {
    let whole = seconds.floor();
    let fraction = ((seconds - whole) * 4_294_967_296.0) as u64;
    ((whole as u64) << 32) | fraction.min(u64::from(u32::MAX))
}

/// The protocol's checksum.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 56) as u8 ^ byte)])
}

const TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u64) << 56;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 63 == 1 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        // CRC-64/ECMA-182 of "123456789", as catalogues of checksums have it.
        assert_eq!(crc64(b"123456789"), 0x6C40_DF5F_0B49_7347);
        assert_eq!(crc64(b""), 0);
    }

    #[test]
    fn a_message_has_its_parts_in_their_places() {
        let grid = Grid { size: [2, 3, 4], field_of_view: [0.002, 0.006, 0.012], center: [0.001, 0.0, -0.5] };
        let message = image_message("a device with a long name", 2.5, &grid, &[1.0; 24]).unwrap();
        assert_eq!(message.len(), 58 + 72 + 96);
        assert_eq!(&message[..14], b"\0\x01IMAGE\0\0\0\0\0\0\0");
        assert_eq!(&message[14..34], b"a device with a long");
        assert_eq!(&message[34..42], [0, 0, 0, 2, 0x80, 0, 0, 0]);
        assert_eq!(message[42..50], 168_u64.to_be_bytes());
        assert_eq!(message[50..58], crc64(&message[58..]).to_be_bytes());
        assert_eq!(&message[58..70], [0, 1, 1, 10, 2, 1, 0, 2, 0, 3, 0, 4]);
        // Steps along the axes, the middle, the whole of the volume, and the first voxel.
        let floats: Vec<f32> =
            message[70..118].as_chunks().0.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect();
        assert_eq!(floats, [1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, -500.0]);
        assert_eq!(message[118..130], [0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 4]);
        assert_eq!(message[130..134], 1.0_f32.to_le_bytes());
    }
}

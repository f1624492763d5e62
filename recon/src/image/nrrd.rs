//! NRRD, which 3D Slicer reads and writes itself (<https://teem.sourceforge.net/nrrd/format.html>).
//!
//! A scanner knows no patient: its x, y and z are written as right, anterior and superior, so that a viewer shows them along its own axes
//! without a flip. Lengths are in millimetres, as NRRD's viewers expect.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Image, millimetres};

/// How the voxels are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// Compressed.
    Gzip,
}

/// Writes an image with its header; several frames are a fourth axis.
///
/// # Errors
/// Writing fails.
pub fn write_nrrd(image: &Image, encoding: Encoding, out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(header(image, encoding).as_bytes())?;
    let bytes: Vec<u8> = image.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    match encoding {
        Encoding::Raw => out.write_all(&bytes),
        Encoding::Gzip => {
            let mut packed = GzEncoder::new(out, Compression::default());
            packed.write_all(&bytes)?;
            packed.finish().map(drop)
        }
    }
}

fn header(image: &Image, encoding: Encoding) -> String {
    let [nx, ny, nz] = image.grid.size;
    let spacing = image.grid.spacing().map(millimetres);
    let origin = image.grid.position(0).map(millimetres);
    let several = image.frames() > 1;
    let (dimension, sizes, kinds, directions) = if several {
        (4, format!("{nx} {ny} {nz} {}", image.frames()), "domain domain domain list", " none")
    } else {
        (3, format!("{nx} {ny} {nz}"), "domain domain domain", "")
    };
    let encoding = match encoding {
        Encoding::Raw => "raw",
        Encoding::Gzip => "gzip",
    };
    format!(
        "NRRD0005\n# written by hatchway-recon\ntype: float\ndimension: {dimension}\nspace: right-anterior-superior\nsizes: {sizes}\n\
         space directions: ({},0,0) (0,{},0) (0,0,{}){directions}\nkinds: {kinds}\nendian: little\n\
         encoding: {encoding}\nspace units: \"mm\" \"mm\" \"mm\"\nspace origin: ({},{},{})\n\n",
        spacing[0], spacing[1], spacing[2], origin[0], origin[1], origin[2]
    )
}

//! Closed surfaces of triangles, as CAD programs write them (STL, binary or text).
//!
//! A point is inside when a ray from it crosses the surface an odd number of times. The ray goes along x, so the question is which triangles
//! cover the point's place in the plane of y and z: those are looked up in square bins.

use std::collections::HashMap;
use std::path::Path;

use super::Vector;
use crate::Error;

/// The head of a binary file: 80 bytes of text and the number of triangles.
const HEAD: usize = 84;
/// A triangle of a binary file: normal and corners in f32, and two bytes of attributes.
const RECORD: usize = 50;
/// Files beyond are no phantoms; each triangle takes some 100 bytes here.
const MOST_TRIANGLES: usize = 20_000_000;
/// Bins along y and along z.
const BINS: usize = 128;

/// A closed surface.
#[derive(Clone, Debug)]
pub struct Mesh {
    triangles: Vec<[Vector; 3]>,
    /// The least and the greatest corner.
    bounds: [Vector; 2],
    /// BINS × BINS lists of triangles by where they are in y and z.
    bins: Vec<Vec<u32>>,
}

impl Mesh {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is no STL, or its surface is not closed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
        Self::read(&bytes).map_err(|problem| Error::Stl { path: path.into(), problem })
    }

    /// A surface from the contents of a file, in the file's own unit.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let triangles = if is_binary(bytes) { binary(bytes) } else { text(bytes)? };
        if triangles.is_empty() {
            return Err("it has no triangle".to_owned());
        }
        if triangles.len() > MOST_TRIANGLES {
            return Err(format!("it has {} triangles; at most {MOST_TRIANGLES} are read", triangles.len()));
        }
        if triangles.iter().flatten().flatten().any(|value| !value.is_finite()) {
            return Err("a corner is no number".to_owned());
        }
        let open = open_edges(&triangles);
        if open > 0 {
            return Err(format!(
                "its surface is not closed: {open} edges do not have a triangle on each side"
            ));
        }
        Ok(Self::binned(triangles))
    }

    /// The surface with another unit and origin.
    #[must_use]
    pub fn placed(&self, unit: f64, origin: &Vector) -> Self {
        let place = |corner: Vector| std::array::from_fn(|axis| corner[axis] * unit + origin[axis]);
        Self::binned(self.triangles.iter().map(|corners| corners.map(place)).collect())
    }

    fn binned(triangles: Vec<[Vector; 3]>) -> Self {
        let mut bounds = [[f64::INFINITY; 3], [f64::NEG_INFINITY; 3]];
        for corner in triangles.iter().flatten() {
            for axis in 0..3 {
                bounds[0][axis] = bounds[0][axis].min(corner[axis]);
                bounds[1][axis] = bounds[1][axis].max(corner[axis]);
            }
        }
        let mut mesh = Self { triangles, bounds, bins: vec![Vec::new(); BINS * BINS] };
        for (index, corners) in (0_u32..).zip(&mesh.triangles) {
            let of = |axis: usize| {
                let values = corners.map(|corner| corner[axis]);
                let (least, most) = values
                    .iter()
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &value| (a.min(value), b.max(value)));
                mesh.bin(axis, least)..=mesh.bin(axis, most)
            };
            let (rows, columns) = (of(1), of(2));
            for row in rows {
                for column in columns.clone() {
                    mesh.bins[row * BINS + column].push(index);
                }
            }
        }
        mesh
    }

    /// The bin of a coordinate along y or z.
    fn bin(&self, axis: usize, value: f64) -> usize {
        let extent = self.bounds[1][axis] - self.bounds[0][axis];
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let share = (value - self.bounds[0][axis]) / extent * BINS as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float ends at the bounds"
        )]
        let bin = share as usize;
        bin.min(BINS - 1)
    }

    /// Whether a point is inside.
    #[must_use]
    pub fn contains(&self, point: &Vector) -> bool {
        let outside = |axis: usize| !(self.bounds[0][axis]..=self.bounds[1][axis]).contains(&point[axis]);
        if (0..3).any(outside) {
            return false;
        }
        let bin = self.bin(1, point[1]) * BINS + self.bin(2, point[2]);
        let beyond = |index: &&u32| {
            crossing(&self.triangles[**index as usize], point[1], point[2]).is_some_and(|x| x > point[0])
        };
        self.bins[bin].iter().filter(beyond).count() % 2 == 1
    }
}

/// Where a line along x through (y, z) crosses a triangle.
///
/// Each edge counts from its lower end up to, and without, its upper one, and is always computed from the lower end: so a line through an edge
/// that two triangles share crosses exactly one of them.
fn crossing(corners: &[Vector; 3], y: f64, z: f64) -> Option<f64> {
    let mut inside = false;
    for index in 0..3 {
        let (a, b) = (&corners[index], &corners[(index + 1) % 3]);
        let (low, high) = if (a[1], a[2]) <= (b[1], b[2]) { (a, b) } else { (b, a) };
        let spans = low[1] <= y && y < high[1];
        if spans && z < low[2] + (y - low[1]) / (high[1] - low[1]) * (high[2] - low[2]) {
            inside = !inside;
        }
    }
    if !inside {
        return None;
    }
    // On the plane of the triangle: n · (r − a) = 0.
    let [a, b, c] = corners;
    let [u, v] = [b, c].map(|corner| [corner[0] - a[0], corner[1] - a[1], corner[2] - a[2]]);
    let n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    Some(a[0] - (n[1] * (y - a[1]) + n[2] * (z - a[2])) / n[0])
}

/// Edges that do not have one triangle in each direction. Corners are the same when their numbers are, as STL repeats them.
fn open_edges(triangles: &[[Vector; 3]]) -> usize {
    let key = |corner: &Vector| corner.map(|value| (value + 0.0).to_bits());
    let mut edges: HashMap<_, i64> = HashMap::new();
    for corners in triangles {
        for index in 0..3 {
            let (a, b) = (key(&corners[index]), key(&corners[(index + 1) % 3]));
            if a != b {
                let (edge, way) = if a < b { ((a, b), 1) } else { ((b, a), -1) };
                *edges.entry(edge).or_default() += way;
            }
        }
    }
    edges.values().filter(|balance| **balance != 0).count()
}

/// Whether the number of triangles in the head is what follows. Text files begin with `solid`, and so do many binary ones.
fn is_binary(bytes: &[u8]) -> bool {
    let count = bytes.get(80..HEAD).and_then(|count| count.try_into().ok()).map(u32::from_le_bytes);
    count.is_some_and(|count| (count as usize).checked_mul(RECORD) == Some(bytes.len() - HEAD))
}

fn binary(bytes: &[u8]) -> Vec<[Vector; 3]> {
    let number = |bytes: &[u8]| f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let corner = |bytes: &[u8]| [number(bytes), number(&bytes[4..]), number(&bytes[8..])];
    let triangle = |record: &[u8]| [corner(&record[12..]), corner(&record[24..]), corner(&record[36..])];
    bytes[HEAD..].chunks_exact(RECORD).map(triangle).collect()
}

/// `vertex X Y Z` in threes; the words around them say nothing more.
fn text(bytes: &[u8]) -> Result<Vec<[Vector; 3]>, String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.trim_start().starts_with("solid"));
    let text = text.ok_or(
        "it is neither a binary STL of the length that its head says, nor a text that begins with `solid`",
    )?;
    let mut corners = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        if words.next() == Some("vertex") {
            let values: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
            let corner: Vector =
                values.try_into().map_err(|_| format!("line {number} is no vertex: `{}`", line.trim()))?;
            corners.push(corner);
        }
    }
    let (triangles, rest) = corners.as_chunks::<3>();
    if !rest.is_empty() {
        return Err(format!("its last triangle has {} corners", rest.len()));
    }
    Ok(triangles.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An octahedron around the origin with corners at a distance of 1.
    fn octahedron() -> Vec<[Vector; 3]> {
        let mut triangles = Vec::new();
        for (x, y, z) in [
            (1, 1, 1),
            (-1, 1, 1),
            (1, -1, 1),
            (-1, -1, 1),
            (1, 1, -1),
            (-1, 1, -1),
            (1, -1, -1),
            (-1, -1, -1),
        ] {
            let [a, b, c] = [[f64::from(x), 0.0, 0.0], [0.0, f64::from(y), 0.0], [0.0, 0.0, f64::from(z)]];
            triangles.push(if x * y * z > 0 { [a, b, c] } else { [a, c, b] });
        }
        triangles
    }

    fn as_binary(triangles: &[[Vector; 3]]) -> Vec<u8> {
        let mut bytes = b"solid is how many binary files begin".to_vec();
        bytes.resize(80, b' ');
        bytes.extend(u32::try_from(triangles.len()).unwrap().to_le_bytes());
        for corners in triangles {
            bytes.extend([0; 12]);
            for value in corners.iter().flatten() {
                #[expect(clippy::cast_possible_truncation, reason = "exact for these numbers")]
                bytes.extend((*value as f32).to_le_bytes());
            }
            bytes.extend([0; 2]);
        }
        bytes
    }

    fn as_text(triangles: &[[Vector; 3]]) -> Vec<u8> {
        let mut text = "solid octahedron\n".to_owned();
        for corners in triangles {
            text += "facet normal 0 0 0\n outer loop\n";
            for [x, y, z] in corners {
                text += &format!("  vertex {x} {y:e} {z}\n");
            }
            text += " endloop\nendfacet\n";
        }
        (text + "endsolid octahedron\n").into_bytes()
    }

    #[test]
    fn inside_is_where_the_formula_says() {
        let shapes = [as_binary(&octahedron()), as_text(&octahedron())];
        for mesh in shapes.map(|bytes| Mesh::read(&bytes).unwrap().placed(0.5, &[0.1, 0.2, 0.3])) {
            // Coordinates on the edges' own values too: rays then go through edges and corners.
            for index in 0..17_usize.pow(3) {
                let [i, j, k] = [index % 17, index / 17 % 17, index / 289];
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let away = [i, j, k].map(|step| (step as f64 - 8.0) / 12.0);
                let size: f64 = away.iter().map(|value| value.abs()).sum();
                if (size - 0.5).abs() > 1e-9 {
                    let point = [0.1 + away[0], 0.2 + away[1], 0.3 + away[2]];
                    assert_eq!(mesh.contains(&point), size < 0.5, "{away:?}");
                }
            }
        }
    }

    #[test]
    fn a_hole_in_the_surface_is_told() {
        let problem = Mesh::read(&as_binary(&octahedron()[1..])).unwrap_err();
        assert!(problem.contains("3 edges"), "{problem}");
    }

    #[test]
    fn broken_files_are_told() {
        let whole = as_binary(&octahedron());
        let text = as_text(&octahedron());
        let cut = text.windows(6).rposition(|word| word == b"vertex").unwrap();
        for (bytes, words) in [
            (&whole[..whole.len() - 1], "neither"),
            (b"".as_slice(), "neither"),
            (b"solid nothing\nendsolid\n".as_slice(), "no triangle"),
            (&text[..cut], "corners"),
        ] {
            let problem = Mesh::read(bytes).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        let line = String::from_utf8(text).unwrap().replacen("vertex 1 ", "vertex one ", 1);
        assert!(Mesh::read(line.as_bytes()).unwrap_err().contains("line 4 is no vertex"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), fits: bool) {
            if fits && bytes.len() > HEAD {
                let count = u32::try_from((bytes.len() - HEAD) / RECORD).unwrap();
                bytes[80..HEAD].copy_from_slice(&count.to_le_bytes());
                bytes.truncate(HEAD + count as usize * RECORD);
            }
            drop(Mesh::read(&bytes));
        }
    }
}

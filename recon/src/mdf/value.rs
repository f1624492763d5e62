//! Elements of datasets: their types in the file, and decoding them.

use hdf5_pure::{Datatype, DatatypeByteOrder, FloatingPointLayout};
use num_complex::Complex;

/// A plain number type of HDF5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float.
    F64,
    /// Signed integer of 1, 2, 4 or 8 bytes.
    Int(u8),
    /// Unsigned integer of 1, 2, 4 or 8 bytes.
    Unsigned(u8),
}

impl Number {
    /// Size in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Int(size) | Self::Unsigned(size) => size.into(),
        }
    }

    /// Whether it is an integer.
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int(_) | Self::Unsigned(_))
    }
}

/// A real or complex number as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numeric {
    /// The type of the number, or of both parts.
    pub number: Number,
    /// Most significant byte first.
    pub big_endian: bool,
    /// Where the imaginary part begins, in bytes; `None` for a real number.
    pub imaginary: Option<usize>,
    /// Where the real part begins, in bytes.
    pub real: usize,
    /// Size of an element in bytes.
    pub size: usize,
    /// An enumeration over integers, as h5py stores truth values.
    pub enumeration: bool,
}

/// What the elements of a dataset are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Numeric(Numeric),
    /// Text; of variable length, or of a fixed one in bytes.
    Text {
        /// Bytes of an element, if they are fixed.
        fixed: Option<usize>,
    },
    /// Something that no field of MDF is.
    Other(String),
}

impl Kind {
    /// The kind of an HDF5 type.
    #[must_use]
    pub fn of(datatype: &Datatype) -> Self {
        match datatype {
            Datatype::String { size, .. } => {
                Self::Text { fixed: Some(usize::try_from(*size).unwrap_or(usize::MAX)) }
            }
            Datatype::VariableLength { is_string: true, .. } => Self::Text { fixed: None },
            Datatype::Compound { size, members } => compound(*size, members),
            Datatype::Enumeration { base_type, .. } => match number(base_type) {
                Some((number, big_endian)) => Self::Numeric(real(number, big_endian, true)),
                None => Self::Other("an enumeration".to_owned()),
            },
            other => match number(other) {
                Some((number, big_endian)) => Self::Numeric(real(number, big_endian, false)),
                None => Self::Other(name_of(other)),
            },
        }
    }

    /// The name that reports use.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Numeric(numeric) => numeric.name(),
            Self::Text { fixed: Some(size) } => format!("text of {size} bytes"),
            Self::Text { fixed: None } => "text".to_owned(),
            Self::Other(name) => name.clone(),
        }
    }

    /// Size of an element in the dataset's own storage, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Numeric(numeric) => numeric.size,
            Self::Text { fixed: Some(size) } => *size,
            // Length, address of a heap and index in it.
            Self::Text { fixed: None } | Self::Other(_) => 16,
        }
    }
}

fn real(number: Number, big_endian: bool, enumeration: bool) -> Numeric {
    Numeric { number, big_endian, imaginary: None, real: 0, size: number.size(), enumeration }
}

fn compound(size: u32, members: &[hdf5_pure::CompoundMember]) -> Kind {
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    let other = || Kind::Other(format!("a compound of {{{}}}", names.join(", ")));
    let [first, second] = members else { return other() };
    let (re, im) = match (first.name.as_str(), second.name.as_str()) {
        ("r", "i") => (first, second),
        ("i", "r") => (second, first),
        _ => return other(),
    };
    let Some((part, big_endian)) = number(&re.datatype) else { return other() };
    if number(&im.datatype) != Some((part, big_endian)) {
        return other();
    }
    let places = (usize::try_from(size), usize::try_from(re.byte_offset), usize::try_from(im.byte_offset));
    let (Ok(size), Ok(real), Ok(imaginary)) = places else { return other() };
    let fits = |at: usize| at.checked_add(part.size()).is_some_and(|end| end <= size);
    if !fits(real) || !fits(imaginary) {
        return other();
    }
    Kind::Numeric(Numeric {
        number: part,
        big_endian,
        imaginary: Some(imaginary),
        real,
        size,
        enumeration: false,
    })
}

/// The number that a type is, and whether its most significant byte is first.
fn number(datatype: &Datatype) -> Option<(Number, bool)> {
    match datatype {
        Datatype::FixedPoint { size, byte_order, layout } => {
            let bytes = u8::try_from(*size).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
            let whole = layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8;
            let number = if layout.signed { Number::Int(bytes) } else { Number::Unsigned(bytes) };
            (whole).then_some((number, is_big(*byte_order)?))
        }
        Datatype::FloatingPoint { byte_order, layout, .. } => {
            let number = match *layout {
                FloatingPointLayout::IEEE754_BINARY32 => Number::F32,
                FloatingPointLayout::IEEE754_BINARY64 => Number::F64,
                _ => return None,
            };
            let Datatype::FloatingPoint { size, .. } = datatype else { return None };
            (usize::try_from(*size).ok()? == number.size()).then_some((number, is_big(*byte_order)?))
        }
        _ => None,
    }
}

fn is_big(order: DatatypeByteOrder) -> Option<bool> {
    match order {
        DatatypeByteOrder::LittleEndian => Some(false),
        DatatypeByteOrder::BigEndian => Some(true),
        DatatypeByteOrder::Vax => None,
    }
}

fn name_of(datatype: &Datatype) -> String {
    match datatype {
        Datatype::FixedPoint { size, .. } => format!("an integer of {size} bytes with unused bits"),
        Datatype::FloatingPoint { size: 2, .. } => "Float16".to_owned(),
        Datatype::FloatingPoint { size, .. } => format!("a float of {size} bytes in no form of IEEE 754"),
        Datatype::Time { .. } => "an HDF5 time".to_owned(),
        Datatype::BitField { .. } => "a bit field".to_owned(),
        Datatype::Opaque { .. } => "opaque bytes".to_owned(),
        Datatype::Reference { .. } => "a reference".to_owned(),
        Datatype::VariableLength { .. } => "a sequence of variable length".to_owned(),
        Datatype::Array { .. } => "an array type".to_owned(),
        _ => "an unknown type".to_owned(),
    }
}

impl Numeric {
    /// The name that reports use, such as `Complex64` or `Int16 (big-endian)`.
    #[must_use]
    pub fn name(&self) -> String {
        let bits = self.number.size() * 8;
        let mut name = match (self.number, self.imaginary) {
            (Number::F32 | Number::F64, None) => format!("Float{bits}"),
            (Number::F32 | Number::F64, Some(_)) => format!("Complex{}", 2 * bits),
            (Number::Int(_), None) => format!("Int{bits}"),
            (Number::Unsigned(_), None) => format!("UInt{bits}"),
            (Number::Int(_), Some(_)) => format!("complex Int{bits}"),
            (Number::Unsigned(_), Some(_)) => format!("complex UInt{bits}"),
        };
        if self.big_endian {
            name.push_str(" (big-endian)");
        }
        if self.enumeration {
            name.push_str(" (enumeration)");
        }
        name
    }

    /// Whether elements have an imaginary part.
    #[must_use]
    pub fn is_complex(&self) -> bool {
        self.imaginary.is_some()
    }

    /// Decodes one element, of [`Numeric::size`] bytes. Integers beyond 2^53 are rounded to the nearest `f64`.
    #[must_use]
    pub fn complex(&self, element: &[u8]) -> Complex<f64> {
        let part = |at: usize| float(self.number, self.big_endian, element.get(at..).unwrap_or_default());
        Complex::new(part(self.real), self.imaginary.map_or(0.0, part))
    }

    /// Decodes one element as an exact integer. `None` for floats and for what exceeds `i64`.
    #[must_use]
    pub fn integer(&self, element: &[u8]) -> Option<i64> {
        let bits = bits(self.number.size(), self.big_endian, element)?;
        match self.number {
            Number::Int(size) => Some(signed(size, bits)),
            Number::Unsigned(_) => i64::try_from(bits).ok(),
            Number::F32 | Number::F64 => None,
        }
    }

    /// Splits raw bytes into elements.
    pub fn elements<'a>(&self, raw: &'a [u8]) -> std::slice::ChunksExact<'a, u8> {
        raw.chunks_exact(self.size.max(1))
    }
}

/// The bits of a number of `size` bytes, as an unsigned integer.
fn bits(size: usize, big_endian: bool, bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.get(..size)?;
    let mut wide = [0_u8; 8];
    if big_endian {
        wide.get_mut(8 - size..)?.copy_from_slice(bytes);
        Some(u64::from_be_bytes(wide))
    } else {
        wide.get_mut(..size)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(wide))
    }
}

/// Extends the sign of an integer of `size` bytes.
fn signed(size: u8, bits: u64) -> i64 {
    let unused = 64 - 8 * u32::from(size.clamp(1, 8));
    (bits << unused).cast_signed() >> unused
}

#[expect(clippy::cast_precision_loss, reason = "documented: integers beyond 2^53 are rounded")]
fn float(number: Number, big_endian: bool, bytes: &[u8]) -> f64 {
    // A short element cannot happen: lengths are checked when the dataset is opened.
    let Some(bits) = bits(number.size(), big_endian, bytes) else { return f64::NAN };
    match number {
        Number::F32 => f32::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Number::F64 => f64::from_bits(bits),
        Number::Int(size) => signed(size, bits) as f64,
        Number::Unsigned(_) => bits as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_and_order() {
        for (size, bytes, big, value) in [
            (1, vec![0xff], false, -1),
            (2, vec![0xfe, 0xff], false, -2),
            (2, vec![0xff, 0xfe], true, -2),
            (4, vec![0, 0, 1, 0], true, 256),
            (8, i64::MIN.to_le_bytes().to_vec(), false, i64::MIN),
        ] {
            let numeric = real(Number::Int(size), big, false);
            assert_eq!(numeric.integer(&bytes), Some(value));
        }
        let unsigned = real(Number::Unsigned(8), false, false);
        assert_eq!(unsigned.integer(&u64::MAX.to_le_bytes()), None);
        assert_eq!(unsigned.integer(&[1, 0]), None, "too few bytes");
    }

    #[test]
    fn complex_parts_are_found_by_their_place() {
        let numeric = Numeric {
            number: Number::F32,
            big_endian: true,
            imaginary: Some(0),
            real: 4,
            size: 8,
            enumeration: false,
        };
        let raw = [2.5_f32.to_be_bytes(), (-1.0_f32).to_be_bytes()].concat();
        assert_eq!(numeric.complex(&raw), Complex::new(-1.0, 2.5));
    }
}

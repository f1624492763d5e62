//! A small typeface for the words beside a picture: five by seven dots a letter.

/// Dots across and down a letter, and from one to the next.
pub(crate) const WIDTH: usize = 5;
pub(crate) const HEIGHT: usize = 7;
pub(crate) const ADVANCE: usize = 6;

/// What can be written, and rows of dots from the top; the highest of five bits is the leftmost dot.
const LETTERS: &[(char, [u8; HEIGHT])] = &[
    ('0', [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111]),
    ('3', [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100]),
    ('.', [0, 0, 0, 0, 0, 0b01100, 0b01100]),
    ('-', [0, 0, 0, 0b11111, 0, 0, 0]),
    ('+', [0, 0b00100, 0b00100, 0b11111, 0b00100, 0b00100, 0]),
    ('e', [0, 0, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110]),
    ('m', [0, 0, 0b11010, 0b10101, 0b10101, 0b10101, 0b10101]),
    ('x', [0, 0, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001]),
    ('y', [0, 0, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110]),
    ('z', [0, 0, 0b11111, 0b00010, 0b00100, 0b01000, 0b11111]),
    (' ', [0; HEIGHT]),
];

/// The dots of a letter; a filled box for one that is not there, which nobody overlooks.
pub(crate) fn dots(letter: char) -> [u8; HEIGHT] {
    LETTERS.iter().find(|(known, _)| *known == letter).map_or([0b11111; HEIGHT], |(_, dots)| *dots)
}

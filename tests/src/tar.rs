//! Tar and ar by hand: the same bytes each time, and every trick that an honest tool refuses to write.

const BLOCK: usize = 512;
/// Bytes for a name in a header.
const NAME: usize = 100;

/// A ustar archive in the making.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Any entry: `kind` is the type byte, and nothing is checked. What is too long for a header goes before it, as dpkg-deb
    /// writes it.
    #[must_use]
    pub fn raw(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        for (long, kind) in [(name, b'L'), (link, b'K')] {
            if long.len() > NAME {
                self = self.raw(kind, b"././@LongLink", b"", 0o644, &[long, b"\0"].concat());
            }
        }
        let (name, link) = (&name[..name.len().min(NAME)], &link[..link.len().min(NAME)]);
        let mut header = [0_u8; BLOCK];
        header[..name.len()].copy_from_slice(name);
        put(&mut header, 100, &format!("{mode:07o}"));
        put(&mut header, 108, "0000000");
        put(&mut header, 116, "0000000");
        put(&mut header, 124, &format!("{:011o}", content.len()));
        put(&mut header, 136, "00000000001");
        put(&mut header, 148, "        ");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link);
        put(&mut header, 257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, &format!("{sum:06o}\0 "));
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.raw(b'0', name.as_bytes(), b"", mode, content)
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", 0o755, b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    /// An extended header that claims `size` bytes for the next entry, as far as ustar cannot count.
    #[must_use]
    pub fn claims(self, size: u64) -> Self {
        let record = format!("size={size}\n");
        // The record's length counts its own two digits and the blank.
        let record = format!("{} {record}", record.len() + 3);
        self.raw(b'x', b"claim", b"", 0o644, record.as_bytes())
    }

    /// The archive with its end marker.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, text: &str) {
    header[at..at + text.len()].copy_from_slice(text.as_bytes());
}

/// An ar archive, as a `.deb` is one.
#[must_use]
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 1, 0, 0, 100_644).bytes());
        bytes.extend_from_slice(content);
        if size % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// A `.deb` of a control and a data archive.
#[must_use]
pub fn deb(control: Tar, data: Tar) -> Vec<u8> {
    let control = gzip(&control.finish());
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &gzip(&data.finish()))])
}

/// A zip archive of stored files, without modes, as Python's tools write wheels. Names are not checked.
#[must_use]
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let name_bytes = u16::try_from(name.len()).unwrap().to_le_bytes();
        // Version 2.0, no flags, stored, no time; then checksum, both sizes, the name's length, no extra field.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend(size);
        common.extend(size);
        common.extend(name_bytes);
        common.extend([0, 0]);
        let offset = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), content].concat());
        directory.extend([&b"PK\x01\x02\x14\x00"[..], &common, &[0; 10], &offset, name.as_bytes()].concat());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let (at, size) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    bytes.extend(directory);
    bytes.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count].concat());
    bytes.extend([&size.to_le_bytes()[..], &at.to_le_bytes(), &[0, 0]].concat());
    bytes
}

/// Compresses with gzip, without a time stamp.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with xz.
#[must_use]
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

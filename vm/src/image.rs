//! Whether a disk image that somebody brings is one file and nothing else.
//!
//! Formats of disk images can name other files: what is below a difference, where the data lies. QEMU opens those with its own
//! rights, so an image from somewhere could have a guest read any file of whoever runs it (CVE-2022-47951, CVE-2024-32498 in
//! OpenStack). So the head of a file is read here, before another program opens it, and one that names others is refused. The
//! heads: qcow2 by QEMU's `docs/interop/qcow2.txt`, VMDK by VMware's "Virtual Disk Format 5.0", VDI by VirtualBox's `VDICore.h`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::Error;
use crate::machine::Format;

/// The longest head: VDI's, of 512 bytes.
const HEAD: usize = 512;
/// A VMDK's descriptor; what VMware writes has 20 sectors.
const DESCRIPTOR_MAX: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Looks at a file's head.
///
/// # Errors
/// When it is not of this format, or names other files.
pub fn check(path: &Path, format: Format) -> Result<(), Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let meta = file.metadata().map_err(Error::io("look at", path))?;
    let wrong = |(reason, hint): (String, String)| Error::Image { path: path.to_owned(), reason, hint };
    if !meta.is_file() {
        return Err(wrong(("is no file".into(), "copy a disk into one: `dd if=… of=disk.raw`".into())));
    }
    let checked = match format {
        // Whatever it holds is the guest's.
        Format::Raw => return Ok(()),
        Format::Qcow2 => qcow2(&mut file),
        Format::Vdi => vdi(&mut file),
        Format::Vmdk => vmdk(&mut file),
    };
    checked.map_err(Error::io("read", path))?.map_err(|reason| {
        let hint = format!(
            "name the right format, or make one file of it where it was made: `qemu-img convert -O qcow2 {} disk.qcow2`",
            path.display()
        );
        wrong((reason, hint))
    })
}

type Checked = io::Result<Result<(), String>>;

/// The first bytes; zeros behind the end of a short file fit no signature.
fn head(file: &mut File) -> io::Result<[u8; HEAD]> {
    let mut bytes = Vec::new();
    file.take(HEAD as u64).read_to_end(&mut bytes)?;
    bytes.resize(HEAD, 0);
    Ok(bytes.try_into().unwrap_or([0; HEAD]))
}

/// A qcow2's head, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Qcow2 {
    /// It is the difference to another file.
    pub(crate) backing: bool,
    /// Its data lies in another file.
    pub(crate) external: bool,
    pub(crate) encrypted: bool,
}

impl Qcow2 {
    pub(crate) fn parse(head: &[u8; HEAD]) -> Option<Self> {
        let version = be32(head, 4);
        if head[..4] != *b"QFI\xfb" || !(2..=3).contains(&version) {
            return None;
        }
        // Version 2 has no features; what stands there is not its own.
        let features = if version == 3 { be64(head, 72) } else { 0 };
        Some(Self {
            backing: be64(head, 8) != 0,
            external: features & 1 << 2 != 0,
            encrypted: be32(head, 32) != 0,
        })
    }

    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::parse(&head(&mut File::open(path)?)?))
    }
}

fn qcow2(file: &mut File) -> Checked {
    let result = match Qcow2::parse(&head(file)?) {
        None => Err("is no qcow2".to_owned()),
        Some(Qcow2 { backing: true, .. }) => Err("is the difference to another file".to_owned()),
        Some(Qcow2 { external: true, .. }) => Err("has its data in another file".to_owned()),
        Some(Qcow2 { encrypted: true, .. }) => Err("is encrypted".to_owned()),
        Some(_) => Ok(()),
    };
    Ok(result)
}

fn vdi(file: &mut File) -> Checked {
    let head = head(file)?;
    Ok(match (le32(&head, 64), le32(&head, 76)) {
        (0xbeda_107f, 1 | 2) => Ok(()),
        (0xbeda_107f, 4) => Err("is the difference to another file".to_owned()),
        (0xbeda_107f, kind) => Err(format!("is a VDI of the unknown kind {kind}")),
        _ => Err("is no VDI".to_owned()),
    })
}

fn vmdk(file: &mut File) -> Checked {
    let head = head(file)?;
    if head.starts_with(b"# Disk DescriptorFile") {
        return Ok(Err("only names the files that hold the disk".to_owned()));
    }
    if head[..4] != *b"KDMV" {
        return Ok(Err("is no VMDK in one file".to_owned()));
    }
    // Without a capacity the descriptor says where the data lies.
    let (capacity, at, sectors) = (le64(&head, 12), le64(&head, 28), le64(&head, 36));
    let start = at.checked_mul(SECTOR);
    let (Some(start), true) = (start, capacity != 0 && at != 0) else {
        return Ok(Err("has no descriptor of its own".to_owned()));
    };
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(sectors.saturating_mul(SECTOR).min(DESCRIPTOR_MAX)).read_to_end(&mut text)?;
    Ok(descriptor(&String::from_utf8_lossy(&text)))
}

/// The text in a VMDK: what its data is, and what it is a difference to.
fn descriptor(text: &str) -> Result<(), String> {
    let text = text.split('\0').next().unwrap_or("");
    let mut extents = 0;
    for line in text.lines().map(str::trim) {
        let lower = line.to_ascii_lowercase();
        let word = lower.split_whitespace().next().unwrap_or("");
        if ["rw", "rdonly", "noaccess"].contains(&word) {
            extents += 1;
            if lower.split_whitespace().nth(2) != Some("sparse") {
                return Err("has its data in another file".to_owned());
            }
        }
        let parent = lower.strip_prefix("parentcid").map(|rest| rest.trim_start_matches(['=', ' ']));
        if lower.contains("parentfilenamehint") || parent.is_some_and(|parent| parent != "ffffffff") {
            return Err("is the difference to another file".to_owned());
        }
    }
    match extents {
        1 => Ok(()),
        0 => Err("has no descriptor of its own".to_owned()),
        _ => Err("is one of several files that hold the disk".to_owned()),
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(four(bytes, at))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(four(bytes, at))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at + 4)) << 32 | u64::from(le32(bytes, at))
}

/// Zeros behind the end.
fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    let mut four = [0; 4];
    for (to, from) in four.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    four
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::process::Command;

    /// QEMU's own tool makes the images.
    fn make(arguments: &[&str]) {
        let done = Command::new("qemu-img").args(arguments).output();
        let done = done.expect("qemu-img is missing: apt-get install --no-install-recommends qemu-utils");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn reason(path: &Path, format: Format) -> String {
        match check(path, format) {
            Ok(()) => "fine".into(),
            Err(Error::Image { reason, .. }) => reason,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn images_of_one_file_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        for (format, options) in [
            ("qcow2", &[][..]),
            ("qcow2", &["-o", "compat=0.10"]),
            ("vdi", &[]),
            ("vdi", &["-o", "static=on"]),
        ] {
            let path = folder.path().join("disk");
            make(&[&["create", "-q", "-f", format], options, &[path.to_str().unwrap(), "4M"]].concat());
            assert_eq!(reason(&path, format.parse().unwrap()), "fine", "{format} {options:?}");
        }
        for kind in ["monolithicSparse", "streamOptimized"] {
            let (raw, path) = (folder.path().join("raw"), folder.path().join("disk.vmdk"));
            fs::write(&raw, vec![7; 1 << 20]).unwrap();
            let option = format!("subformat={kind}");
            make(&[
                "convert",
                "-f",
                "raw",
                "-O",
                "vmdk",
                "-o",
                &option,
                raw.to_str().unwrap(),
                path.to_str().unwrap(),
            ]);
            assert_eq!(reason(&path, Format::Vmdk), "fine", "{kind}");
        }
    }

    #[test]
    fn images_that_lead_to_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("secret"), "root:x:0:0").unwrap();
        make(&["create", "-q", "-f", "qcow2", "-u", "-b", &path("secret"), "-F", "raw", &path("over"), "4M"]);
        assert_eq!(reason(Path::new(&path("over")), Format::Qcow2), "is the difference to another file");
        let option = format!("data_file={},data_file_raw=on", path("data"));
        make(&["create", "-q", "-f", "qcow2", "-o", &option, &path("outside"), "4M"]);
        assert_eq!(reason(Path::new(&path("outside")), Format::Qcow2), "has its data in another file");
        for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
            make(&[
                "create",
                "-q",
                "-f",
                "vmdk",
                "-o",
                &format!("subformat={kind}"),
                &path("several.vmdk"),
                "4M",
            ]);
            assert_eq!(
                reason(Path::new(&path("several.vmdk")), Format::Vmdk),
                "only names the files that hold the disk"
            );
        }
        make(&["create", "-q", "-f", "vmdk", &path("base.vmdk"), "4M"]);
        make(&["create", "-q", "-f", "vmdk", "-b", &path("base.vmdk"), "-F", "vmdk", &path("diff.vmdk")]);
        assert_eq!(reason(Path::new(&path("diff.vmdk")), Format::Vmdk), "is the difference to another file");
    }

    #[test]
    fn images_of_another_format_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, "short").unwrap();
        assert_eq!(reason(&path, Format::Qcow2), "is no qcow2");
        assert_eq!(reason(&path, Format::Vdi), "is no VDI");
        assert_eq!(reason(&path, Format::Vmdk), "is no VMDK in one file");
        assert_eq!(reason(&path, Format::Raw), "fine");
        assert_eq!(reason(folder.path(), Format::Raw), "is no file");
        let hint = check(&path, Format::Vdi).unwrap_err().hint().unwrap();
        assert!(hint.contains("qemu-img convert"), "{hint}");
        // The descriptor of an image that claims to be one file names another one.
        let cases = [
            ("RW 8192 FLAT \"/etc/shadow\" 0\n", "has its data in another file"),
            ("RW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"\n", "is one of several files that hold the disk"),
            ("parentCID=12345678\nRW 1 SPARSE \"a\"\n", "is the difference to another file"),
            (
                "parentCID = ffffffff\nRW 1 SPARSE \"a\"\nparentFileNameHint=\"/x\"",
                "is the difference to another file",
            ),
            ("", "has no descriptor of its own"),
        ];
        for (text, reason) in cases {
            assert_eq!(descriptor(text), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(descriptor("parentCID=ffffffff\nRW 8192 SPARSE \"a.vmdk\"\n\0RW 1 FLAT \"x\" 0"), Ok(()));
    }

    proptest! {
        #[test]
        fn any_head_is_survived(magic in 0..4usize, bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let magics: [&[u8]; 4] = [b"QFI\xfb\0\0\0\x03", b"KDMV\x01\0\0\0", b"# Disk DescriptorFile\n", b""];
            fs::write(file.path(), [magics[magic], &bytes].concat()).unwrap();
            for format in [Format::Raw, Format::Qcow2, Format::Vdi, Format::Vmdk] {
                drop(check(file.path(), format));
            }
        }
    }
}

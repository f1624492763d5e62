//! The signature behind a kernel module. It is read, not checked.

use crate::scripts::hex;

/// How a signed module ends (Linux, `include/linux/module_signature.h`).
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`, which stands before it: algorithm, hash, type of the identifier, lengths of the
/// signer's name and of the key's identifier, three bytes of padding, length of the signature (big-endian).
const STRUCT_BYTES: usize = 12;
/// Types of the identifier (`enum pkey_id_type`).
const PKEY_ID_X509: u8 = 1;
const PKEY_ID_PKCS7: u8 = 2;
/// Bytes of a signature; that of a 4096-bit key with its certificate has 2 KiB.
const SIGNATURE_BYTES: usize = 64 << 10;
/// Elements of one SET or SEQUENCE that are looked at.
const ELEMENTS: usize = 64;
/// Bytes of an identifier that are shown.
const KEY_ID_BYTES: usize = 64;

// Tags of DER (ITU-T X.690, section 8.1.2).
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed and primitive.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_0_PRIMITIVE: u8 = 0x80;

/// 1.2.840.113549.1.7.2, `id-signedData` (RFC 5652, section 5.1).
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 2.5.4.3 `commonName` and 2.5.4.10 `organizationName` (RFC 5280, appendix A.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// A signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// The signer's name, or the identifier of the key.
    pub(super) signer: Option<String>,
}

/// Reads the signature behind a module, if it has one.
pub(super) fn read(module: &[u8]) -> Option<Signature> {
    let rest = module.strip_suffix(MAGIC)?;
    Some(Signature { signer: signer(rest) })
}

fn signer(rest: &[u8]) -> Option<String> {
    let (rest, block) = rest.split_at_checked(rest.len().checked_sub(STRUCT_BYTES)?)?;
    let &[_, _, id_type, name_length, key_length, _, _, _, a, b, c, d] = block else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let (rest, signature) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
    match id_type {
        PKEY_ID_PKCS7 if signature.len() <= SIGNATURE_BYTES => pkcs7_signer(signature),
        PKEY_ID_X509 => {
            let (rest, _key) = rest.split_at_checked(rest.len().checked_sub(usize::from(key_length))?)?;
            let (_, name) = rest.split_at_checked(rest.len().checked_sub(usize::from(name_length))?)?;
            text(name)
        }
        _ => None,
    }
}

/// The issuer in the first `SignerInfo`, or the identifier of the key (RFC 5652, sections 5.1 and 5.3).
fn pkcs7_signer(message: &[u8]) -> Option<String> {
    let mut content_info = Elements(element(message, SEQUENCE)?);
    let kind = content_info.next()?;
    (kind.tag == OBJECT && kind.content == SIGNED_DATA).then_some(())?;
    let wrapped = content_info.next().filter(|one| one.tag == CONTEXT_0)?;
    let signed_data = Elements(element(wrapped.content, SEQUENCE)?);
    // Digest algorithms are a set too, and come first.
    let infos = signed_data.take(ELEMENTS).filter(|one| one.tag == SET).last()?;
    let mut info = Elements(element(infos.content, SEQUENCE)?);
    info.next().filter(|version| version.tag == INTEGER)?;
    let id = info.next()?;
    match id.tag {
        SEQUENCE => {
            let mut id = Elements(id.content);
            let issuer = id.next().filter(|one| one.tag == SEQUENCE)?;
            let serial = id.next().filter(|one| one.tag == INTEGER);
            name(issuer.content).or_else(|| key_id(serial?.content))
        }
        CONTEXT_0 | CONTEXT_0_PRIMITIVE => key_id(id.content),
        _ => None,
    }
}

/// The common name in a `Name`, or else the organization (RFC 5280, section 4.1.2.4).
fn name(issuer: &[u8]) -> Option<String> {
    let find = |wanted: &[u8]| {
        let sets = Elements(issuer).take(ELEMENTS).filter(|one| one.tag == SET);
        let mut attributes = sets.flat_map(|set| Elements(set.content).take(ELEMENTS));
        attributes.find_map(|attribute| {
            let mut pair = Elements(attribute.content);
            let kind = pair.next().filter(|kind| kind.tag == OBJECT)?;
            (kind.content == wanted).then(|| pair.next()).flatten().and_then(|value| text(value.content))
        })
    };
    find(COMMON_NAME).or_else(|| find(ORGANIZATION))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

fn key_id(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty() && bytes.len() <= KEY_ID_BYTES).then(|| hex(bytes))
}

/// The content of the element the bytes begin with, if it has that tag.
fn element(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    Elements(bytes).next().filter(|one| one.tag == tag).map(|one| one.content)
}

struct Element<'b> {
    tag: u8,
    content: &'b [u8],
}

/// Elements of DER one behind the other. It goes down only where its user does, which is to a fixed depth.
struct Elements<'b>(&'b [u8]);

impl<'b> Iterator for Elements<'b> {
    type Item = Element<'b>;

    fn next(&mut self) -> Option<Element<'b>> {
        let (&[tag, short], rest) = self.0.split_first_chunk()?;
        // The long form says how many bytes the length has; more than three do not fit the bound above.
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = if length < 128 {
            vec![tag, u8::try_from(length).unwrap()]
        } else {
            vec![tag, 0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]
        };
        [head, content.to_vec()].concat()
    }

    fn message(id: &[u8]) -> Vec<u8> {
        let version = der(INTEGER, &[1]);
        let infos = der(SET, &der(SEQUENCE, &[version.clone(), id.to_vec(), vec![0; 200]].concat()));
        let data = der(SEQUENCE, &[version, der(SET, &[]), der(SEQUENCE, &[]), infos].concat());
        der(SEQUENCE, &[der(OBJECT, SIGNED_DATA), der(CONTEXT_0, &data)].concat())
    }

    fn signed(id_type: u8, before: &[u8], lengths: [u8; 2], signature: &[u8]) -> Vec<u8> {
        let mut block = vec![0, 0, id_type, lengths[0], lengths[1], 0, 0, 0];
        block.extend(u32::try_from(signature.len()).unwrap().to_be_bytes());
        [b"module".as_slice(), before, signature, &block, MAGIC].concat()
    }

    fn issuer() -> Vec<u8> {
        let attribute = |kind: &[u8], value: &[u8]| {
            der(SET, &der(SEQUENCE, &[der(OBJECT, kind), der(0x0c, value)].concat()))
        };
        let name =
            der(SEQUENCE, &[attribute(ORGANIZATION, b"Acme"), attribute(COMMON_NAME, b"Acme Key")].concat());
        der(SEQUENCE, &[name, der(INTEGER, &[7, 8])].concat())
    }

    fn signer_of(module: &[u8]) -> Option<String> {
        read(module).and_then(|signature| signature.signer)
    }

    #[test]
    fn signers_by_name_and_by_key() {
        let by_name = signed(PKEY_ID_PKCS7, b"", [0, 0], &message(&issuer()));
        assert_eq!(signer_of(&by_name).as_deref(), Some("Acme Key"));
        let by_key = signed(PKEY_ID_PKCS7, b"", [0, 0], &message(&der(CONTEXT_0_PRIMITIVE, &[0xab, 0xcd])));
        assert_eq!(signer_of(&by_key).as_deref(), Some("abcd"));
        let nameless = der(SEQUENCE, &[der(SEQUENCE, &[]), der(INTEGER, &[7, 8])].concat());
        let nameless = signed(PKEY_ID_PKCS7, b"", [0, 0], &message(&nameless));
        assert_eq!(signer_of(&nameless).as_deref(), Some("0708"));
        let old = signed(PKEY_ID_X509, b"Acme: old keyKEYID", [13, 5], &[1; 256]);
        assert_eq!(signer_of(&old).as_deref(), Some("Acme: old key"));
        assert_eq!(read(&signed(0, b"", [0, 0], b"pgp")), Some(Signature { signer: None }));
        assert_eq!(read(b"module"), None);
        assert_eq!(read(MAGIC), Some(Signature { signer: None }));
    }

    #[test]
    fn damage_does_no_harm() {
        let whole = signed(PKEY_ID_PKCS7, b"", [0, 0], &message(&issuer()));
        for at in 0..whole.len() - MAGIC.len() {
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x81, 0x83, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                assert!(read(&damaged).is_some());
                damaged.drain(..at);
                assert!(read(&damaged).is_some());
            }
        }
    }
}

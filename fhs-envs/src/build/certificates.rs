//! What `update-ca-certificates` makes of the certificates in the tree: one file of all, a link for each, a link by the hash
//! of each subject, as OpenSSL looks them up, and Java's key store where Java's package for it is there.

use std::collections::BTreeMap;

use base64::Engine;
use sha1::{Digest, Sha1};

use super::generate::{own, write};
use super::merge::Merge;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Where Debian ships certificates, and where a vendor's package puts its own.
const SOURCES: [&str; 2] = ["usr/share/ca-certificates/", "usr/local/share/ca-certificates/"];
const FOLDER: &str = "etc/ssl/certs";
/// Many times what Mozilla ships.
const CERTIFICATES_MAX: usize = 10_000;
/// The password that Java's tools expect: the store is signed, not secret.
const JAVA_PASSWORD: &str = "changeit";
/// Milliseconds since the epoch, for "when it was added".
const JAVA_DATE_MS: u64 = 1000;

/// Adds it all to the tree.
pub(crate) fn add(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let found = found(merge, workspace)?;
    if found.is_empty() {
        return Ok(());
    }
    let mut bundle = Vec::new();
    let mut java = Vec::new();
    let mut by_hash: BTreeMap<String, u32> = BTreeMap::new();
    for (path, content) in &found {
        bundle.extend(content);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
        let name = link_name(path);
        let link = |merge: &mut Merge, at: String, target: String| {
            merge.put(&at, Node::Link { target }).map_err(own)
        };
        link(merge, format!("{FOLDER}/{name}"), format!("/{path}"))?;
        // What is no certificate has no subject to be looked up by; programs that read the folder skip it, too.
        let Some(der) = decode(content) else { continue };
        if let Some(hash) = subject_hash(&der) {
            let number = by_hash.entry(hash.clone()).or_default();
            link(merge, format!("{FOLDER}/{hash}.{number}"), name.clone())?;
            *number += 1;
        }
        java.push((format!("debian:{}", name.to_ascii_lowercase()), der));
    }
    write(merge, workspace, &format!("{FOLDER}/ca-certificates.crt"), &bundle)?;
    if merge.node("usr/share/ca-certificates-java").is_some() {
        write(merge, workspace, &format!("{FOLDER}/java/cacerts"), &java_store(&java))?;
    }
    Ok(())
}

/// Path and content of each certificate, in the order of the paths.
fn found(merge: &Merge, workspace: &Workspace<'_>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut found = Vec::new();
    for source in SOURCES {
        let nodes = merge.tree.nodes.range(source.to_owned()..);
        for (path, node) in nodes.take_while(|(path, _)| path.starts_with(source)) {
            if let Node::File { sha256, executable, .. } = node
                && path.ends_with(".crt")
                && found.len() < CERTIFICATES_MAX
            {
                found.push((path.clone(), workspace.read(*sha256, *executable)?));
            }
        }
    }
    Ok(found)
}

/// As `update-ca-certificates` names its links.
fn link_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".crt").unwrap_or(name);
    let name = name.replace([' ', ','], "_").replace(['(', ')'], "=");
    format!("{name}.pem")
}

/// The first certificate of a PEM file.
fn decode(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body = text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let body: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

/// One element of DER: tag, content, what follows (X.690, 8.1). Lengths of more than four bytes are refused.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        short @ 0..=0x7f => (short, rest),
        long => {
            let count = long & 0x7f;
            if !(1..=4).contains(&count) {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == 0x30).then_some((content, rest))
}

/// The name under which OpenSSL 1.0 and later looks a certificate up: the first four bytes, backwards, of SHA-1 over the
/// canonical subject (`X509_NAME_hash`, crypto/x509/x509_cmp.c, and `x509_name_canon`, crypto/x509/x_name.c).
fn subject_hash(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = sequence(certificate)?;
    let (mut rest, _) = sequence(certificate)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2; // version
    }
    for _ in ["serial number", "signature", "issuer", "validity"] {
        rest = element(rest)?.2;
    }
    let (mut subject, _) = sequence(rest)?;
    let mut canonical = Vec::new();
    while !subject.is_empty() {
        let (_, mut set, after) = element(subject)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, next) = sequence(set)?;
            let (_, _, value) = element(attribute)?;
            let kind = &attribute[..attribute.len() - value.len()];
            attributes.push(encode(0x30, &[kind, &canonical_value(value)?].concat()));
            set = next;
        }
        // A set is encoded in the order of its elements' encodings.
        attributes.sort();
        canonical.extend(encode(0x31, &attributes.concat()));
        subject = after;
    }
    let hash = Sha1::digest(&canonical);
    Some(format!("{:08x}", u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])))
}

/// Text as UTF-8 in small letters with single blanks; anything else as it is.
fn canonical_value(value: &[u8]) -> Option<Vec<u8>> {
    let (tag, content, _) = element(value)?;
    let text = match tag {
        // UTF8String, PrintableString, IA5String, VisibleString
        0x0c | 0x13 | 0x16 | 0x1a => String::from_utf8(content.to_vec()).ok()?,
        // T61String, which OpenSSL takes for Latin-1
        0x14 => content.iter().map(|byte| char::from(*byte)).collect(),
        // BMPString
        0x1e => {
            let units: Vec<u16> =
                content.chunks(2).map(|pair| pair.iter().fold(0, |u, b| u << 8 | u16::from(*b))).collect();
            String::from_utf16(&units).ok()?
        }
        _ => return Some(value.to_vec()),
    };
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    let words: Vec<&str> = text.split(blank).filter(|word| !word.is_empty()).collect();
    Some(encode(0x0c, words.join(" ").to_ascii_lowercase().as_bytes()))
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => bytes.push(length),
        _ => {
            let digits: Vec<u8> =
                content.len().to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            bytes.extend(digits);
        }
    }
    bytes.extend(content);
    bytes
}

/// A key store of trusted certificates in the format JKS, version 2 (`sun.security.provider.JavaKeyStore`).
fn java_store(certificates: &[(String, Vec<u8>)]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let text = |text: &str| {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let mut bytes = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
    bytes.extend(word(certificates.len()));
    for (alias, der) in certificates {
        bytes.extend(word(2)); // a trusted certificate
        bytes.extend(text(alias));
        bytes.extend(JAVA_DATE_MS.to_be_bytes());
        bytes.extend(text("X.509"));
        bytes.extend(word(der.len()));
        bytes.extend(der);
    }
    let mut hash = Sha1::new();
    for unit in JAVA_PASSWORD.encode_utf16() {
        hash.update(unit.to_be_bytes());
    }
    hash.update(b"Mighty Aphrodite");
    hash.update(&bytes);
    bytes.extend(hash.finalize());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_as_debian_names_them() {
        assert_eq!(link_name("usr/share/ca-certificates/mozilla/A (b), c.crt"), "A_=b=__c.pem");
    }

    #[test]
    fn broken_certificates_have_no_hash_and_do_no_harm() {
        let whole = encode(0x30, &encode(0x30, &[2, 1, 1]));
        assert_eq!(subject_hash(&whole), None);
        for length in 0..whole.len() {
            assert_eq!(subject_hash(&whole[..length]), None);
        }
        assert_eq!(subject_hash(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), None);
    }

    #[test]
    fn text_is_compared_without_regard_to_case_and_blanks() {
        let printable = canonical_value(&encode(0x13, b"  ACME   Root ")).unwrap();
        assert_eq!(printable, canonical_value(&encode(0x0c, b"acme root")).unwrap());
        assert_eq!(printable, canonical_value(&encode(0x1e, b"\0a\0c\0m\0e\0 \0R\0o\0o\0t")).unwrap());
    }
}

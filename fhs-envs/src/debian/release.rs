//! `InRelease` files: signature, key validity, dates, and the digests of the indices they cover.
//!
//! Only the text inside the signature is ever parsed. A signature counts when the key that made it is in the key
//! ring, bound to its certificate, neither revoked nor expired at the time of checking, and the digest is not one
//! of the broken ones (MD5, SHA-1, RIPEMD-160).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use super::deb822;
use crate::digest::Sha256;
use crate::error::Error;

/// The certificates that may sign an archive.
#[derive(Debug)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads binary or armoured key rings.
    ///
    /// # Errors
    /// When a file cannot be read or holds no usable certificate.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for path in paths {
            certificates.extend(load_file(path)?);
        }
        if certificates.is_empty() {
            return Err(Error::NoKeyring);
        }
        Ok(Self { certificates })
    }
}

fn load_file(path: &Path) -> Result<Vec<SignedPublicKey>, Error> {
    let bad = |reason: String| Error::BadKeyring { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let armoured = bytes.starts_with(b"-----BEGIN");
    let parsed: Result<Vec<_>, _> = if armoured {
        SignedPublicKey::from_armor_many(&bytes[..]).map_err(|e| bad(e.to_string()))?.0.collect()
    } else {
        SignedPublicKey::from_bytes_many(&bytes[..]).map_err(|e| bad(e.to_string()))?.collect()
    };
    parsed.map_err(|e| bad(e.to_string()))
}

/// A verified `InRelease`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Origin`, as "Debian".
    pub origin: String,
    /// `Suite`, as "oldstable".
    pub suite: String,
    /// `Codename`, as "bookworm".
    pub codename: String,
    /// `Date`, as written.
    pub date: String,
    /// `Valid-Until`, as written.
    pub valid_until: Option<String>,
    /// Whether indices are also found under their digest.
    pub by_hash: bool,
    /// Path below the suite's folder → digest and size.
    pub indices: BTreeMap<String, (Sha256, u64)>,
    /// Digest of the whole signed file.
    pub sha256: Sha256,
}

/// How an `InRelease` is judged.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The time to judge keys and dates at.
    pub now: SystemTime,
    /// Whether a past `Valid-Until` is an error.
    pub check_valid_until: bool,
}

/// Verifies and parses an `InRelease`. `index` names it in errors ("debian:bookworm").
///
/// # Errors
/// When no signature counts, the file has expired, or its text is not a Release file.
pub fn verify(index: &str, text: &str, keyring: &Keyring, policy: Policy) -> Result<Release, Error> {
    let unsigned = |reason: String| Error::Unsigned { index: index.to_owned(), reason };
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|_| unsigned("it carries no OpenPGP clear-text signature".into()))?;
    let signed = message.signed_text();
    let mut reasons = Vec::new();
    let mut trusted = false;
    for signature in message.signatures() {
        match judge(signature, signed.as_bytes(), keyring, policy.now) {
            Ok(()) => trusted = true,
            Err(reason) => reasons.push(reason),
        }
    }
    if !trusted {
        return Err(unsigned(reasons.join("; ")));
    }
    let release = parse(index, &signed, Sha256::of(text.as_bytes()))?;
    check_valid_until(index, release.valid_until.as_deref(), policy)?;
    Ok(release)
}

fn judge(signature: &Signature, signed: &[u8], keyring: &Keyring, now: SystemTime) -> Result<(), String> {
    let name = signature
        .issuer_fingerprint()
        .first()
        .map(ToString::to_string)
        .or_else(|| signature.issuer_key_id().first().map(ToString::to_string))
        .unwrap_or_else(|| "an unnamed key".into());
    match signature.hash_alg() {
        None | Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160) => {
            return Err(format!("key {name} signed with a broken digest algorithm"));
        }
        Some(_) => {}
    }
    if let (Some(created), Some(lifetime)) = (signature.created(), signature.signature_expiration_time())
        && lifetime.as_secs() > 0
        && SystemTime::from(created) + Duration::from_secs(lifetime.as_secs().into()) < now
    {
        return Err(format!("the signature of key {name} has expired"));
    }
    for certificate in &keyring.certificates {
        if signature.verify(certificate, signed).is_ok() {
            return primary_signs(certificate)
                .and_then(|()| primary_valid(certificate, now))
                .map_err(|why| format!("key {name} {why}"));
        }
        for subkey in &certificate.public_subkeys {
            if signature.verify(&subkey.key, signed).is_ok() {
                return primary_valid(certificate, now)
                    .and_then(|()| subkey_valid(certificate, subkey, now))
                    .map_err(|why| format!("key {name} {why}"));
            }
        }
    }
    Err(format!("key {name} is not in the key ring, or the text was changed"))
}

/// A primary key whose self-signatures say what it is for must be for signing.
fn primary_signs(certificate: &SignedPublicKey) -> Result<(), String> {
    let own = certificate.details.users.iter().flat_map(|user| &user.signatures);
    let all: Vec<_> = own.chain(&certificate.details.direct_signatures).map(Signature::key_flags).collect();
    let silent = !all
        .iter()
        .any(|flags| flags.sign() || flags.certify() || flags.encrypt_comms() || flags.authentication());
    if silent || all.iter().any(|flags| flags.sign()) { Ok(()) } else { Err("is not a signing key".into()) }
}

/// A certificate counts when it is not revoked and its newest self-signature says it has not expired.
fn primary_valid(certificate: &SignedPublicKey, now: SystemTime) -> Result<(), String> {
    let key = &certificate.primary_key;
    if certificate.details.revocation_signatures.iter().any(|s| s.verify_key(key).is_ok()) {
        return Err("is revoked".into());
    }
    let mut counting: Vec<&Signature> = Vec::new();
    for user in &certificate.details.users {
        let own = |s: &&Signature| s.verify_certification(key, Tag::UserId, &user.id).is_ok();
        let newest = user.signatures.iter().filter(own).max_by_key(|s| s.created().map(|t| t.as_secs()));
        // A user id that was revoked last says nothing about the key any more.
        counting.extend(newest.filter(|s| is_certification(s)));
    }
    let direct = |s: &&Signature| s.typ() == Some(SignatureType::Key) && s.verify_key(key).is_ok();
    counting.extend(certificate.details.direct_signatures.iter().filter(direct));
    not_expired(key.created_at().into(), counting.into_iter(), now)
}

fn subkey_valid(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: SystemTime,
) -> Result<(), String> {
    let binding: Vec<_> = subkey
        .signatures
        .iter()
        .filter(|s| s.verify_subkey_binding(&certificate.primary_key, &subkey.key).is_ok())
        .collect();
    if binding.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation)) {
        return Err("is revoked".into());
    }
    let bound = || binding.iter().copied().filter(|s| s.typ() == Some(SignatureType::SubkeyBinding));
    let newest =
        bound().max_by_key(|s| s.created().map(|t| t.as_secs())).ok_or("is not bound to its certificate")?;
    if !newest.key_flags().sign() {
        return Err("is not a signing key".into());
    }
    // RFC 9580, 5.2.1.9: a signing subkey says in turn that it belongs to this certificate, so that nobody can take
    // another's key into their own.
    let agrees = |s: &Signature| s.verify_primary_key_binding(&subkey.key, &certificate.primary_key).is_ok();
    if !newest.embedded_signature().is_some_and(agrees) {
        return Err("does not say that it belongs to its certificate".into());
    }
    not_expired(subkey.key.created_at().into(), bound(), now)
}

fn is_certification(signature: &Signature) -> bool {
    use SignatureType::{CertCasual, CertGeneric, CertPersona, CertPositive};
    matches!(signature.typ(), Some(CertGeneric | CertPersona | CertCasual | CertPositive))
}

/// The newest of the self-signatures decides how long a key lives; none at all means it is not a certificate.
fn not_expired<'a>(
    created: SystemTime,
    signatures: impl Iterator<Item = &'a Signature>,
    now: SystemTime,
) -> Result<(), String> {
    let newest =
        signatures.max_by_key(|s| s.created().map(|t| t.as_secs())).ok_or("has no valid self-signature")?;
    if created > now {
        return Err("was made in the future: is this computer's clock right?".into());
    }
    match newest.key_expiration_time() {
        Some(lifetime)
            if lifetime.as_secs() > 0 && created + Duration::from_secs(lifetime.as_secs().into()) < now =>
        {
            Err("has expired".into())
        }
        _ => Ok(()),
    }
}

fn parse(index: &str, signed: &str, sha256: Sha256) -> Result<Release, Error> {
    let bad = |reason: &str| Error::BadIndex { index: index.to_owned(), reason: reason.to_owned() };
    let paragraph = deb822::paragraphs(signed).next().ok_or_else(|| bad("it is empty"))?;
    let mut indices = BTreeMap::new();
    for line in paragraph.get("SHA256").ok_or_else(|| bad("it lists no SHA256 digests"))?.lines() {
        let mut words = line.split_whitespace();
        if let (Some(digest), Some(size), Some(path)) = (words.next(), words.next(), words.next()) {
            let digest = digest.parse().map_err(|_| bad("a digest cannot be read"))?;
            let size = size.parse().map_err(|_| bad("a size cannot be read"))?;
            indices.insert(path.to_owned(), (digest, size));
        }
    }
    Ok(Release {
        origin: paragraph.text("Origin").to_owned(),
        suite: paragraph.text("Suite").to_owned(),
        codename: paragraph.text("Codename").to_owned(),
        date: paragraph.text("Date").to_owned(),
        valid_until: paragraph.get("Valid-Until").map(str::to_owned),
        by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
        indices,
        sha256,
    })
}

/// Refuses an index past its `Valid-Until`. Also asked of an index that comes from the cache.
///
/// # Errors
/// [`Error::Expired`]; [`Error::BadIndex`] where the date cannot be read.
pub fn check_valid_until(index: &str, valid_until: Option<&str>, policy: Policy) -> Result<(), Error> {
    let Some(until) = valid_until.filter(|_| policy.check_valid_until) else {
        return Ok(());
    };
    let time = httpdate::parse_http_date(&until.replace("UTC", "GMT")).map_err(|_| Error::BadIndex {
        index: index.to_owned(),
        reason: format!("its Valid-Until `{until}` is not a date"),
    })?;
    if time < policy.now {
        return Err(Error::Expired { index: index.to_owned(), until: until.to_owned() });
    }
    Ok(())
}

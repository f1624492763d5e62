//! Keys that sign the test archives. They are made from a seed, so that nothing depends on luck, and are worth nothing.

use std::time::SystemTime;

use pgp::composed::{ArmorOptions, CleartextSignedMessage, SignedKeyDetails, SignedPublicKey};
use pgp::crypto::{ed25519, eddsa_legacy, hash::HashAlgorithm, public_key::PublicKeyAlgorithm};
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, SecretKey, SignatureConfig, SignatureType, Subpacket, SubpacketData,
    UserId,
};
use pgp::ser::Serialize;
use pgp::types::{
    Duration, KeyDetails, KeyVersion, Password, PlainSecretParams, PublicParams, SecretParams, SignedUser,
    Tag, Timestamp,
};

/// When the keys say they were made: long ago on any clock that a test may meet.
const MADE_UNIX_S: u32 = 1_600_000_000;

/// A signing key.
#[derive(Debug, Clone)]
pub struct Key {
    secret: SecretKey,
    certificate: SignedPublicKey,
}

impl Key {
    /// A key that is good for ever. Different seeds make different keys.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self::made(seed, None, false)
    }

    /// A key that expired a day after it was made.
    #[must_use]
    pub fn expired(seed: u8) -> Self {
        Self::made(seed, Some(Duration::from_secs(86_400)), false)
    }

    /// A key with a revocation in its certificate.
    #[must_use]
    pub fn revoked(seed: u8) -> Self {
        Self::made(seed, None, true)
    }

    fn made(seed: u8, lifetime: Option<Duration>, revoked: bool) -> Self {
        let raw = ed25519::SecretKey::try_from_bytes([seed; 32], ed25519::Mode::EdDSALegacy).unwrap();
        let public = PublicParams::EdDSALegacy((&raw).into());
        let made = Timestamp::from_secs(MADE_UNIX_S);
        let inner =
            PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::EdDSALegacy, made, None, public).unwrap();
        let public = PublicKey::from_inner(inner).unwrap();
        let plain = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(raw));
        let secret = SecretKey::new(public.clone(), SecretParams::Plain(plain)).unwrap();

        let user = UserId::from_str(Default::default(), format!("Test archive {seed}")).unwrap();
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        flags.set_certify(true);
        let mut config = config(&secret, SignatureType::CertPositive, made);
        config.hashed_subpackets.push(Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap());
        let lifetime =
            lifetime.map(|lifetime| Subpacket::regular(SubpacketData::KeyExpirationTime(lifetime)));
        config.hashed_subpackets.extend(lifetime.transpose().unwrap());
        let certified =
            config.sign_certification(&secret, &public, &Password::empty(), Tag::UserId, &user).unwrap();

        let mut revocations = Vec::new();
        if revoked {
            let config = self::config(&secret, SignatureType::KeyRevocation, made);
            revocations.push(config.sign_key(&secret, &Password::empty(), &public).unwrap());
        }
        let users = vec![SignedUser::new(user, vec![certified])];
        let details = SignedKeyDetails::new(revocations, Vec::new(), users, Vec::new());
        Self { secret, certificate: SignedPublicKey::new(public, details, Vec::new()) }
    }

    /// The key ring with this certificate alone.
    #[must_use]
    pub fn ring(&self) -> Vec<u8> {
        self.certificate.to_bytes().unwrap()
    }

    /// The fingerprint, as messages print it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.certificate.primary_key.fingerprint().to_string()
    }

    /// Signs a text as `InRelease` files are signed.
    #[must_use]
    pub fn clearsign(&self, text: &str) -> String {
        let now = Timestamp::try_from(SystemTime::now()).unwrap();
        let config = config(&self.secret, SignatureType::Text, now);
        let message = CleartextSignedMessage::new(text, config, &self.secret, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }
}

fn config(key: &SecretKey, kind: SignatureType, made: Timestamp) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, PublicKeyAlgorithm::EdDSALegacy, HashAlgorithm::Sha512);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(made)).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    config
}

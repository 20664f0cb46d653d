//! The DTLS certificate of one connection, and digests of certificates.

use byway_api::{TransportError, TransportErrorKind};
use rtc::crypto::{HashAlgorithm, SignatureScheme};
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};

/// A self-signed P-256 certificate (RFC 8827 requires that curve) and its digest.
///
/// Every connection has its own, so that its channel binding is its own too.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) rtc: RTCCertificate,
    pub(crate) sha256: [u8; 32],
}

impl Certificate {
    pub(crate) fn generate() -> Result<Self, TransportError> {
        Self::try_generate()
            .ok_or_else(|| crate::error(TransportErrorKind::LocalFault, "a DTLS certificate could not be made"))
    }

    fn try_generate() -> Option<Self> {
        let provider = rtc::crypto::default_provider().ok()?;
        let params = CertificateParams::new(vec!["byway".to_owned()]).ok()?;
        let rtc = RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params).ok()?;
        let digests = rtc.get_fingerprints(provider.crypto()).ok()?;
        let sha256 = fingerprint_bytes(&digests.first()?.value)?;
        Some(Self { rtc, sha256 })
    }
}

/// SHA-256 of a certificate in DER.
pub(crate) fn digest(der: &[u8]) -> Option<[u8; 32]> {
    let provider = rtc::crypto::default_provider().ok()?;
    provider.crypto().hash(HashAlgorithm::Sha256, der).ok()?.as_slice().try_into().ok()
}

/// `ab:cd:...` as bytes.
fn fingerprint_bytes(text: &str) -> Option<[u8; 32]> {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_has_its_own_digest() {
        let (a, b) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        assert_ne!(a.sha256, b.sha256);
    }

    #[test]
    fn digests_are_sha256() {
        // FIPS 180-2, appendix B.1
        assert_eq!(digest(b"abc").unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}

//! The secret that signs webhooks, according to Standard Webhooks (www.standardwebhooks.com).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// How many bytes a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that signs alerts: `whsec_` and the base64 of 24 to 64 random bytes. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// Parses the text of a secret; a newline at its end is ignored. The error does not contain the secret.
    pub fn parse(text: &str) -> Result<Secret, String> {
        let want = "want whsec_ and the base64 of 24 to 64 random bytes; make one with: \
                    echo \"whsec_$(openssl rand -base64 32)\"";
        let encoded = text.trim_end_matches(['\n', '\r']).strip_prefix(PREFIX).ok_or(want)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| want)?;
        if !BYTES.contains(&bytes.len()) {
            return Err(want.to_owned());
        }
        Hmac::new_from_slice(&bytes).map(Secret).map_err(|error| error.to_string())
    }

    /// The value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let signed = self.0.clone().chain_update(format!("{id}.{timestamp}.{body}")).finalize();
        format!("v1,{}", STANDARD.encode(signed.into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_secrets_are_accepted() {
        assert!(Secret::parse("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n").is_ok());
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for bad in ["", "whsec_", "whsec_MDEy", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_!!!!", &long] {
            let error = Secret::parse(bad).unwrap_err();
            assert!(error.contains("whsec_ and the base64"), "{error}");
        }
    }
}

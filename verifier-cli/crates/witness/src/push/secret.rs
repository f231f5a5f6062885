//! The secret that a sender and the witness share.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A secret that a sender and the witness share.
///
/// The text itself is not stored, only what is needed to verify it; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret {
    keyed: Hmac<Sha256>,
    /// The HMAC of the secret under itself: comparing HMACs instead of texts is independent of how much of a guess is right.
    own: [u8; 32],
}

impl Secret {
    /// The fewest bytes of a secret.
    pub const MIN: usize = 16;

    /// The secret in a text; a newline at its end is ignored.
    ///
    /// # Errors
    /// A message without the secret: it is under [`Secret::MIN`] bytes, or is not printable ASCII that begins and
    /// ends with no space (no header could carry it).
    pub fn new(text: &str) -> Result<Secret, String> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() < Self::MIN {
            return Err(format!("a secret of {} bytes is too short: want at least {}", line.len(), Self::MIN));
        }
        if line.trim() != line || !line.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err("the secret must be one line of printable ASCII without spaces around it".to_owned());
        }
        let keyed = Hmac::new_from_slice(line.as_bytes()).map_err(|error| error.to_string())?;
        let own = keyed.clone().chain_update(line).finalize().into_bytes().into();
        Ok(Secret { keyed, own })
    }

    /// Whether `text` is the secret.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.keyed.clone().chain_update(text).verify_slice(&self.own).is_ok()
    }

    /// Whether `signature` is the HMAC-SHA256 of `body` under the secret.
    pub(super) fn signed(&self, body: &[u8], signature: &[u8]) -> bool {
        self.keyed.clone().chain_update(body).verify_slice(signature).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

//! Content digests: what ties a plan to the model and cluster that it was made for.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256 of `value`'s JSON form.
///
/// # Panics
/// When `value` cannot be serialised, which plain data always can.
pub fn digest_of<T: Serialize + ?Sized>(value: &T) -> String {
    let json = serde_json::to_vec(value).expect("plain data serialises");
    Sha256::digest(&json).iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

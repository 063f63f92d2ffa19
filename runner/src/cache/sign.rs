//! Signed addresses: HMAC-SHA256 over what is granted and until when.
//!
//! The key is made once per cache folder, so that an address outlives a restart.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{agent::hash::hex, secret::Secret};

/// The block that SHA-256 works on.
const BLOCK: usize = 64;

/// The file of the key, in the cache folder.
const KEY_FILE: &str = ".secret";

/// What an address grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// To read an archive.
    Download,
    /// To write one that is not whole yet.
    Upload,
}

/// Signs addresses and checks them.
#[derive(Debug)]
pub(super) struct Signer {
    key: Secret<Vec<u8>>,
}

impl Signer {
    /// With the key of the cache folder, which is made when there is none.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(KEY_FILE);
        loop {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    if let Some(key) = unhex(text.trim()).filter(|key| key.len() >= 32) {
                        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                        return Ok(Self { key: Secret::new(key) });
                    }
                    // Half a key is of no use to anybody: addresses that were signed with it are lost.
                    fs::remove_file(&path)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            // Another process may make it in this very moment: the first one to put it there wins.
            let mut file = tempfile::Builder::new().prefix(".secret-").tempfile_in(folder)?;
            file.write_all(hex(&random()).as_bytes())?;
            match file.persist_noclobber(&path) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.error),
            }
        }
    }

    /// `exp=…&sig=…` for the archive `id`, until `until` (seconds since 1970).
    pub(super) fn query(&self, grant: Grant, id: u64, until: u64) -> String {
        format!("exp={until}&sig={}", hex(&self.signature(grant, id, until)))
    }

    /// Whether the address was signed here for this and is still good.
    pub(super) fn permits(&self, grant: Grant, id: u64, until: &str, signature: &str, now: u64) -> bool {
        let Ok(until) = until.parse::<u64>() else { return false };
        let Some(shown) = unhex(signature) else { return false };
        same(&self.signature(grant, id, until), &shown) && now < until
    }

    fn signature(&self, grant: Grant, id: u64, until: u64) -> [u8; 32] {
        let prefix = match grant {
            Grant::Download => "",
            Grant::Upload => "upload:",
        };
        hmac(self.key.expose(), format!("{prefix}{id}:{until}").as_bytes())
    }
}

/// 32 bytes that nobody can guess.
fn random() -> [u8; 32] {
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(uuid::Uuid::new_v4().as_bytes()); // 122 random bits each
    }
    digest.finalize().into()
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

/// Whether both are equal, in a time that depends on the lengths only.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |differing, (one, other)| differing | (one ^ other));
    std::hint::black_box(differing) == 0 && one.len() == other.len()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{Grant, Signer, hex, hmac, same};

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        let one = hmac(&[0x0b; 20], b"Hi There");
        assert_eq!(hex(&one), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn an_address_grants_one_thing_for_one_archive_for_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer::open(folder.path()).expect("a key");
        let query = signer.query(Grant::Download, 7, 100);
        let signature = query.rsplit_once('=').expect("a signature").1;
        assert!(signer.permits(Grant::Download, 7, "100", signature, 99));
        assert!(!signer.permits(Grant::Download, 7, "100", signature, 100), "it is over");
        assert!(!signer.permits(Grant::Download, 7, "101", signature, 99), "another time");
        assert!(!signer.permits(Grant::Download, 8, "100", signature, 99), "another archive");
        assert!(!signer.permits(Grant::Upload, 7, "100", signature, 99), "another grant");
        for wrong in ["", "00", "zz", &signature[..62], &format!("{signature}00")] {
            assert!(!signer.permits(Grant::Download, 7, "100", wrong, 99), "{wrong}");
        }
    }

    #[test]
    fn the_key_stays_private_and_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let query = |signer: &Signer| signer.query(Grant::Upload, 1, 2);
        let first = query(&Signer::open(folder.path()).expect("a key"));
        let path = folder.path().join(".secret");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
        assert_eq!(query(&Signer::open(folder.path()).expect("a key")), first);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "half").expect("a broken key");
        assert_ne!(query(&Signer::open(folder.path()).expect("a key")), first);
    }

    #[test]
    fn equal_is_equal_in_length_too() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"ab"));
        assert!(!same(b"", b"a"));
    }
}

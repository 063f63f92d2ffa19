//! Whose requests are answered: the jobs that run now, by their runtime tokens.
//!
//! Tokens are not kept, only their hashes: nothing here can be printed that opens anything, and looking one up takes the
//! same time whatever is shown.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobFacts {
    /// `owner/name`: the scope of everything that the job sees and saves.
    pub(super) repository: String,
    /// The instance that takes the calls of the artifact service; empty: none.
    pub(super) instance: String,
    /// Whether that instance's certificate is taken as it is.
    pub(super) insecure: bool,
    /// The address of this server as the job knows it; empty: whatever the job has called.
    pub(super) public_url: String,
}

/// The jobs that run now.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    all: Mutex<HashMap<[u8; 32], Registered>>,
}

#[derive(Debug)]
struct Registered {
    facts: JobFacts,
    times: usize,
}

impl Tokens {
    /// Lets a job in. A second time only counts, so that the end of the one does not shut out the other.
    pub(super) fn register(&self, token: &str, facts: JobFacts) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(hashed(token)).or_insert(Registered { facts, times: 0 }).times += 1;
    }

    /// Takes one registration back.
    pub(super) fn revoke(&self, token: &str) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let token = hashed(token);
        if let Some(registered) = all.get_mut(&token) {
            registered.times -= 1;
            if registered.times == 0 {
                all.remove(&token);
            }
        }
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &str) -> Option<JobFacts> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&hashed(token)).map(|registered| registered.facts.clone())
    }
}

fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::{JobFacts, Tokens};

    #[test]
    fn a_token_is_known_until_it_was_revoked_as_often_as_registered() {
        let tokens = Tokens::default();
        let facts = |repository: &str| JobFacts {
            repository: repository.to_owned(),
            instance: String::new(),
            insecure: false,
            public_url: String::new(),
        };
        tokens.register("t", facts("o/r"));
        tokens.register("t", facts("somebody/else"));
        tokens.revoke("t");
        assert_eq!(tokens.find("t").expect("known").repository, "o/r", "the first one counts");
        tokens.revoke("t");
        assert_eq!(tokens.find("t"), None);
        tokens.revoke("t");
        assert_eq!(tokens.find(""), None);
        tokens.register("secret-token", facts("o/r"));
        assert!(!format!("{tokens:?}").contains("secret-token"));
    }
}

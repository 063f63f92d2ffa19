//! From a registration token to a runner: the conversation with the server, and what its refusals mean for the one who
//! typed the token.

use std::time::Duration;

use proto::runner::v1::RegisterRequest;

use super::{Backoff, CAPABILITIES, Client, ServerError};
use crate::{label::Label, secret::Secret, settings::Registration};

/// What somebody wants to register.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The instance, as typed.
    pub address: String,
    /// The registration token.
    pub token: Secret<String>,
    /// The runner's name, not empty.
    pub name: String,
    /// All its labels.
    pub labels: Vec<Label>,
    /// One job only.
    pub ephemeral: bool,
}

/// How often to try.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// At least 1.
    pub most: u32,
    /// Between two.
    pub wait: Duration,
    /// Whether something that is no Gitea may become one: in a composed start a proxy often answers first.
    pub patient: bool,
}

/// Registers, and says in one sentence why not.
pub async fn register(client: &Client, wish: &Wish, attempts: Attempts) -> Result<Registration, String> {
    reach(client, wish, attempts).await?;
    let request = RegisterRequest {
        name: wish.name.clone(),
        token: wish.token.expose().clone(),
        version: crate::VERSION.to_owned(),
        labels: wish.labels.iter().map(|label| label.name().to_owned()).collect(),
        ephemeral: wish.ephemeral,
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        ..RegisterRequest::default()
    };
    let runner = client.register(request).await.map_err(|error| advise(&error, &wish.address))?;
    if wish.ephemeral && !runner.ephemeral {
        tracing::warn!(
            "the server is too old for ephemeral runners: this one ends after one job, but stays registered"
        );
    }
    Ok(Registration {
        id: runner.id,
        uuid: runner.uuid,
        name: if runner.name.is_empty() { wish.name.clone() } else { runner.name },
        token: Secret::new(runner.token),
        address: wish.address.clone(),
        labels: wish.labels.iter().map(ToString::to_string).collect(),
        ephemeral: wish.ephemeral,
    })
}

/// Pings until the server is there.
async fn reach(client: &Client, wish: &Wish, attempts: Attempts) -> Result<(), String> {
    let mut backoff = Backoff::new(attempts.wait, attempts.wait);
    let mut tried = 0;
    loop {
        tried += 1;
        let Err(error) = client.ping(&wish.name).await else { return Ok(()) };
        let may_pass =
            matches!(error, ServerError::Transient(_)) || attempts.patient && error.is_worth_retrying();
        if !may_pass || tried >= attempts.most {
            let times = if tried > 1 { format!(" (tried {tried} times)") } else { String::new() };
            return Err(format!("{}{times}", advise(&error, &wish.address)));
        }
        tracing::warn!(%error, address = wish.address, tried, most = attempts.most, "the server does not answer yet");
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// One sentence that says what to do.
pub fn advise(error: &ServerError, address: &str) -> String {
    match error {
        ServerError::Refused(said) if said.contains("registration token not found") => {
            "the server does not know this registration token: copy a fresh one from the page Actions → Runners in the \
             settings of the repository, the organisation or the whole instance"
                .to_owned()
        }
        ServerError::Refused(said) if said.contains("invalidated") => {
            "this registration token has been replaced by a newer one: copy the newest from the page Actions → Runners"
                .to_owned()
        }
        ServerError::Refused(said) if said.contains("of the token not found") => {
            "the repository or organisation that this registration token belongs to is gone: take a token of another one"
                .to_owned()
        }
        ServerError::Refused(said) if said.contains("missing runner token") => {
            "the registration token is empty: give one with --token-file, --token or GITEA_RUNNER_REGISTRATION_TOKEN"
                .to_owned()
        }
        ServerError::Transient(reason) => format!("{address} cannot be reached: {reason}"),
        other => format!("{address}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::advise;
    use crate::server::ServerError;

    #[test]
    fn refusals_say_what_to_do() {
        for said in [
            "runner registration token not found",
            "runner registration token has been invalidated, please use the latest one",
            "owner of the token not found",
        ] {
            let advice = advise(&ServerError::Refused(said.to_owned()), "http://gitea");
            assert!(advice.contains("token") && advice.contains(": "), "{advice}");
            assert_ne!(advice, format!("http://gitea: the server refused: {said}"));
        }
    }
}

//! What the docker command line and ssh say when they cannot, in one sentence that tells what to do.

/// The last line that says something, without the prefixes that every message has.
pub(super) fn last_words(stderr: &str) -> String {
    let line = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    // Around ssh's own words the command line repeats its whole command.
    let line = line.rsplit_once("stderr=").map_or(line, |(_, words)| words);
    line.trim_start_matches("Error response from daemon: ").trim_start_matches("rpc error: ").to_owned()
}

/// Why the engine could not be asked.
pub(super) fn unreachable(stderr: &str) -> String {
    let has = |text: &str| stderr.contains(text);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        "the manager shows another ssh host key than the known one: it was set up anew, or somebody stands between; only if \
         you know which, put its new line into known_hosts, in the pipeline into the secret SSH_KNOWN_HOSTS"
            .to_owned()
    } else if has("Host key verification failed") || has("host key is known") {
        "the manager's ssh host key is not known: put its line (from `ssh-keyscan`, compared by hand) into known_hosts, \
         in the pipeline into the secret SSH_KNOWN_HOSTS"
            .to_owned()
    } else if has("Permission denied (") {
        "the manager refused the ssh key: check SSH_USER, SSH_PRIVATE_KEY and the manager's authorized_keys"
            .to_owned()
    } else if has("Could not resolve hostname")
        || has("Connection refused")
        || has("timed out")
        || has("No route to host")
    {
        format!(
            "the manager cannot be reached: {}; check the address and that its ssh or engine port is open",
            last_words(stderr)
        )
    } else if has("permission denied while trying to connect") {
        "the engine's socket refused us: the user needs to be in the group of the socket".to_owned()
    } else if has("Cannot connect to the Docker daemon") {
        format!("no engine answers: {}; start it, or name one with --host or DOCKER_HOST", last_words(stderr))
    } else {
        format!("the engine could not be asked: {}", last_words(stderr))
    }
}

/// Why the stack file was not accepted.
pub(super) fn stack_file(files: &str, stderr: &str) -> String {
    let words = last_words(stderr);
    if words.contains("required variable") || words.contains("is missing a value") {
        return format!("{files}: {words}; export it before deploying");
    }
    if stderr.contains("is not a docker command") || stderr.contains("unknown command") {
        return "the docker command line is older than 23.0 and has no `docker stack config`: install a newer one".to_owned();
    }
    format!("{files}: {words}; correct it, `docker stack config` shows the file as Swarm reads it")
}

/// A task's error, with what to do about it where that is known.
pub(super) fn task(error: &str) -> String {
    let has = |text: &str| error.contains(text);
    let advice = if has("No such image") || has("pull access denied") || has("manifest unknown") {
        "the node could not get the image: check that the tag was pushed, and log in before deploying with --with-registry-auth"
    } else if has("no suitable node") {
        "no node fits: compare the placement constraints, host ports and reservations with `docker node ls`"
    } else if has("unhealthy container") || has("(unhealthy)") {
        "look at its last lines above, and at what the health check asks"
    } else if has("executable file not found") || has("no such file or directory") {
        "the image has no such program: compare command and entry point"
    } else if has("non-zero exit") {
        "it ended by itself: its last lines are above"
    } else {
        return error.to_owned();
    };
    format!("{error}: {advice}")
}

/// Why Swarm did not take the stack.
pub(super) fn refused(stack: &str, stderr: &str) -> String {
    let has = |text: &str| stderr.contains(text);
    if has("no basic auth credentials") || has("unauthorized") || has("denied: requested access") {
        format!(
            "the registry refused us: {}; run `docker login` with the right user and password before deploying",
            last_words(stderr)
        )
    } else if has("only updates to Labels are allowed") {
        format!(
            "a secret or config of stack {stack} has new content under its old name, which Swarm does not allow: \
             put a hash of the content into its `name:` ({})",
            last_words(stderr)
        )
    } else if has("could not be found") && has("network") {
        format!(
            "{}; create it with `docker network create --driver overlay --attachable NAME`",
            last_words(stderr)
        )
    } else {
        format!("Swarm did not take stack {stack}: {}", last_words(stderr))
    }
}

/// Whether it is the way to the manager that failed.
pub(super) fn is_lost(stderr: &str) -> bool {
    ["error during connect", "Cannot connect to the Docker daemon"].iter().any(|text| stderr.contains(text))
}

/// Whether trying again is right: two writers met.
pub(super) fn is_out_of_sequence(stderr: &str) -> bool {
    stderr.contains("update out of sequence")
}

#[cfg(test)]
mod tests {
    use super::{is_out_of_sequence, refused, stack_file, task, unreachable};

    #[test]
    fn a_task_error_keeps_swarms_words_and_says_what_to_do() {
        let text = task("No such image: 127.0.0.1:5000/task-api:abc");
        assert!(text.starts_with("No such image: ") && text.contains("--with-registry-auth"), "{text}");
        assert_eq!(task("something new"), "something new");
    }

    #[test]
    fn a_changed_host_key_is_not_called_unknown() {
        let text =
            unreachable("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! ... Host key verification failed.");
        assert!(text.contains("another ssh host key"), "{text}");
    }

    #[test]
    fn an_unknown_host_key_names_the_secret() {
        let text = unreachable("error during connect: ... stderr=Host key verification failed.\r\n");
        assert!(text.contains("SSH_KNOWN_HOSTS"), "{text}");
    }

    #[test]
    fn ssh_is_quoted_without_the_command_around_it() {
        let text = unreachable(
            "error during connect: Get \"http://docker/info\": command [ssh -T -- box docker system dial-stdio] has exited \
             with exit status 255: stderr=ssh: connect to host box port 9: Connection refused\n",
        );
        let wanted =
            "the manager cannot be reached: ssh: connect to host box port 9: Connection refused; check";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let text = stack_file(
            "stack.yml",
            "invalid interpolation format for services.web.image: \"required variable TAG is missing a value: \"",
        );
        assert!(text.starts_with("stack.yml: ") && text.contains("TAG"), "{text}");
    }

    #[test]
    fn changed_secrets_say_what_to_do() {
        let text = refused(
            "shop",
            "failed to update secret shop_db: Error response from daemon: rpc error: code = InvalidArgument desc = only updates to Labels are allowed",
        );
        assert!(text.contains("hash"), "{text}");
    }

    #[test]
    fn two_writers_are_recognised() {
        assert!(is_out_of_sequence(
            "failed to update service x: rpc error: code = Unknown desc = update out of sequence"
        ));
    }
}

//! The way to the manager by ssh, with a real sshd: what a user reads when it does not lead there.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Ended, SERVE, service, swarm::available};

const SSHD: &str = "/usr/sbin/sshd";

/// An sshd on loopback with keys of its own.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        for key in ["host", "user", "stranger"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        fs::copy(at("user.pub"), at("authorized")).expect("authorized keys");
        // sshd wants this folder of the system's.
        drop(fs::create_dir_all("/run/sshd"));
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f", "/dev/null", "-h", &at("host"), "-p", &port.to_string()])
            .args([
                "-o",
                "ListenAddress=127.0.0.1",
                "-o",
                "UsePAM=no",
                "-o",
                "StrictModes=no",
                "-o",
                "PidFile=none",
            ])
            .args([
                "-o",
                &format!("AuthorizedKeysFile={}", at("authorized")),
                "-o",
                "PasswordAuthentication=no",
            ])
            .args(["-o", &format!("SetEnv=PATH={}", std::env::var("PATH").expect("a PATH"))])
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, port, folder }
    }

    /// A dry run over ssh with this key, these known hosts and this port.
    fn ask(&self, key: &str, known: &str, port: u16) -> Ended {
        let folder = tempfile::tempdir().expect("a folder");
        let known_hosts = folder.path().join("known_hosts");
        fs::write(&known_hosts, known).expect("known hosts");
        // ssh reads the home folder of the user database: a program in front of it names our settings instead.
        let front = folder.path().join("ssh");
        let options = format!(
            "-F /dev/null -p {port} -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={}",
            self.folder.path().join(key).display(),
            known_hosts.display()
        );
        fs::write(&front, format!("#!/bin/sh\nexec /usr/bin/ssh {options} \"$@\"\n")).expect("the front");
        fs::set_permissions(&front, fs::Permissions::from_mode(0o755)).expect("the front's mode");
        let stack = folder.path().join("stack.yml");
        fs::write(&stack, service(SERVE, "")).expect("the stack file");
        let user = Command::new("id").arg("-un").output().expect("id runs");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
        let output = Command::new(env!("CARGO_BIN_EXE_esteira"))
            .args([
                "deploy",
                "esteira-test-ssh",
                "--dry-run",
                "--compose-file",
                &stack.to_string_lossy(),
                "--host",
            ])
            .arg(format!("ssh://{}@127.0.0.1", String::from_utf8_lossy(&user.stdout).trim()))
            .env("PATH", path)
            .env_remove("GITHUB_ACTIONS")
            .output()
            .expect("the program runs");
        Ended::of(&output)
    }

    /// The line of known_hosts that is right.
    fn known(&self) -> String {
        let key = fs::read_to_string(self.folder.path().join("host.pub")).expect("the host key");
        format!("[127.0.0.1]:{} {key}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_way_by_ssh_works_or_says_what_is_wrong_with_it() {
    if !available("deploy: over ssh") {
        return;
    }
    if !Path::new(SSHD).exists() {
        let line = "skipped: deploy: over ssh: no sshd here (Debian: openssh-server)\n";
        drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
        return;
    }
    let server = Server::start();
    let good = server.ask("user", &server.known(), server.port);
    assert_eq!(good.code, 0, "{good}");
    assert!(good.text.contains("web: would be created"), "{good}");

    let unknown = server.ask("user", "", server.port);
    assert_eq!(unknown.code, 7, "{unknown}");
    assert!(unknown.last().contains("not known") && unknown.last().contains("SSH_KNOWN_HOSTS"), "{unknown}");

    let stranger = fs::read_to_string(server.folder.path().join("stranger.pub")).expect("a key");
    let changed = server.ask("user", &format!("[127.0.0.1]:{} {stranger}", server.port), server.port);
    assert_eq!(changed.code, 7, "{changed}");
    assert!(changed.last().contains("another ssh host key"), "{changed}");

    let refused = server.ask("stranger", &server.known(), server.port);
    assert_eq!(refused.code, 7, "{refused}");
    assert!(refused.last().contains("SSH_PRIVATE_KEY"), "{refused}");

    let closed = server.ask("user", &server.known(), 9);
    assert_eq!(closed.code, 7, "{closed}");
    assert!(closed.last().contains("cannot be reached"), "{closed}");
}

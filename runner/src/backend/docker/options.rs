//! `options`: every flag of `docker create`, and what becomes of each.
//!
//! A flag is applied, or needs a grant of the configuration, or is ignored with a row that says so, or is refused. One
//! that is in none of these lists fails the job: nothing is dropped silently.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    ResourcesBlkioWeightDevice, ResourcesUlimits, ThrottleDevice,
};

use super::{
    units::{bytes, count, nanoseconds, processors},
    words,
};

/// What kind of container the options are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The job's own: its entry point is the agent.
    Job,
    /// A service or a docker action.
    Beside,
}

/// What the text asks for.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Everything that is a field of the request.
    pub(super) body: ContainerCreateBody,
    /// `-e`, in order.
    pub(super) env: Vec<String>,
    /// `-v`, for the check against `valid_volumes`.
    pub(super) volumes: Vec<String>,
    /// `--mount`, for the same check.
    pub(super) mounts: Vec<String>,
    /// `-p`.
    pub(super) ports: Vec<String>,
    /// `--network-alias`.
    pub(super) aliases: Vec<String>,
    /// `--platform`.
    pub(super) platform: Option<String>,
    /// `--pull`.
    pub(super) pull: Option<Pull>,
    /// Rows about what was ignored.
    pub(super) notes: Vec<String>,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    Always,
    Missing,
    Never,
}

/// What is done with a flag that is known.
enum Rule {
    /// Applied.
    Apply,
    /// Applied when the configuration has `container.privileged: true`.
    Grant,
    /// Not applied; the row says why.
    Ignore(&'static str),
    /// The job fails; the sentence says why.
    Refuse(&'static str),
}

const OURS: &str = "the runner decides it";
const NO_TERMINAL: &str = "jobs have no terminal and no input";
const ONLY_WINDOWS: &str = "it is for Windows containers";

/// The rule of a flag, and whether it is a switch (takes no value unless written `--flag=value`).
fn rule(name: &str) -> Option<(Rule, bool)> {
    use Rule::{Apply, Grant, Ignore, Refuse};
    Some(match name {
        "add-host"
        | "blkio-weight"
        | "blkio-weight-device"
        | "cap-drop"
        | "cpu-period"
        | "cpu-quota"
        | "cpu-shares"
        | "cpus"
        | "cpuset-cpus"
        | "cpuset-mems"
        | "device-read-bps"
        | "device-read-iops"
        | "device-write-bps"
        | "device-write-iops"
        | "dns"
        | "dns-option"
        | "dns-search"
        | "domainname"
        | "entrypoint"
        | "env"
        | "expose"
        | "group-add"
        | "health-cmd"
        | "health-interval"
        | "health-retries"
        | "health-start-interval"
        | "health-start-period"
        | "health-timeout"
        | "hostname"
        | "label"
        | "memory"
        | "memory-reservation"
        | "memory-swap"
        | "memory-swappiness"
        | "mount"
        | "network-alias"
        | "pids-limit"
        | "platform"
        | "publish"
        | "pull"
        | "shm-size"
        | "stop-signal"
        | "stop-timeout"
        | "storage-opt"
        | "tmpfs"
        | "ulimit"
        | "user"
        | "volume" => (Apply, false),
        "init" | "no-healthcheck" | "publish-all" | "read-only" => (Apply, true),
        // Annotations steer runtimes: with some they choose programs and mounts of the host.
        "annotation" | "cap-add" | "cgroup-parent" | "cgroupns" | "cpu-rt-period" | "cpu-rt-runtime"
        | "device" | "device-cgroup-rule" | "gpus" | "ipc" | "oom-score-adj" | "pid" | "runtime"
        | "security-opt" | "sysctl" | "userns" | "uts" | "volumes-from" => (Grant, false),
        "oom-kill-disable" | "privileged" => (Grant, true),
        "name" | "network" | "workdir" | "cidfile" | "restart" | "log-driver" | "log-opt" => {
            (Ignore(OURS), false)
        }
        "rm" | "detach" => (Ignore(OURS), true),
        "attach" | "detach-keys" => (Ignore(NO_TERMINAL), false),
        "interactive" | "tty" | "sig-proxy" => (Ignore(NO_TERMINAL), true),
        "quiet" | "disable-content-trust" | "help" => {
            (Ignore("it is about the command line's own output"), true)
        }
        "ip" | "ip6" | "link" | "link-local-ip" | "mac-address" => {
            (Ignore("addresses are given by the engine; services are reached by their name"), false)
        }
        "kernel-memory" => (Ignore("engines have dropped it"), false),
        "cpu-count" | "cpu-percent" | "io-maxbandwidth" | "io-maxiops" | "isolation" => {
            (Ignore(ONLY_WINDOWS), false)
        }
        "env-file" | "label-file" => (
            Refuse("it would read a file of the runner's machine; write the values into the workflow"),
            false,
        ),
        "volume-driver" => (Refuse("driver options are not checked by `container.valid_volumes`"), false),
        "use-api-socket" => (
            Refuse("the engine's socket enters a job only by `container.docker_host` of the configuration"),
            true,
        ),
        _ => return None,
    })
}

/// The long name of a short or an older one.
fn long(name: &str) -> &str {
    match name {
        "a" => "attach",
        "c" => "cpu-shares",
        "d" => "detach",
        "e" => "env",
        "h" => "hostname",
        "i" => "interactive",
        "l" => "label",
        "m" => "memory",
        "p" => "publish",
        "P" => "publish-all",
        "q" => "quiet",
        "t" => "tty",
        "u" => "user",
        "v" => "volume",
        "w" => "workdir",
        "net" => "network",
        "net-alias" => "network-alias",
        "dns-opt" => "dns-option",
        other => other,
    }
}

impl Options {
    /// Reads a text of `role`; `privileged` is `container.privileged` of the configuration: it makes the container
    /// privileged unless the text says `--privileged=false`. Errors are sentences.
    pub(super) fn parse(text: &str, role: Role, privileged: bool) -> Result<Self, String> {
        let mut options = Self::default();
        if privileged {
            options.body.host_config.get_or_insert_default().privileged = Some(true);
        }
        options.add(text, role, privileged)?;
        Ok(options)
    }

    /// Reads another text on top: lists grow, single values are replaced.
    pub(super) fn add(&mut self, text: &str, role: Role, privileged: bool) -> Result<(), String> {
        let fail = |reason: String| format!("the container's options '{text}' cannot be used: {reason}");
        let mut words = words::split(text).map_err(fail)?.into_iter();
        while let Some(word) = words.next() {
            for (name, value) in flags(&word, &mut words).map_err(fail)? {
                self.one(&name, &value, role, privileged).map_err(fail)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, name: &str, value: &str, role: Role, privileged: bool) -> Result<(), String> {
        let (rule, switch) = rule(name).ok_or_else(|| unknown(name))?;
        if switch && !matches!(value, "true" | "false") {
            return Err(format!("--{name} takes true or false, not '{value}'"));
        }
        match rule {
            Rule::Apply if name == "entrypoint" && role == Role::Job => {
                self.notes.push(format!("The container option --{name} is ignored: {OURS}."));
                Ok(())
            }
            Rule::Apply => self.apply(name, value),
            Rule::Grant if privileged => self.apply(name, value),
            Rule::Grant if switch && value == "false" => Ok(()),
            Rule::Grant => Err(format!(
                "--{name} needs `container.privileged: true` in the configuration of this runner"
            )),
            Rule::Ignore(why) => {
                self.notes.push(format!("The container option --{name} is ignored: {why}."));
                Ok(())
            }
            Rule::Refuse(why) => Err(format!("--{name} is refused: {why}")),
        }
    }

    fn apply(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || Some(value.to_owned());
        let on = value == "true";
        let body = &mut self.body;
        let host: &mut HostConfig = body.host_config.get_or_insert_default();
        match name {
            "add-host" => push(&mut host.extra_hosts, extra_host(value)?),
            "annotation" => insert(&mut host.annotations, value),
            "blkio-weight" => {
                host.blkio_weight = Some(value.parse().map_err(|_| format!("'{value}' is no weight"))?);
            }
            "blkio-weight-device" => {
                let (path, weight) = device_value(value)?;
                let weight = weight.parse().map_err(|_| format!("'{value}' is no weight"))?;
                let device = ResourcesBlkioWeightDevice { path: Some(path), weight: Some(weight) };
                host.blkio_weight_device.get_or_insert_default().push(device);
            }
            "device-read-bps" => host.blkio_device_read_bps.get_or_insert_default().push(throttle(value, bytes)?),
            "device-write-bps" => host.blkio_device_write_bps.get_or_insert_default().push(throttle(value, bytes)?),
            "device-read-iops" => host.blkio_device_read_iops.get_or_insert_default().push(throttle(value, count)?),
            "device-write-iops" => host.blkio_device_write_iops.get_or_insert_default().push(throttle(value, count)?),
            "cap-add" => push(&mut host.cap_add, value.to_owned()),
            "cap-drop" => push(&mut host.cap_drop, value.to_owned()),
            "cgroup-parent" => host.cgroup_parent = text(),
            "cgroupns" => {
                host.cgroupns_mode = Some(match value {
                    "host" => HostConfigCgroupnsModeEnum::HOST,
                    "private" => HostConfigCgroupnsModeEnum::PRIVATE,
                    _ => return Err(format!("--cgroupns takes host or private, not '{value}'")),
                });
            }
            "cpu-period" => host.cpu_period = Some(count(value)?),
            "cpu-quota" => host.cpu_quota = Some(count(value)?),
            "cpu-rt-period" => host.cpu_realtime_period = Some(count(value)?),
            "cpu-rt-runtime" => host.cpu_realtime_runtime = Some(count(value)?),
            "cpu-shares" => host.cpu_shares = Some(count(value)?),
            "cpus" => host.nano_cpus = Some(processors(value)?),
            "cpuset-cpus" => host.cpuset_cpus = text(),
            "cpuset-mems" => host.cpuset_mems = text(),
            "device" => host.devices.get_or_insert_default().push(device(value)),
            "device-cgroup-rule" => push(&mut host.device_cgroup_rules, value.to_owned()),
            "dns" => push(&mut host.dns, value.to_owned()),
            "dns-option" => push(&mut host.dns_options, value.to_owned()),
            "dns-search" => push(&mut host.dns_search, value.to_owned()),
            "domainname" => body.domainname = text(),
            "entrypoint" => body.entrypoint = Some(vec![value.to_owned()]),
            "env" if value.contains('=') => self.env.push(value.to_owned()),
            "env" => self.notes.push(format!(
                "The container option -e {value} is ignored: it has no value, and the runner's own environment is not read."
            )),
            "expose" => push(&mut body.exposed_ports, port_name(value)),
            "gpus" => host.device_requests.get_or_insert_default().push(gpus(value)?),
            "group-add" => push(&mut host.group_add, value.to_owned()),
            "health-cmd" => {
                health(body).test = Some(vec!["CMD-SHELL".to_owned(), value.to_owned()]);
            }
            "health-interval" => health(body).interval = Some(nanoseconds(value)?),
            "health-retries" => health(body).retries = Some(count(value)?),
            "health-start-interval" => health(body).start_interval = Some(nanoseconds(value)?),
            "health-start-period" => health(body).start_period = Some(nanoseconds(value)?),
            "health-timeout" => health(body).timeout = Some(nanoseconds(value)?),
            "no-healthcheck" if on => health(body).test = Some(vec!["NONE".to_owned()]),
            "no-healthcheck" => {}
            "hostname" => body.hostname = text(),
            "init" => host.init = Some(on),
            "ipc" => host.ipc_mode = text(),
            "label" => insert(&mut body.labels, value),
            "memory" => host.memory = Some(bytes(value)?),
            "memory-reservation" => host.memory_reservation = Some(bytes(value)?),
            "memory-swap" => host.memory_swap = Some(if value == "-1" { -1 } else { bytes(value)? }),
            "memory-swappiness" => host.memory_swappiness = Some(count(value)?),
            "mount" => self.mounts.push(value.to_owned()),
            "network-alias" => self.aliases.push(value.to_owned()),
            "oom-kill-disable" => host.oom_kill_disable = Some(on),
            "oom-score-adj" => host.oom_score_adj = Some(count(value)?),
            "pid" => host.pid_mode = text(),
            "pids-limit" => host.pids_limit = Some(count(value)?),
            "platform" => self.platform = text(),
            "privileged" => host.privileged = Some(on),
            "publish" => self.ports.push(value.to_owned()),
            "publish-all" => host.publish_all_ports = Some(on),
            "pull" => {
                self.pull = Some(match value {
                    "always" => Pull::Always,
                    "missing" => Pull::Missing,
                    "never" => Pull::Never,
                    _ => return Err(format!("--pull takes always, missing or never, not '{value}'")),
                });
            }
            "read-only" => host.readonly_rootfs = Some(on),
            "runtime" => host.runtime = text(),
            "security-opt" => push(&mut host.security_opt, value.to_owned()),
            "shm-size" => host.shm_size = Some(bytes(value)?),
            "stop-signal" => body.stop_signal = text(),
            "stop-timeout" => body.stop_timeout = Some(count(value)?),
            "storage-opt" => insert(&mut host.storage_opt, value),
            "sysctl" => insert(&mut host.sysctls, value),
            "tmpfs" => {
                let (path, how) = value.split_once(':').unwrap_or((value, ""));
                host.tmpfs.get_or_insert_default().insert(path.to_owned(), how.to_owned());
            }
            "ulimit" => host.ulimits.get_or_insert_default().push(ulimit(value)?),
            "user" => body.user = text(),
            "userns" => host.userns_mode = text(),
            "uts" => host.uts_mode = text(),
            "volume" => self.volumes.push(value.to_owned()),
            "volumes-from" => push(&mut host.volumes_from, value.to_owned()),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    format!("--{name} is no option of `docker create` that this runner knows")
}

/// The flags in one word, with their values: `--name=value`, `--name value`, `-n value`, `-nvalue`, `-it`.
fn flags(word: &str, words: &mut impl Iterator<Item = String>) -> Result<Vec<(String, String)>, String> {
    let mut next = |name: &str| words.next().ok_or_else(|| format!("--{name} has no value"));
    if let Some(word) = word.strip_prefix("--") {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let name = long(name).to_owned();
        let (_, switch) = rule(&name).ok_or_else(|| unknown(&name))?;
        let value = match value {
            Some(value) => value,
            None if switch => "true".to_owned(),
            None => next(&name)?,
        };
        return Ok(vec![(name, value)]);
    }
    let letters = word.strip_prefix('-').filter(|letters| !letters.is_empty());
    let letters = letters.ok_or_else(|| format!("'{word}' stands where an option should"))?;
    let mut found = Vec::new();
    for (at, letter) in letters.char_indices() {
        let mut buffer = [0; 4];
        let short: &str = letter.encode_utf8(&mut buffer);
        let name = long(short).to_owned();
        let known = rule(&name).filter(|_| name != short);
        let (_, switch) = known
            .ok_or_else(|| format!("-{letter} is no option of `docker create` that this runner knows"))?;
        if switch {
            found.push((name, "true".to_owned()));
            continue;
        }
        let rest = &letters[at + letter.len_utf8()..];
        let value = match rest.strip_prefix('=').unwrap_or(rest) {
            "" => next(&name)?,
            attached => attached.to_owned(),
        };
        found.push((name, value));
        break;
    }
    Ok(found)
}

fn push(list: &mut Option<Vec<String>>, value: String) {
    list.get_or_insert_default().push(value);
}

fn insert(map: &mut Option<HashMap<String, String>>, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.get_or_insert_default().insert(name.to_owned(), value.to_owned());
}

fn health(body: &mut ContainerCreateBody) -> &mut HealthConfig {
    body.healthcheck.get_or_insert_default()
}

fn extra_host(value: &str) -> Result<String, String> {
    let (name, address) = value
        .split_once(['=', ':'])
        .filter(|(name, address)| !name.is_empty() && !address.is_empty())
        .ok_or_else(|| format!("--add-host takes name:address, not '{value}'"))?;
    Ok(format!("{name}:{}", address.trim_matches(['[', ']'])))
}

fn device_value(value: &str) -> Result<(String, &str), String> {
    let (path, rest) = value.split_once(':').ok_or_else(|| format!("'{value}' is not device:value"))?;
    Ok((path.to_owned(), rest))
}

fn throttle(value: &str, read: fn(&str) -> Result<i64, String>) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_value(value)?;
    Ok(ThrottleDevice { path: Some(path), rate: Some(read(rate)?) })
}

fn device(value: &str) -> DeviceMapping {
    let mut parts = value.split(':');
    let host = parts.next().unwrap_or_default().to_owned();
    let (inside, rights) = match (parts.next(), parts.next()) {
        (Some(rights), None) if !rights.starts_with('/') => (host.clone(), rights.to_owned()),
        (Some(inside), rights) => (inside.to_owned(), rights.unwrap_or("rwm").to_owned()),
        (None, _) => (host.clone(), "rwm".to_owned()),
    };
    DeviceMapping {
        path_on_host: Some(host),
        path_in_container: Some(inside),
        cgroup_permissions: Some(rights),
    }
}

fn gpus(value: &str) -> Result<DeviceRequest, String> {
    let gpu = DeviceRequest { capabilities: Some(vec![vec!["gpu".to_owned()]]), ..DeviceRequest::default() };
    if value == "all" {
        return Ok(DeviceRequest { count: Some(-1), ..gpu });
    }
    if let Some(ids) = value.trim_matches('"').strip_prefix("device=") {
        let ids = ids.split(',').map(str::to_owned).collect();
        return Ok(DeviceRequest { device_ids: Some(ids), ..gpu });
    }
    let number = value.strip_prefix("count=").unwrap_or(value);
    Ok(DeviceRequest { count: Some(if number == "all" { -1 } else { count(number)? }), ..gpu })
}

fn ulimit(value: &str) -> Result<ResourcesUlimits, String> {
    let wrong = || format!("--ulimit takes name=soft[:hard], not '{value}'");
    let (name, limits) = value.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(number(soft)?), hard: Some(number(hard)?) })
}

/// `80` as `80/tcp`.
pub(super) fn port_name(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

#[cfg(test)]
mod tests {
    use super::{Options, Pull, Role, rule};

    fn job(text: &str) -> Result<Options, String> {
        Options::parse(text, Role::Job, false)
    }

    #[test]
    fn the_common_ones_are_applied() {
        let options = job(
            "--cpus 1.5 --memory=512m -u 1000:1000 --hostname box --add-host=a:1.2.3.4 --shm-size 64m --init \
             --ulimit nofile=10:20 --cap-drop ALL --read-only --tmpfs /tmp:size=1m -e A=1 -eB=2 -v /x:/y --pull always",
        )
        .expect("usable");
        let host = options.body.host_config.expect("set");
        assert_eq!((host.nano_cpus, host.memory), (Some(1_500_000_000), Some(512 << 20)));
        assert_eq!(options.body.user.as_deref(), Some("1000:1000"));
        assert_eq!(host.extra_hosts, Some(vec!["a:1.2.3.4".to_owned()]));
        assert_eq!((host.readonly_rootfs, host.init), (Some(true), Some(true)));
        assert_eq!(host.ulimits.expect("set")[0].hard, Some(20));
        assert_eq!(options.env, ["A=1", "B=2"]);
        assert_eq!((options.volumes, options.pull), (vec!["/x:/y".to_owned()], Some(Pull::Always)));
    }

    #[test]
    fn a_privileged_configuration_makes_privileged_containers_unless_the_options_say_no() {
        for (text, wanted) in
            [("", true), ("--init", true), ("--privileged=false --cap-add SYS_PTRACE", false)]
        {
            let options = Options::parse(text, Role::Job, true).expect("granted");
            let host = options.body.host_config.expect("set");
            assert_eq!(host.privileged, Some(wanted), "{text}");
        }
        assert!(job("").expect("usable").body.host_config.is_none_or(|host| host.privileged.is_none()));
    }

    #[test]
    fn a_grant_is_named_and_cannot_be_walked_around() {
        for text in [
            "--privileged",
            "--privileged=true",
            "--pid host",
            "--pid=host",
            "--ipc host",
            "--uts host",
            "--userns=host",
            "--cgroupns host",
            "--cap-add SYS_ADMIN",
            "--security-opt seccomp=unconfined",
            "--device /dev/sda",
            "--device-cgroup-rule 'a *:* rwm'",
            "--gpus all",
            "--volumes-from other",
            "--runtime runc",
            "--cgroup-parent /",
            "--sysctl a=b",
            "--oom-kill-disable",
            "--oom-score-adj -500",
            "--cpu-rt-runtime 1",
            "--annotation run.oci.handler=x",
            "-it --pid host",
            "--init --cap-add=ALL",
            "-e A=--x --ipc host",
        ] {
            let reason = job(text).expect_err(text);
            assert!(reason.contains("`container.privileged: true`"), "{reason}");
            Options::parse(text, Role::Job, true).expect("granted");
        }
    }

    #[test]
    fn what_is_ignored_has_a_row_and_what_is_unknown_fails() {
        let options = job("--name x --network=host -w /y --rm -it --entrypoint sh -e HOME").expect("usable");
        assert_eq!(options.notes.len(), 8, "{:?}", options.notes);
        assert!(options.env.is_empty(), "the daemon's environment is never read");
        for text in ["--env-file /etc/passwd", "--label-file=/x", "--use-api-socket", "--volume-driver x"] {
            assert!(job(text).expect_err(text).contains("is refused"));
        }
        for text in ["--no-such", "-x", "word", "--cpus", "--cpus many", "-", "--init=maybe", "'"] {
            assert!(job(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_may_have_its_own_entry_point() {
        let options = Options::parse("--entrypoint /bin/x", Role::Beside, false).expect("usable");
        assert_eq!(options.body.entrypoint, Some(vec!["/bin/x".to_owned()]));
    }

    #[test]
    fn later_texts_win_and_lists_grow() {
        let mut options = job("--memory 1g -e A=1").expect("usable");
        options.add("--memory 2g -e B=2", Role::Job, false).expect("usable");
        assert_eq!(options.env, ["A=1", "B=2"]);
        assert_eq!(options.body.host_config.expect("set").memory, Some(2 << 30));
    }

    #[test]
    fn every_flag_of_the_command_line_has_a_rule() {
        // `docker create --help`, engine 28.
        let all = "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns \
            cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus \
            cpuset-mems device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops \
            disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add \
            health-cmd health-interval health-retries health-start-interval health-start-period health-timeout help \
            hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link \
            link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount \
            name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged \
            publish publish-all pull quiet read-only restart rm runtime security-opt shm-size stop-signal stop-timeout \
            storage-opt sysctl tmpfs tty ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir";
        for name in all.split_whitespace() {
            assert!(rule(name).is_some(), "--{name}");
        }
    }
}

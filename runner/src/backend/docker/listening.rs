//! Services without a health check: they are up for the engine as soon as their process is there, and their port opens
//! later. Steps begin so early here that a first step would find it closed, so it is waited for, for a while.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use proto::agent::v1::Reach;

use crate::backend::{Notes, link::Link};

/// The longest wait. A service that never listens costs a job this much, no more.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a service should listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    service: String,
    address: String,
    ports: Vec<u16>,
    /// An image may expose ports that it serves only when told to: one of them is enough. Those that the workflow
    /// names are all meant.
    any: bool,
}

impl Listener {
    /// What a started container says about itself; `None` when it has no TCP port or no address of its own.
    pub(super) fn of(service: &str, inspected: &ContainerInspectResponse) -> Option<Self> {
        let bound = inspected.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
        let mut ports: Vec<u16> = bound.into_iter().flatten().filter_map(|(port, _)| tcp(port)).collect();
        let any = ports.is_empty();
        if any {
            let exposed = inspected.config.as_ref().and_then(|config| config.exposed_ports.as_ref());
            ports = exposed.into_iter().flatten().filter_map(|port| tcp(port)).collect();
        }
        ports.sort_unstable();
        let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
        let address = networks.values().find_map(|endpoint| {
            let addresses = [&endpoint.ip_address, &endpoint.global_ipv6_address];
            addresses.into_iter().flatten().find(|address| !address.is_empty()).cloned()
        })?;
        (!ports.is_empty()).then(|| Self { service: service.to_owned(), address, ports, any })
    }

    /// Waits, at most for `limit`; what is still closed then is said, and the job goes on.
    pub(super) async fn wait<N: Notes>(&self, link: &Link, limit: Duration, notes: &N) {
        let ask = Reach {
            address: self.address.clone(),
            ports: self.ports.iter().copied().map(u32::from).collect(),
            any: self.any,
            limit_ms: u64::try_from(limit.min(LONGEST).as_millis()).unwrap_or(u64::MAX),
        };
        match link.reach(ask).await {
            Ok(reached) if reached.closed.is_empty() => {}
            Ok(reached) => {
                let closed: Vec<String> = reached.closed.iter().map(u32::to_string).collect();
                let row = format!(
                    "The service {} does not listen on port {} yet. The job goes on; give the service a health check \
                     to have it waited for.",
                    self.service,
                    closed.join(", "),
                );
                notes.note(&row).await;
            }
            // Whoever uses the link next says that it is gone.
            Err(error) => tracing::debug!(service = self.service, %error, "a service was not waited for"),
        }
    }
}

fn tcp(port: &str) -> Option<u16> {
    port.strip_suffix("/tcp").unwrap_or(port).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Listener;

    fn listener(host: serde_json::Value, exposed: serde_json::Value) -> Option<Listener> {
        let inspected = serde_json::json!({
            "HostConfig": {"PortBindings": host},
            "Config": {"ExposedPorts": exposed},
            "NetworkSettings": {"Networks": {"net": {"IPAddress": "172.20.0.3"}}},
        });
        Listener::of("web", &serde_json::from_value(inspected).expect("an answer of the engine"))
    }

    #[test]
    fn ports_of_the_workflow_are_all_meant_and_one_of_the_images_is_enough() {
        let both = serde_json::json!({"80/tcp": {}, "53/udp": {}, "443/tcp": {}});
        let bound = serde_json::json!({"8080/tcp": [{"HostIp": "", "HostPort": "80"}]});
        let image = listener(serde_json::json!({}), both.clone()).expect("one");
        assert_eq!((image.ports.as_slice(), image.any), ([80, 443].as_slice(), true));
        let workflow = listener(bound, both).expect("one");
        assert_eq!((workflow.ports.as_slice(), workflow.any), ([8080].as_slice(), false));
    }

    #[test]
    fn without_a_tcp_port_there_is_nothing_to_wait_for() {
        assert_eq!(listener(serde_json::json!({}), serde_json::json!({"53/udp": {}})), None);
        assert_eq!(listener(serde_json::Value::Null, serde_json::Value::Null), None);
    }
}

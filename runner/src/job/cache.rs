//! Which cache the steps are told of: the one that they reach.
//!
//! A runner cannot know from outside which of its addresses a container gets to: networks, firewalls and engines on other
//! machines stand between. So the job's agent is asked, from inside, before the first step. That costs milliseconds when
//! the first address answers, and a job that reaches none is told so once, instead of waiting in every step that caches.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    backend::{Collected, FileOut, JobEnv},
    cache::Offer,
    log::JobLog,
};

/// The longest table of routes that is read.
const ROUTES: u64 = 64 << 10;

/// The variables by which clients find the cache. Says in the log why there is none where one was to be expected.
pub(super) async fn services<E: JobEnv>(offer: &Offer, place: &E, log: &JobLog) -> Vec<(String, String)> {
    match offer {
        Offer::None => Vec::new(),
        Offer::Unavailable(reason) => {
            log.warning(&format!("There is no cache for this job: {reason}")).await;
            Vec::new()
        }
        Offer::There { url, results } => variables(url, results.clone()),
        Offer::Here { hosts, port, v2, guess } => match reachable(hosts, *port, *guess, place).await {
            Ok(host) => {
                let base = Offer::base(&host, *port);
                variables(&base, v2.then(|| base.clone()))
            }
            Err(tried) => {
                let sentence = format!(
                    "The runner's cache cannot be reached from this job ({tried}), so the job goes on without one. \
                     `cache.host` and `cache.port` in the runner's configuration name an address that jobs get to."
                );
                log.warning(&sentence).await;
                Vec::new()
            }
        },
    }
}

fn variables(base: &str, results: Option<String>) -> Vec<(String, String)> {
    let mut variables = vec![("ACTIONS_CACHE_URL".to_owned(), format!("{base}/"))];
    if let Some(results) = results {
        variables.push(("ACTIONS_RESULTS_URL".to_owned(), results));
        variables.push(("ACTIONS_CACHE_SERVICE_V2".to_owned(), "true".to_owned()));
    }
    variables
}

/// The first host that answers; the error is what was tried.
async fn reachable<E: JobEnv>(hosts: &[String], port: u16, guess: bool, place: &E) -> Result<String, String> {
    let mut tried: Vec<String> = Vec::new();
    for host in hosts {
        // A name was given by the operator, and a place that cannot be asked may well reach it.
        let Ok(address) = host.parse::<IpAddr>() else { return Ok(host.clone()) };
        match place.reaches(address, port).await {
            Some(false) => tried.push(format!("{host}:{port}")),
            Some(true) | None => return Ok(host.clone()),
        }
    }
    if guess
        && place.layout().in_container
        && let Some(gateway) = gateway(place).await
        && !hosts.contains(&gateway.to_string())
    {
        match place.reaches(gateway.into(), port).await {
            Some(false) => tried.push(format!("{gateway}:{port}")),
            Some(true) | None => return Ok(gateway.to_string()),
        }
    }
    if tried.is_empty() {
        return Err("this machine has no address".to_owned());
    }
    Err(format!("nothing answers at {}", tried.join(" or ")))
}

/// The way out of the job's network: with most engines that is the machine itself.
async fn gateway<E: JobEnv>(place: &E) -> Option<Ipv4Addr> {
    let routes = FileOut { path: "/proc/net/route".to_owned(), limit: ROUTES, within: None };
    match place.read(routes).await {
        Ok(Collected::Content(text)) => default_gateway(&String::from_utf8_lossy(&text)),
        _ => None,
    }
}

/// The gateway of the route to everywhere, from the kernel's table: hexadecimal, in the byte order of the machine.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, ..] = fields.as_slice() else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::default_gateway;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_names_the_gateway() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
                     eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n";
        assert_eq!(default_gateway(table).map(|address| address.to_string()), Some("172.17.0.1".into()));
        assert_eq!(default_gateway("Iface\tDestination\tGateway\n"), None);
        assert_eq!(default_gateway("x\neth0 00000000 zz"), None);
    }
}

//! `ports`: `80`, `8080:80`, `127.0.0.1:8080:80/udp`, `8000-8002:80-82`.

use std::collections::HashMap;

use bollard::models::{PortBinding, PortMap};

/// What is exposed and to what it is bound. Errors are sentences.
pub(super) fn parse(ports: &[String]) -> Result<(Vec<String>, PortMap), String> {
    let mut bindings: PortMap = HashMap::new();
    for text in ports {
        let wrong = || format!("the port '{text}' is not [[address:]port:]port[/protocol]");
        let (text, protocol) = text.trim().rsplit_once('/').unwrap_or((text.trim(), "tcp"));
        if !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(wrong());
        }
        let (outside, inside) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, outside) = match outside.rsplit_once(':') {
            Some((address, port)) => (address.trim_matches(['[', ']']), port),
            None => ("", outside),
        };
        let inside = range(inside).ok_or_else(wrong)?;
        let outside = if outside.is_empty() { None } else { Some(range(outside).ok_or_else(wrong)?) };
        // A range outside for one port inside: the engine chooses.
        let (count, whole) = match outside {
            Some((first, last)) if inside.0 == inside.1 && first != last => {
                (1, Some(format!("{first}-{last}")))
            }
            Some((first, last)) if last - first != inside.1 - inside.0 => return Err(wrong()),
            _ => (inside.1 - inside.0 + 1, None),
        };
        for at in 0..count {
            let host_port = match (&whole, outside) {
                (Some(whole), _) => Some(whole.clone()),
                (None, Some((first, _))) => Some((first + at).to_string()),
                (None, None) => None,
            };
            let host_ip = (!address.is_empty()).then(|| address.to_owned());
            let list = bindings.entry(format!("{}/{protocol}", inside.0 + at)).or_default();
            list.get_or_insert_default().push(PortBinding { host_ip, host_port });
        }
    }
    let mut exposed: Vec<String> = bindings.keys().cloned().collect();
    exposed.sort();
    Ok((exposed, bindings))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last - first < 1000).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_form() {
        let show = |text: &str| {
            let (exposed, map) = parse(&[text.to_owned()]).expect(text);
            let bound = exposed.iter().map(|port| {
                let binding = &map[port].as_ref().expect("bound")[0];
                format!(
                    "{}:{}",
                    binding.host_ip.as_deref().unwrap_or(""),
                    binding.host_port.as_deref().unwrap_or("")
                )
            });
            exposed
                .iter()
                .cloned()
                .zip(bound)
                .map(|(port, to)| format!("{port}={to}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(show("80"), "80/tcp=:");
        assert_eq!(show("8080:80"), "80/tcp=:8080");
        assert_eq!(show("127.0.0.1:53:53/udp"), "53/udp=127.0.0.1:53");
        assert_eq!(show("[::1]:80:80"), "80/tcp=::1:80");
        assert_eq!(show("127.0.0.1::80"), "80/tcp=127.0.0.1:");
        assert_eq!(show("8000-8001:80-81"), "80/tcp=:8000 81/tcp=:8001");
        assert_eq!(show("8000-8010:80"), "80/tcp=:8000-8010");
    }

    #[test]
    fn anything_else_is_named() {
        for text in ["", "x", "80/http", "1-3:1-2", "99999", "9-1", "1-65535"] {
            let reason = parse(&[text.to_owned()]).expect_err(text);
            assert!(reason.contains("the port"), "{reason}");
        }
    }
}

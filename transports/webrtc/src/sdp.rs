//! What a peer's session description and late candidates may say.

use std::net::IpAddr;

/// A peer may offer at most this many candidates, late ones included.
pub(crate) const MAX_CANDIDATES: usize = 16;

/// Which of a peer's candidates are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    /// Whether loopback addresses make sense: only if we have one ourselves.
    pub(crate) loopback: bool,
    /// How many more are taken.
    pub(crate) left: usize,
}

impl Filter {
    pub(crate) const fn new(loopback: bool) -> Self {
        Self { loopback, left: MAX_CANDIDATES }
    }

    /// True if the candidate attribute (without `a=`) is one that this transport checks: UDP, with
    /// an IP address of one host. Names are not resolved, and nothing is sent to groups.
    pub(crate) fn admit(&mut self, attribute: &str) -> bool {
        let mut fields = attribute.trim().trim_start_matches("candidate:").split_ascii_whitespace().skip(2);
        let (Some(protocol), Some(_priority), Some(ip), Some(port)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let Ok(ip) = ip.parse::<IpAddr>() else { return false };
        let one_host = match ip {
            IpAddr::V4(ip) => !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
        };
        let usable = one_host
            && protocol.eq_ignore_ascii_case("udp")
            && !ip.is_multicast()
            && !ip.is_unspecified()
            && (self.loopback || !ip.is_loopback())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        let admitted = usable && self.left > 0;
        self.left -= usize::from(admitted);
        admitted
    }

    /// The description without the candidates that are not used.
    pub(crate) fn apply(&mut self, description: &str) -> String {
        let mut clean = String::with_capacity(description.len());
        for line in description.lines() {
            if line.strip_prefix("a=candidate:").is_some_and(|candidate| !self.admit(candidate)) {
                continue;
            }
            clean.push_str(line);
            clean.push_str("\r\n");
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_udp_addresses_are_checked() {
        for (attribute, want) in [
            ("candidate:1 1 udp 1 192.0.2.1 5000 typ host", true),
            ("candidate:1 1 UDP 1 2001:db8::1 5000 typ host", true),
            ("candidate:1 1 udp 1 127.0.0.1 5000 typ host", false),
            ("candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active", false),
            ("candidate:1 1 udp 1 4b2c9f.local 5000 typ host", false),
            ("candidate:1 1 udp 1 224.0.0.1 5000 typ host", false),
            ("candidate:1 1 udp 1 255.255.255.255 5000 typ host", false),
            ("candidate:1 1 udp 1 0.0.0.0 5000 typ host", false),
            ("candidate:1 1 udp 1 ff02::1 5000 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.1 0 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.1 70000 typ host", false),
            ("candidate:1 1 udp", false),
            ("", false),
        ] {
            assert_eq!(Filter::new(false).admit(attribute), want, "{attribute}");
        }
        assert!(Filter::new(true).admit("candidate:1 1 udp 1 127.0.0.1 5000 typ host"));
    }

    #[test]
    fn the_surplus_is_cut_from_a_description() {
        let mut sdp = "v=0\r\n".to_owned();
        for port in 1..100 {
            sdp += &format!("a=candidate:1 1 udp 1 192.0.2.1 {port} typ host\r\n");
        }
        let clean = Filter::new(false).apply(&sdp);
        assert_eq!(clean.matches("a=candidate").count(), MAX_CANDIDATES);
        assert!(clean.starts_with("v=0\r\n"));
    }
}

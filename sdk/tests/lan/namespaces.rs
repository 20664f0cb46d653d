//! Machines on a LAN, made of network namespaces. Nothing of this machine's own network is touched.

use std::process::Command;

/// Namespaces that are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    names: Vec<String>,
    /// How many of them are machines with a member; the rest is the switch.
    machines: usize,
}

impl Namespaces {
    /// So many machines on a switch, each with one address; or why that cannot be had here.
    pub(crate) fn on_a_switch(machines: usize) -> Result<Self, String> {
        let mut lan = Self { names: Vec::new(), machines };
        for n in 0..machines {
            lan.add(&format!("{n}"))?;
        }
        let switch = lan.add("lan")?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for (n, machine) in lan.names[..machines].iter().enumerate() {
            let (port, address) = (format!("port{n}"), format!("10.77.0.{}/24", n + 1));
            ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", machine])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", machine, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", machine, "link", "set", "eth0", "up"])?;
        }
        Ok(lan)
    }

    /// One machine with nothing but its loopback.
    pub(crate) fn alone() -> Result<Self, String> {
        let mut lan = Self { names: Vec::new(), machines: 1 };
        lan.add("alone")?;
        Ok(lan)
    }

    /// The machines.
    pub(crate) fn names(&self) -> &[String] {
        &self.names[..self.machines]
    }

    fn add(&mut self, what: &str) -> Result<String, String> {
        let name = format!("byway-{}-{what}", std::process::id());
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(args).output().map_err(|e| format!("there is no program `ip`: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(format!("no network namespaces here: ip {}: {}", args.join(" "), why.trim()))
}

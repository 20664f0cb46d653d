//! The binary: its first line, its configuration, its end.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(args: &[&str]) -> Killed {
    let child = Command::new(env!("CARGO_BIN_EXE_byway-registry"))
        .args(args)
        .env("BYWAY_REGISTRY_DB", ":memory:")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Killed(child.unwrap())
}

fn first_line(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

#[test]
fn it_tells_its_port_and_stops_when_stdin_closes() {
    let mut registry = registry(&["--open", "--listen", "127.0.0.1:0", "--exit-with-stdin"]);
    let line = first_line(&mut registry.0);
    let address = line["listening"].as_str().unwrap().to_owned();
    assert_eq!(line["url"], format!("http://{address}"));
    assert!(!address.ends_with(":0"));
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(registry.0.stdin.take());
    assert!(registry.0.wait().unwrap().success());
}

#[test]
fn a_wrong_command_line_says_what_to_do() {
    for (args, expected) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--config", "/does/not/exist.toml"], "/does/not/exist.toml"),
        (&["--public-url", "registry.example", "--listen", "127.0.0.1:0"], "public URL"),
        (&["--opne"], "--open"),
    ] {
        let mut registry = registry(args);
        assert!(!registry.0.wait().unwrap().success());
        let mut said = String::new();
        registry.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn help_is_for_people() {
    let mut registry = registry(&["--help"]);
    let mut said = String::new();
    registry.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(registry.0.wait().unwrap().success());
    assert!(said.contains("Examples:") && said.contains("--exit-with-stdin"), "{said}");
}

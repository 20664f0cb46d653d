//! The command line: flags, then the environment, then a file.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Database};
use crate::server::{ServeError, serve};

const EXAMPLES: &str = "\
Examples:
  byway-registry --open                        open networks, on 127.0.0.1:8080, in ./byway-registry.db
  byway-registry --open --listen 0.0.0.0:8080 --public-url https://registry.example.com --trust-proxy
                                               behind a reverse proxy that ends TLS
  byway-registry --open --listen 127.0.0.1:0 --db :memory:
                                               for a test: the first line on stdout tells the port
  BYWAY_REGISTRY_OPEN=true byway-registry --config /etc/byway-registry.toml

The first line on stdout is JSON: {\"listening\":\"127.0.0.1:8080\",\"url\":\"http://127.0.0.1:8080\"}.
Everything else goes to stderr; RUST_LOG=debug tells more. SIGINT and SIGTERM stop it gracefully.

The file has the flags' names: open = true, listen = \"0.0.0.0:8080\", public-url = \"...\".
A flag wins over the environment, the environment over the file.";

#[derive(Debug, Parser)]
#[command(
    name = "byway-registry",
    version,
    about = "The reference registry of Byway: who announced themselves, and signalling. It never keeps a message.",
    after_help = EXAMPLES
)]
struct Cli {
    /// A TOML file with any of the settings below
    #[arg(long, env = "BYWAY_REGISTRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,

    /// Stop when stdin is closed: for a parent process that must not leave this one behind
    #[arg(long)]
    exit_with_stdin: bool,
}

/// What can be set in all three places.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "BYWAY_REGISTRY_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// The URL under which clients reach the registry. Needed behind a proxy, NAT or a host name: proofs
    /// are bound to it [default: the address of the connection]
    #[arg(long, env = "BYWAY_REGISTRY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,

    /// The database file, or :memory: [default: byway-registry.db]
    #[arg(long, env = "BYWAY_REGISTRY_DB", value_name = "FILE")]
    db: Option<String>,

    /// Serve open networks, in which everybody may name themselves. Without it every call answers 403
    #[arg(long, env = "BYWAY_REGISTRY_OPEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    open: Option<bool>,

    /// Take the client's address from X-Forwarded-For. Only behind a proxy that sets it
    #[arg(long, env = "BYWAY_REGISTRY_TRUST_PROXY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    trust_proxy: Option<bool>,

    /// Calls a minute of one device; 0 is no limit [default: 10]
    #[arg(long, env = "BYWAY_REGISTRY_CALLS_PER_MINUTE", value_name = "N")]
    calls_per_minute: Option<u32>,

    /// Calls of one device at once [default: 20]
    #[arg(long, env = "BYWAY_REGISTRY_BURST", value_name = "N")]
    burst: Option<u32>,

    /// Calls a minute without a proof, and socket connects, of one IP address; 0 is no limit [default: 120]
    #[arg(long, env = "BYWAY_REGISTRY_IP_CALLS_PER_MINUTE", value_name = "N")]
    ip_calls_per_minute: Option<u32>,

    /// These at once [default: 240]
    #[arg(long, env = "BYWAY_REGISTRY_IP_BURST", value_name = "N")]
    ip_burst: Option<u32>,

    /// Failed proofs a minute of one IP address; 0 is no limit [default: 60]
    #[arg(long, env = "BYWAY_REGISTRY_FAILED_AUTHS_PER_MINUTE", value_name = "N")]
    failed_auths_per_minute: Option<u32>,

    /// Signalling sockets at once [default: 10000]
    #[arg(long, env = "BYWAY_REGISTRY_MAX_SOCKETS", value_name = "N")]
    max_sockets: Option<usize>,

    /// Devices with a record, in all networks together [default: 100000]
    #[arg(long, env = "BYWAY_REGISTRY_MAX_DEVICES", value_name = "N")]
    max_devices: Option<usize>,
}

/// Why [`run`] could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The command line is not understood; displaying it tells what is. `--help` and `--version` come as
    /// this too.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file cannot be read.
    #[error("the configuration file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The registry does not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Stdout or the signals do not work.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Settings {
    /// What is not set here comes from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            public_url: self.public_url.or(other.public_url),
            db: self.db.or(other.db),
            open: self.open.or(other.open),
            trust_proxy: self.trust_proxy.or(other.trust_proxy),
            calls_per_minute: self.calls_per_minute.or(other.calls_per_minute),
            burst: self.burst.or(other.burst),
            ip_calls_per_minute: self.ip_calls_per_minute.or(other.ip_calls_per_minute),
            ip_burst: self.ip_burst.or(other.ip_burst),
            failed_auths_per_minute: self.failed_auths_per_minute.or(other.failed_auths_per_minute),
            max_sockets: self.max_sockets.or(other.max_sockets),
            max_devices: self.max_devices.or(other.max_devices),
        }
    }

    fn into_config(self) -> Config {
        let mut config = Config::default();
        let db = self.db.unwrap_or_else(|| "byway-registry.db".to_owned());
        config.database = if db == ":memory:" { Database::Memory } else { Database::File(db.into()) };
        config.public_url = self.public_url;
        config.open = self.open.unwrap_or_default();
        config.trust_proxy = self.trust_proxy.unwrap_or_default();
        set(&mut config.listen, self.listen);
        set(&mut config.limits.calls_per_minute, self.calls_per_minute);
        set(&mut config.limits.burst, self.burst);
        set(&mut config.limits.ip_calls_per_minute, self.ip_calls_per_minute);
        set(&mut config.limits.ip_burst, self.ip_burst);
        set(&mut config.limits.failed_auths_per_minute, self.failed_auths_per_minute);
        set(&mut config.limits.devices, self.max_devices);
        set(&mut config.hub.max_sockets, self.max_sockets);
        config
    }
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// The configuration of a command line, its environment and its file.
fn configure(cli: Cli) -> Result<Config, RunError> {
    let file = match &cli.config {
        None => Settings::default(),
        Some(path) => {
            let wrong = |why: String| RunError::File { path: path.clone(), why };
            let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
            toml::from_str(&text).map_err(|e| wrong(e.to_string()))?
        }
    };
    Ok(cli.settings.or(file).into_config())
}

/// What the binary does: serves until SIGINT or SIGTERM (or, with `--exit-with-stdin`, until stdin is
/// closed). `args` begins with the program's name.
///
/// # Errors
/// [`RunError`] with what to change.
pub async fn run<I, T>(args: I) -> Result<(), RunError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(args)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Whoever embeds this may have a subscriber already.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
    let exit_with_stdin = cli.exit_with_stdin;
    let registry = serve(configure(cli)?).await?;
    let line = serde_json::json!({ "listening": registry.addr().to_string(), "url": registry.url() });
    writeln!(io::stdout(), "{line}")?;
    io::stdout().flush()?;
    tokio::select! {
        stopped = signalled() => stopped?,
        () = stdin_closed(), if exit_with_stdin => {}
    }
    registry.shutdown().await;
    Ok(())
}

#[cfg(unix)]
async fn signalled() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(not(unix))]
async fn signalled() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// On a thread of its own: a read of stdin cannot be cancelled, and must not hold up the exit.
async fn stdin_closed() {
    let (closed, wait) = oneshot::channel();
    let reader = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut rest = [0; 256];
        while io::stdin().read(&mut rest).is_ok_and(|n| n > 0) {}
        let _ = closed.send(());
    });
    match reader {
        Ok(_) => drop(wait.await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from([&["byway-registry"], args].concat()).unwrap()
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.toml");
        std::fs::write(&path, "open = true\nlisten = \"0.0.0.0:1\"\nburst = 5\npublic-url = \"https://h\"\n").unwrap();
        let config =
            configure(parse(&["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:2", "--db", ":memory:"]))
                .unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:2");
        assert_eq!((config.open, config.limits.burst), (true, 5));
        assert_eq!(config.public_url.as_deref(), Some("https://h"));
        assert_eq!(config.database, Database::Memory);
        assert_eq!(config.limits.calls_per_minute, 10, "a default");
        let off = configure(parse(&["--config", path.to_str().unwrap(), "--open", "false"])).unwrap();
        assert!(!off.open);
    }

    #[test]
    fn a_mistyped_setting_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.toml");
        std::fs::write(&path, "opne = true\n").unwrap();
        let e = configure(parse(&["--config", path.to_str().unwrap()])).unwrap_err().to_string();
        assert!(e.contains("opne") && e.contains("registry.toml"), "{e}");
        assert!(configure(parse(&["--config", "/nowhere"])).is_err());
    }

    #[test]
    fn help_explains_itself() {
        let help = Cli::try_parse_from(["byway-registry", "--help"]).unwrap_err().to_string();
        for word in ["Examples:", "--open", "BYWAY_REGISTRY_LISTEN", "--exit-with-stdin", ":memory:"] {
            assert!(help.contains(word), "{word}");
        }
    }
}

//! Options, the run, Ctrl-C.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::narrator::Narrator;
use crate::report::{Failure, Outcome, Result, summary};
use crate::scenario::{ALL, Scenario};
use crate::stage::Stage;
use crate::{janitor, member, server};

/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// Byway's main job in one command: separate processes, real WebRTC, real SQLite, a registry that dies.
#[derive(Debug, Parser)]
#[command(name = "byway-tour", version)]
struct Options {
    /// Print one JSON object per scenario, and one at the end
    #[arg(long)]
    json: bool,
    /// Print the names of the scenarios
    #[arg(long)]
    list: bool,
    /// Play only this scenario; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also write what the processes log to DIRECTORY/SCENARIO/*.log
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

/// What the binary does.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let role = args.get(1).and_then(|role| role.to_str()).map(str::to_owned);
    // A child's arguments begin with its role, which stands where a program's name stands.
    let rest = || args[1..].to_vec();
    match role.as_deref() {
        Some("registry") => child(server::registry(rest())),
        Some("echo-bot") => child(logged(server::echo_bot(rest()))),
        Some("member") => child(logged(member::run(member::Options::parse_from(rest())))),
        Some("janitor") => args.get(2).map_or(ExitCode::FAILURE, |directory| janitor::run(Path::new(directory))),
        _ => on_runtime(tour(Options::parse())),
    }
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A blocking read of stdin may still be going on.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("byway-tour: {error}");
            ExitCode::FAILURE
        }
    }
}

fn child(work: impl Future<Output = ExitCode>) -> ExitCode {
    on_runtime(work)
}

async fn logged(work: impl Future<Output = ExitCode>) -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    work.await
}

async fn tour(options: Options) -> ExitCode {
    if options.list {
        for scenario in ALL {
            println!("{:<26} {}", scenario.name, scenario.title);
        }
        return ExitCode::SUCCESS;
    }
    let scenarios = match chosen(&options.only) {
        Ok(scenarios) => scenarios,
        Err(failure) => {
            eprintln!("byway-tour: {failure}");
            return ExitCode::from(2);
        }
    };
    let directory = match tempfile::Builder::new().prefix("byway-tour-").tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("byway-tour: no directory for the profiles: {error}");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        code = play(&options, &scenarios, &directory) => code,
        code = interrupted() => code,
    }
    // The processes are killed and the directory is removed as their owners are dropped.
}

fn chosen(names: &[String]) -> Result<Vec<(usize, &'static Scenario)>> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|scenario| scenario.name != **name)) {
        return Err(Failure::new(format!("there is no scenario {unknown:?}; --list names them")));
    }
    let wanted = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(ALL.iter().enumerate().map(|(n, scenario)| (n + 1, *scenario)).filter(|(_, s)| wanted(s)).collect())
}

async fn play(options: &Options, scenarios: &[(usize, &'static Scenario)], directory: &TempDir) -> ExitCode {
    let started = Instant::now();
    let _janitor = match janitor::start(directory.path()) {
        Ok(janitor) => janitor,
        Err(error) => {
            eprintln!("byway-tour: the janitor does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut narrator = Narrator::new(options.json);
    narrator.opening(scenarios.len());
    let mut outcomes = Vec::new();
    for (number, scenario) in scenarios {
        narrator.scene(*number, scenario.title, scenario.name, scenario.why);
        let outcome = play_one(scenario, directory.path().join(scenario.name), narrator, options.logs.as_deref()).await;
        narrator.verdict(&outcome);
        if options.json {
            println!("{}", outcome.to_json());
        }
        outcomes.push(outcome);
    }
    narrator.closing(&outcomes, started.elapsed());
    if options.json {
        println!("{}", summary(&outcomes));
    }
    if outcomes.iter().all(Outcome::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play_one(scenario: &'static Scenario, directory: PathBuf, narrator: Narrator, logs: Option<&Path>) -> Outcome {
    let started = Instant::now();
    let result = match Stage::new(directory, narrator) {
        Ok(mut stage) => {
            let played = timeout(LIMIT, (scenario.play)(&mut stage)).await;
            let result = played.unwrap_or_else(|_| Err(Failure::new("it has not ended in time")));
            if let Err(failure) = &result {
                eprintln!("{}: {failure}\n{}", scenario.name, stage.autopsy().await);
            }
            let saved = logs.map_or(Ok(()), |logs| stage.save_logs(&logs.join(scenario.name)));
            stage.clear().await;
            result.and_then(|finding| saved.map(|()| finding))
        }
        Err(failure) => Err(failure),
    };
    Outcome { scenario: scenario.name, took: started.elapsed(), result }
}

/// Ctrl-C, or a polite kill.
async fn interrupted() -> ExitCode {
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
    eprintln!("byway-tour: interrupted");
    ExitCode::from(130)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        for (n, scenario) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(n + 1).all(|other| other.name != scenario.name), "{}", scenario.name);
            assert!(
                scenario.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn a_name_that_is_none_is_an_error() {
        assert!(chosen(&["no-such".to_owned()]).is_err());
        assert_eq!(chosen(&[ALL[2].name.to_owned()]).unwrap()[0].0, 3);
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len());
    }
}

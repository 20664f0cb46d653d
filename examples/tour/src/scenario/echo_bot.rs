//! The echo bot, as its own process.

use std::ffi::OsString;
use std::time::Instant;

use super::Scenario;
use crate::ensure;
use crate::narrator::ms;
use crate::report::{Finding, Result};
use crate::stage::{NETWORK, Plan, Stage, first_line};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "echo-bot",
    title: "The echo bot answers",
    why: "A bot is a member like any other: some twenty lines, and no address, port or webhook. This is the one of \
          examples/echo-bot, as its binary starts it.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    stage.start_registry().await?;
    let mut args: Vec<OsString> = vec!["echo-bot".into(), "--json".into()];
    for (name, value) in [("--user", "echo"), ("--network", NETWORK), ("--registry", &stage.proxy()?.url())] {
        args.extend([name.into(), value.into()]);
    }
    args.extend(["--profile".into(), stage.profile("echo").into()]);
    let (bot, mut lines) = stage.start_process("echo", &args)?;
    let ready = first_line("the echo bot", &mut lines).await?;
    ensure!(ready["event"] == "ready", "the echo bot says {ready}");
    stage.narrator.fact(format!("the bot runs, {bot}"));
    let before = stage.proxy()?.mark();
    let alice = stage.start_announced(&Plan::with_registry("alice")).await?;
    let since = Instant::now();
    let id = alice.send("echo", "hello, echo").await?;
    let answer = alice.message("hello, echo").await?;
    let took = since.elapsed();
    ensure!(answer.from == "echo", "the answer is of {}", answer.from);
    ensure!(answer.reply_to.as_deref() == Some(&id), "it answers {:?} and not {id}", answer.reply_to);
    alice.wait_read(&id).await?;
    stage.narrator.fact(format!("Alice: hello, echo. The bot, {} later: {}", ms(took), answer.text));
    let status = bot.finish().await?;
    ensure!(status.success(), "the bot has ended with {status}");
    let calls = stage.proxy()?.since(before);
    Ok(Finding::new(calls.answered(), format!("answered after {}, the question is Read", ms(took))))
}

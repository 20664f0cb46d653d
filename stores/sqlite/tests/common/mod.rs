//! A real second process: this test executable, run again with one ignored test.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use byway_api::{
    InboxRow, InboxState, Load, MessageId, OutboxRow, OutboxState, PeerId, RouteRow, RouteStore, Row, SeenRow,
    SignalAddress, StoreError, UserId, WallTime, Write,
};
use byway_store_sqlite::SqliteStore;

/// What the second process does, and where.
const ROLE: &str = "BYWAY_STORE_ROLE";
const FILE: &str = "BYWAY_STORE_FILE";

#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) role: &'a str,
    pub(crate) file: &'a Path,
}

/// The command that runs `test` of this executable with the task.
pub(crate) fn child_command(test: &str, task: Task<'_>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_task(&mut command, test, task);
    command
}

/// Adds arguments and environment to a command that already starts this executable.
pub(crate) fn with_task(command: &mut Command, test: &str, task: Task<'_>) {
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, task.role).env(FILE, task.file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
}

/// Starts the command; what it prints is read line by line.
pub(crate) fn start(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// Reads the next line that starts with `prefix`; `None` at the end or if the line was cut off.
pub(crate) fn next_line(output: &mut impl BufRead, prefix: &str) -> Option<String> {
    loop {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let line = line.strip_suffix('\n')?;
        // libtest prints the name of a test without ending the line.
        if let Some(at) = line.find(prefix) {
            return Some(line[at + prefix.len()..].to_owned());
        }
    }
}

pub(crate) const ACK: &str = "acknowledged ";
pub(crate) const HELD: &str = "the store is open";
pub(crate) const REFUSED: &str = "refused: ";

/// The body of the ignored test.
pub(crate) fn child() {
    let role = std::env::var(ROLE).unwrap();
    let file = PathBuf::from(std::env::var_os(FILE).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "hold" => hold(&file).await,
            "open" => match SqliteStore::open(&file) {
                Ok(store) => {
                    say(HELD);
                    store.close().await.unwrap();
                }
                Err(error) => say(&format!("{REFUSED}{:?} {error}", error.kind())),
            },
            "append until an error" => append_until_an_error(&file).await,
            other => panic!("no role {other}"),
        }
    });
}

/// Past libtest, which keeps what `println!` prints.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn hold(file: &Path) {
    let store = SqliteStore::open(file).unwrap();
    say(HELD);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    store.close().await.unwrap();
}

/// Tells the first error, and what the next calls say.
async fn append_until_an_error(file: &Path) {
    let store = SqliteStore::open(file).unwrap();
    for n in 0.. {
        let mut batch = vec![relaxed(n)];
        batch.extend(durable(n));
        match store.apply(&batch).await {
            Ok(_) => say(&format!("{ACK}{n}")),
            Err(error) => {
                say(&format!("{REFUSED}{:?} {error}", error.kind()));
                break;
            }
        }
    }
    for error in [store.apply(&durable(0)).await.err(), store.load(Load::Outbox, None, 1).await.err()] {
        say(&format!("{REFUSED}{:?}", error.map(|e: StoreError| (e.kind(), e.to_string()))));
    }
    let _ = store.close().await;
}

pub(crate) fn user() -> UserId {
    UserId::new("bob").unwrap()
}

pub(crate) fn peer() -> PeerId {
    PeerId::from_bytes([7; 32])
}

pub(crate) fn message(n: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(id)
}

pub(crate) fn outbox(n: u64) -> OutboxRow {
    let content = Bytes::from(vec![n.to_le_bytes()[0]; 100 + usize::try_from(n % 5).unwrap() * 3000]);
    OutboxRow {
        message: message(n),
        to_user: user(),
        to_peer: Some(peer()),
        epoch: 1,
        seq: n + 1,
        size: u32::try_from(content.len()).unwrap(),
        content: Some(content),
        reply_to: None,
        queued_at: WallTime::from_millis(1),
        expires_at: WallTime::from_millis(2),
        retry_count: 0,
        next_try: WallTime::from_millis(1),
        state: OutboxState::Queued,
    }
}

/// An outbox row, an inbox row and its mark: they are there together or not at all.
pub(crate) fn durable(n: u64) -> Vec<Write> {
    let row = InboxRow {
        from_peer: peer(),
        epoch: n,
        seq: 1,
        message: message(n),
        from_user: user(),
        content: Some(Bytes::from_static(b"hello")),
        size: 5,
        reply_to: None,
        sent_at: WallTime::from_millis(1),
        received_at: WallTime::from_millis(1),
        expires_at: WallTime::from_millis(2),
        late: false,
        state: InboxState::New,
    };
    let seen = SeenRow { from_peer: peer(), epoch: n, floor: 2, above: vec![], used_at: WallTime::from_millis(1) };
    vec![Write::Append(outbox(n)), Write::Receive { row, seen }]
}

/// A route that the durable batch of the same number makes durable with it.
pub(crate) fn relaxed(n: u64) -> Write {
    Write::Route(RouteRow {
        user: user(),
        peer: peer(),
        address: SignalAddress::new(&format!("mem:{n}")).unwrap(),
        last_seen: WallTime::from_millis(1),
        success_rate: 0.5,
        path: String::new(),
    })
}

pub(crate) async fn all(store: &SqliteStore, what: Load) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = store.load(what.clone(), after, 4096).await.unwrap();
        let last = page.len() < 4096;
        after = page.last().map(|(key, _)| key.clone());
        rows.extend(page.into_iter().map(|(_, row)| row));
        if last {
            return rows;
        }
    }
}

/// Everything acknowledged is there, with what was relaxed before it, and no batch is there in part.
pub(crate) async fn expect_acknowledged(store: &SqliteStore, acknowledged: &BTreeSet<u64>, context: &str) {
    let number = |id: MessageId| u64::from_be_bytes(id.as_bytes()[..8].try_into().unwrap());
    let sent: BTreeSet<_> = all(store, Load::Outbox)
        .await
        .into_iter()
        .map(|row| if let Row::Outbox(row) = row { number(row.message) } else { panic!("{row:?}") })
        .collect();
    let got: BTreeSet<_> = all(store, Load::Inbox)
        .await
        .into_iter()
        .map(|row| if let Row::Inbox(row) = row { number(row.message) } else { panic!("{row:?}") })
        .collect();
    let seen: BTreeSet<_> = all(store, Load::Seen)
        .await
        .into_iter()
        .map(|row| if let Row::Seen(row) = row { row.epoch } else { panic!("{row:?}") })
        .collect();
    let routes: BTreeSet<_> = all(store, Load::Routes { user: None })
        .await
        .into_iter()
        .map(|row| if let Row::Route(row) = row { row.address.rest().parse().unwrap() } else { panic!("{row:?}") })
        .collect();
    let lost: Vec<_> = acknowledged.difference(&sent).collect();
    assert!(lost.is_empty(), "{context}: acknowledged and lost: {lost:?}");
    assert_eq!((&sent, &sent), (&got, &seen), "{context}: half a batch is there");
    let lost: Vec<_> = sent.difference(&routes).collect();
    assert!(lost.is_empty(), "{context}: relaxed writes before a durable one are lost: {lost:?}");
    for n in acknowledged {
        let rows = store.load(Load::OutboxContent(message(*n)), None, 2).await.unwrap();
        assert_eq!(rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), [Row::Outbox(outbox(*n))], "{context}");
    }
}

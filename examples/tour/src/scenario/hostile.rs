//! Wrong keys, bad records and garbage, against the registry and against a member.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::Scenario;
use crate::child::{PATIENCE, Person};
use crate::ensure;
use crate::proxy::{Call, Kind, Mark};
use crate::report::{Failure, Finding, Result};
use crate::stage::{Plan, Stage};

/// What nobody sends who means well. No valid request, no valid frame.
const GARBAGE: &[u8] = b"\xff\x00\x13\x37 this is no frame \xde\xad\xbe\xef\r\n\r\n";
/// The longest answer that is read.
const ANSWER: u64 = 64 << 10;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostile",
    title: "Wrong keys, bad records, garbage",
    why: "Mallory listens on the wire between Alice and the registry and has seen her credential, her proofs and her \
          record. She uses them, alters them, mixes them with Bob's, and sends garbage; to the registry and to the \
          socket that Bob serves himself. Each attempt is refused with a reason, and nobody else notices.",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Finding> {
    let [alice, bob] =
        super::met(stage, &Plan::with_registry("alice"), &Plan::with_registry("bob").listening()).await?;
    let registry = stage.proxy()?.upstream().ok_or_else(|| Failure::new("the registry has no address"))?;
    let listener = listener_of(stage, &bob).await?;
    let mut refused = 0;

    stage.narrator.say("To the registry, over HTTP:");
    let of_alice = announced(stage, &alice).await?;
    let of_bob = announced(stage, &bob).await?;
    for Attempt { what, credential, proof, body, status, code } in attempts(&of_alice, &of_bob)? {
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {registry}\r\nconnection: close\r\n", of_alice.path());
        for (name, value) in [("authorization", credential), ("dpop", proof)] {
            if let Some(value) = value {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = exchange(registry, head.as_bytes()).await?;
        let (got, error) = read_answer(&answer);
        let said = format!("{got} {}: {}", error["code"].as_str().unwrap_or("-"), error["message"]);
        ensure!(got == status && error["code"] == code, "{what}: expected {status} {code}, got {said}");
        stage.narrator.fact(what);
        stage.narrator.quote(&said);
        refused += 1;
    }

    stage.narrator.say("Garbage, to the registry and to Bob's own listener:");
    for (whose, address) in [("the registry", registry), ("Bob's listener", listener)] {
        let answer = exchange(address, GARBAGE).await?;
        let line = answer.lines().next().unwrap_or("closed without a word");
        ensure!(!answer.starts_with("HTTP/1.1 2") && !answer.starts_with("HTTP/1.1 1"), "{whose} took garbage: {line}");
        stage.narrator.fact(format!("bytes that are no HTTP, to {whose}: {line}"));
        let said = over_websocket(address, alice.peer()).await.map_err(|e| Failure::new(format!("{whose}: {e}")))?;
        stage.narrator.fact(format!("a socket in Alice's name, and garbage as the proof, to {whose}:"));
        stage.narrator.quote(&said);
        refused += 2;
    }

    stage.narrator.say("Mallory starts a node of her own, with Alice's name and Alice's credential, but her own key:");
    let credential = of_alice.header("authorization").and_then(|value| value.split(' ').nth(1)).unwrap_or_default();
    let invite = bob.invite().await?;
    let plan = Plan::with_registry("alice").quiet().invited(&invite).by_impostor("mallory", credential);
    let before = stage.proxy()?.mark();
    let mallory = stage.start(&plan).await?;
    mallory.send("bob", "this is alice, send money").await?;
    let why = match mallory.connect("bob").await {
        Ok(()) => return Err(Failure::new("bob let mallory in")),
        Err(failure) => failure.to_string(),
    };
    let refusal = stage.proxy()?.until("refusal", before, |call| call.status == Some(401)).await?;
    stage.narrator.fact(format!("the registry answers 401 to her {}; {why}", refusal.kind));
    stage.narrator.quote(mallory.explain("bob").await?.unwrap_or_default());
    let line = bob.process().log().until(&["byway::listener", "the credential does not hold"]).await?;
    stage.narrator.fact("with Bob's invite she has also tried his listener, and its log says:");
    stage.narrator.quote(line.rsplit_once("why=").map_or(line.as_str(), |(_, why)| why));
    let taken = |call: &Call| call.kind != Kind::Socket && call.succeeded();
    ensure!(!stage.proxy()?.any(before, taken), "the registry took a call of mallory's");
    refused += 2;
    mallory.kill().await?;

    stage.narrator.say("And the network goes on:");
    let id = alice.send("bob", "it is really me").await?;
    alice.wait_delivered(&id).await?;
    let shown = bob.messages(1).await?;
    ensure!(shown.len() == 1 && shown[0].id == id, "bob was shown {shown:?}");
    let carol = stage.start_announced(&Plan::with_registry("carol")).await?;
    let id = carol.send("bob", "I am new here").await?;
    carol.wait_delivered(&id).await?;
    bob.message("I am new here").await?;
    stage.narrator.fact("Alice's message is Delivered; Carol, who is new, joins and writes to Bob");
    let calls = stage.proxy()?.since(Mark::default());
    Ok(Finding::new(calls.answered(), format!("{refused} attempts refused, each with a reason; the others go on")))
}

/// A request that must be refused.
struct Attempt<'a> {
    what: &'static str,
    credential: Option<&'a str>,
    proof: Option<&'a str>,
    body: String,
    status: u16,
    code: &'static str,
}

fn attempts<'a>(of_alice: &'a Call, of_bob: &'a Call) -> Result<Vec<Attempt<'a>>> {
    let alices: Value = serde_json::from_slice(&of_alice.body)?;
    let mut without = alices.clone();
    if let Some(fields) = without.as_object_mut() {
        fields.remove("record");
    }
    let mut altered = alices.clone();
    altered["record"] = flipped(alices["record"].as_str().unwrap_or_default()).into();
    let (credential, proof) = (of_alice.header("authorization"), of_alice.header("dpop"));
    let (of_bobs, bobs_proof) = (of_bob.header("authorization"), of_bob.header("dpop"));
    Ok(vec![
        Attempt {
            what: "an announcement without a signed record:",
            credential: None,
            proof: None,
            body: without.to_string(),
            status: 400,
            code: "record_required",
        },
        Attempt {
            what: "Alice's record, one bit altered:",
            credential,
            proof,
            body: altered.to_string(),
            status: 400,
            code: "invalid_record",
        },
        Attempt {
            what: "Alice's credential with a proof of Bob's key:",
            credential,
            proof: bobs_proof,
            body: alices.to_string(),
            status: 401,
            code: "invalid_dpop_proof",
        },
        Attempt {
            what: "Alice's record, announced by Bob's device:",
            credential: of_bobs,
            proof: bobs_proof,
            body: alices.to_string(),
            status: 400,
            code: "peer_mismatch",
        },
    ])
}

/// Base64url with one bit of what it stands for flipped, in the middle.
fn flipped(text: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A person's announcement as it went by.
async fn announced(stage: &Stage, person: &Person) -> Result<Call> {
    let wanted = |call: &Call| call.kind == Kind::Announce && call.succeeded() && call.is_of(person.peer());
    stage.proxy()?.until("announcement", Mark::default(), wanted).await
}

/// The address that a member's record gives besides the registry's.
async fn listener_of(stage: &Stage, person: &Person) -> Result<SocketAddr> {
    let invite = person.invite().await?;
    let record = invite.strip_prefix("byway1:").and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&record).into_owned();
    let registry = stage.proxy()?.url().replace("http://", "");
    let addresses = text.split("ws://").skip(1).filter_map(|rest| rest.split('/').next());
    let listener = addresses.filter(|address| *address != registry).find_map(|address| address.parse().ok());
    listener.ok_or_else(|| Failure::new(format!("{}'s record names no listener", person.name())))
}

/// Sends bytes and reads what comes back until the end.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        // A server that has had enough may cut off with a reset: what was read until then counts.
        let _ = stream.take(ANSWER).read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(Failure::new(format!("{address} does not answer"))))
}

/// Status and error of an answer.
fn read_answer(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    (status, body["error"].clone())
}

/// Opens a signalling socket in somebody's name and answers the challenge with garbage; returns what the
/// server says before it closes.
async fn over_websocket(address: SocketAddr, peer: &str) -> Result<String> {
    let attempt = async {
        let url = format!("ws://{address}/{peer}");
        let broken = |error: tokio_tungstenite::tungstenite::Error| Failure::new(format!("{url}: {error}"));
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.map_err(broken)?;
        let challenge = socket.next().await.ok_or_else(|| Failure::new("no challenge"))?.map_err(broken)?;
        ensure!(challenge.is_binary(), "no challenge but {challenge:?}");
        socket.send(Message::binary(GARBAGE)).await.map_err(broken)?;
        let (mut said, mut code) = (String::new(), None);
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(frame) => said += &printable(&frame),
                Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
                _ => {}
            }
        }
        let code = code.ok_or_else(|| Failure::new("it did not say that it closes"))?;
        ensure!(!said.is_empty(), "closed with {code} and no reason");
        Ok(format!("closed with {code}: {said}"))
    };
    timeout(PATIENCE, attempt).await.unwrap_or_else(|_| Err(Failure::new(format!("{address} stays open"))))
}

/// The text in a frame.
fn printable(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped() {
        let before = URL_SAFE_NO_PAD.encode([1, 2, 3]);
        assert_eq!(URL_SAFE_NO_PAD.decode(flipped(&before)).unwrap(), [1, 3, 3]);
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let (status, error) = read_answer("HTTP/1.1 401 Unauthorized\r\na: b\r\n\r\n{\"error\":{\"code\":\"x\"}}");
        assert_eq!((status, error["code"].as_str()), (401, Some("x")));
        assert_eq!(read_answer("").0, 0);
    }
}

//! How long it takes to write and read 100-byte messages, against the generated protobuf code in the
//! same run. `cargo run --release -p byway-wire --example frame_speed`

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use byway_api::{MessageId, NetworkId, WallTime};
use byway_wire::{Batch, DecodeContext, Direct, Frame, OpenMembership, decode, limits, proto};
use prost::Message as _;

const NOW: WallTime = WallTime::from_millis(1_795_348_800_000);
const ROUNDS: usize = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = NetworkId::new("bench")?;
    let membership = OpenMembership::new(network.clone());
    let cx = DecodeContext { network: &network, membership: &membership, now: NOW, records: &|_| None };
    let direct = Direct {
        message: MessageId::from_bytes([1; 16]),
        epoch: u64::MAX / 3,
        seq: 100_000,
        floor: 99_990,
        sent_at: NOW,
        expires_at: NOW,
        reply_to: None,
        body: Bytes::from_static(&[b'x'; 100]),
    };
    let frame = Frame::Direct(direct.clone());

    let mut batch = Batch::new(limits::FRAME_MAX);
    let (mut frames, mut last) = (0, Bytes::new());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        while batch.push(&frame) {
            frames += 1;
        }
        last = batch.take();
    }
    report("byway-wire: write", began.elapsed(), frames);

    let mut out = Vec::new();
    let began = Instant::now();
    for _ in 0..ROUNDS {
        out.clear();
        decode(last.clone(), &cx, &mut out)?;
    }
    report("byway-wire: read", began.elapsed(), ROUNDS * out.len());

    let began = Instant::now();
    let mut written = 0;
    for _ in 0..ROUNDS {
        let mut buf = BytesMut::with_capacity(limits::FRAME_MAX);
        for _ in 0..out.len() {
            generated(&direct).encode_length_delimited(&mut buf)?;
            written += 1;
        }
        last = buf.freeze();
    }
    report("generated code: write", began.elapsed(), written);

    let began = Instant::now();
    let mut read = 0;
    for _ in 0..ROUNDS {
        let mut bytes = last.clone();
        let mut frames = Vec::new();
        while bytes.has_remaining() {
            frames.push(proto::Frame::decode_length_delimited(&mut bytes)?);
        }
        read += frames.len();
    }
    report("generated code: read", began.elapsed(), read);
    Ok(())
}

fn generated(direct: &Direct) -> proto::Frame {
    proto::Frame {
        body: Some(proto::frame::Body::Direct(proto::Content {
            message_id: Bytes::copy_from_slice(direct.message.as_bytes()),
            sent_at: direct.sent_at.as_millis(),
            expires_at: direct.expires_at.as_millis(),
            body: Some(proto::content::Body::App(direct.body.clone())),
            seq: direct.seq,
            epoch: direct.epoch,
            floor: direct.floor,
            ..Default::default()
        })),
    }
}

fn report(what: &str, took: Duration, frames: usize) {
    println!("{what:24} {:7.1} ns a message", took.as_nanos() as f64 / frames as f64);
}

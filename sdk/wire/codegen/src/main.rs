//! Regenerates `sdk/wire/src/gen/byway.v1.rs` from `sdk/wire/proto`. Run it with `just proto`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let proto = wire.join("proto");
    let files = ["identity", "mail", "link", "socket"].map(|name| proto.join(format!("byway/v1/{name}.proto")));
    let descriptors = protox::compile(&files, [&proto])?;
    prost_build::Config::new().bytes(["."]).out_dir(wire.join("src/gen")).compile_fds(descriptors)?;
    Ok(())
}

# What CI runs.
ci:
    .ci/run

# The tour: real processes, real WebRTC, real SQLite.
tour *ARGS:
    cargo run --release -p byway-tour -- {{ARGS}}

test:
    cargo test --workspace

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Regenerate the protobuf code; needs no system protoc.
proto:
    cargo run --manifest-path sdk/wire/codegen/Cargo.toml

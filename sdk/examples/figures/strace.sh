#!/bin/sh
# Counts with strace what the figure `commits` says that the store does: of 50 single messages, how many
# times each side waited for its disk. Needs strace (Debian: apt-get install strace).
set -eu
cd "$(dirname "$0")/../../.."
if ! command -v strace >/dev/null; then
    echo "strace is not installed; nothing was checked" >&2
    exit 2
fi
cargo build --quiet --release -p byway --example figures
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
# -y names the files, so that the two profiles, alice and bob, can be told apart.
strace -f -y -e trace=fdatasync,fsync,write -o "$trace" "$target/release/examples/figures" --only commits
awk '
    /single messages begin/ { counting = 1 }
    /single messages end/ { counting = 0 }
    # A call that another thread interrupted in the trace stands there twice: only its begin counts.
    counting && /(fdatasync|fsync)\(/ {
        all++
        if (/\/alice\//) alice++
        if (/\/bob\//) bob++
    }
    END {
        printf "strace: fdatasync and fsync during 50 single messages: %d by alice, %d by bob, %d in all\n", alice, bob, all
        exit !(alice == 50 && bob == 50 && all == 100)
    }
' "$trace"

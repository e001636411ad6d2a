#!/usr/bin/env bash
# Runs the micro-benchmarks (all, or those whose names match an argument) and prints one line for
# each: the time of one operation, and the change since the last run on this machine ("same": within
# noise). There is no verdict.
set -euo pipefail
cd "$(dirname "$0")/.."

report=$(mktemp)
trap 'rm -f "$report"' EXIT
"${CARGO:-cargo}" bench --locked --bench codecs --bench dispatcher --bench buffers -- \
    --noplot "$@" | tee "$report"

echo
echo "=== summary"
awk '
    function show() {
        if (name != "") printf "%-44s %10s %-3s %s\n", name, time, unit, change
        name = change = ""
    }
    # A long name stands on a line of its own.
    /^[a-z]/ { show(); name = $1 }
    # [lower bound, estimate, upper bound], first of the time, then of its change.
    match($0, /\[.*\]/) {
        split(substr($0, RSTART + 1, RLENGTH - 2), part, " ")
        if (/time:/ && !/%/) { time = part[3]; unit = part[4] }
        if (/\(p = /) change = (/ > 0\.05\)/ ? "same" : part[2])
    }
    # A change that is significant in statistics, but too small to matter.
    /within noise/ { change = "same" }
    END { show() }
' "$report"

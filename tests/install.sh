#!/usr/bin/env bash
# Installs what some tests need besides Rust, where that is possible without a question; else says what is skipped.
set -euo pipefail

# Programs that nobody but root has in the path may be here.
PATH=$PATH:/usr/sbin:/sbin

missing=()
for program in curl openssl nginx; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=none
if [[ $(id -u) -eq 0 ]]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
fi

# The packages have the names of the programs.
if [[ $as_root != none ]] && command -v apt-get >/dev/null; then
    echo "tests: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # nginx shall not be started: its port 80 is not ours to take.
    if $as_root apt-get -qq update && $as_root apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null; then
        if [[ " ${missing[*]} " == *" nginx "* ]]; then
            $as_root service nginx stop >/dev/null 2>&1 || true
        fi
        exit 0
    fi
fi
echo "tests: not installed, and not to be installed from here: ${missing[*]}. The tests that need them are skipped."

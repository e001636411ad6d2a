#!/usr/bin/env bash
# Installs the programs that the benchmark uses and compares, where that needs no question. Else
# this script says what is missing. The report leaves missing contenders out and says so.
set -euo pipefail

# Here are programs that only root has in the path.
PATH=$PATH:/usr/sbin:/sbin

missing=()
for program in nginx haproxy wrk strace; do
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
    echo "bench: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Their services must not run: port 80 is not ours to take.
    if $as_root apt-get -qq update &&
        $as_root apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null; then
        for service in nginx haproxy; do
            if [[ " ${missing[*]} " == *" $service "* ]]; then
                $as_root service "$service" stop >/dev/null 2>&1 || true
            fi
        done
        exit 0
    fi
fi
echo "bench: these programs could not be installed from here: ${missing[*]}"
echo "bench: on Debian, apt-get install ${missing[*]}"

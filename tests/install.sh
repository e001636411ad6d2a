#!/usr/bin/env bash
# Installs the programs that some tests need besides Rust, where that needs no question. Else this
# script says what to install, and fails.
set -euo pipefail

# Here are programs that only root has in the path.
PATH=$PATH:/usr/sbin:/sbin

# Each program, and its package in Debian and its derivatives.
needed=(
    curl:curl
    gzip:gzip
    nginx:nginx
    openssl:openssl
    prlimit:util-linux
    setpriv:util-linux
    strace:strace
    unshare:util-linux
    wrk:wrk
)

programs=() packages=()
look() {
    programs=() packages=()
    local each
    for each in "${needed[@]}"; do
        if ! command -v "${each%:*}" >/dev/null; then
            programs+=("${each%:*}")
            [[ " ${packages[*]} " == *" ${each#*:} "* ]] || packages+=("${each#*:}")
        fi
    done
}

look
[[ ${#programs[@]} -eq 0 ]] && exit 0

as_root=none
if [[ $(id -u) -eq 0 ]]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
fi

if [[ $as_root != none ]] && command -v apt-get >/dev/null; then
    echo "tests: installing ${packages[*]}"
    # nginx must not run: its port 80 is not ours to take.
    had_nginx=$(command -v nginx || true)
    $as_root apt-get -qq update || true
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${packages[@]}" >/dev/null || true
    if [[ -z $had_nginx ]]; then
        $as_root service nginx stop >/dev/null 2>&1 || true
    fi
    look
    [[ ${#programs[@]} -eq 0 ]] && exit 0
fi
echo "tests: these programs could not be installed from here: ${programs[*]}" >&2
echo "tests: the tests that need them would fail" >&2
echo "tests: install them and run this again (on Debian: apt-get install ${packages[*]})" >&2
exit 1

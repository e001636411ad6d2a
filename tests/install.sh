#!/usr/bin/env bash
# Installs what some tests need besides Rust, where that is possible without a question. Else it says what to install, and fails.
set -euo pipefail

# Programs that nobody but root has in the path may be here.
PATH=$PATH:/usr/sbin:/sbin

# Each program, and the package that has it in Debian and its kin.
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
    # nginx shall not be started: its port 80 is not ours to take.
    had_nginx=$(command -v nginx || true)
    $as_root apt-get -qq update || true
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null || true
    if [[ -z $had_nginx ]]; then
        $as_root service nginx stop >/dev/null 2>&1 || true
    fi
    look
    [[ ${#programs[@]} -eq 0 ]] && exit 0
fi
echo "tests: ${programs[*]} could not be installed from here, and the tests that need them would fail." >&2
echo "tests: install them and run this again (in Debian and its kin: apt-get install ${packages[*]})" >&2
exit 1

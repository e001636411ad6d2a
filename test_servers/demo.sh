#!/usr/bin/env bash
# Starts the three test servers, and the balancer in front of them, until Ctrl-C or until one of the
# four ends.
#
#   test_servers/demo.sh            all four: what `make run` does
#   test_servers/demo.sh servers    the three servers alone: what `make test_servers` does
#
# Needs ./bin/test_server and ./bin/juggler (`make`), and nothing else: bash sends the requests.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
servers=(6901 6902 6903)
front=8080
front_tls=8443
declare -A names=()
juggler=

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Succeeds if something listens on this port.
listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Succeeds if a GET of /test.txt on this port gets 200.
answers() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET /test.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
        read -t 2 -r line <&3
        [[ $line == "HTTP/1.1 200"* ]]
    ) 2>/dev/null
}

is_running() {
    kill -0 "$1" 2>/dev/null
}

# Runs a program in the background under this name.
start() {
    local name=$1
    shift
    "$@" &
    names[$!]=$name
}

# Polls for ten seconds. Gives up at once when a program has ended.
wait_until() {
    local what=$1
    shift
    for _ in $(seq 200); do
        if "$@"; then return; fi
        for pid in "${!names[@]}"; do
            is_running "$pid" || fail "${names[$pid]} did not start, see above"
        done
        sleep 0.05
    done
    fail "$what does not answer after ten seconds"
}

# Waits two seconds for the balancer to finish what is in progress. Without `wait`, sends SIGTERM
# first.
end_juggler() {
    [[ -n $juggler ]] || return 0
    [[ $1 == wait ]] || kill -TERM "$juggler" 2>/dev/null || true
    for _ in $(seq 40); do
        is_running "$juggler" || return 0
        sleep 0.05
    done
}

# Ends everything, the balancer first.
stop_all() {
    trap '' INT TERM HUP EXIT
    # Ctrl-C has reached the balancer already, and a second signal would end it at once.
    if [[ $1 == INT ]]; then end_juggler wait; fi
    end_juggler ask
    for pid in "${!names[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
}

stop() {
    echo
    echo "demo: stopping"
    stop_all "$1"
    exit 0
}
trap 'stop_all EXIT' EXIT
trap 'stop INT' INT
trap 'stop TERM' TERM HUP

[[ $what == all || $what == servers ]] || fail "all or servers, not $what"
[[ -x bin/test_server && -x bin/juggler ]] ||
    fail "bin/test_server and bin/juggler are not there: run make first"

ports=("${servers[@]}")
[[ $what == all ]] && ports+=("$front" "$front_tls")
for port in "${ports[@]}"; do
    ! listens "$port" ||
        fail "port $port is in use (ss -ltnp 'sport = :$port' shows the program)"
done

for port in "${servers[@]}"; do
    root=test_servers/root_${port: -1}
    start "the test server on port $port" bin/test_server --port="$port" --root="$root"
done
for port in "${servers[@]}"; do
    wait_until "the test server on port $port" answers "$port"
done

if [[ $what == servers ]]; then
    cat <<END

Three test servers are running. Try:
  curl http://127.0.0.1:6901/test.txt
  curl -d hello http://127.0.0.1:6902/__echo
  curl http://127.0.0.1:6903/__stats
Ctrl-C stops them.
END
else
    [[ -e certs/server.crt ]] || bin/juggler certificate --out certs
    start "the balancer" bin/juggler --config juggler_config/demo.toml
    juggler=$!
    wait_until "the balancer on port $front" answers "$front"
    wait_until "the balancer on port $front_tls" listens "$front_tls"
    cat <<END

The balancer is running, with three servers behind it. Try, some times each:
  curl http://localhost:$front/test.txt
  curl --cacert certs/server.crt https://localhost:$front_tls/test.txt
  curl -d hello http://localhost:$front/__echo
  curl http://127.0.0.1:6901/__stats        the first server's counts: 5 connections (and this one)
or open http://localhost:$front/ in a browser and load it again. Ctrl-C stops everything.
END
fi

# The first program that ends, ends the demonstration. A signal interrupts this wait.
ended=
wait -n -p ended "${!names[@]}" || true
# After Ctrl-C the balancer may have ended before this shell gets the signal.
sleep 0.2
fail "${names[$ended]:-something} has ended"

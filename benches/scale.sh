#!/usr/bin/env bash
# How much does it bear? Prints figures, judges nothing: what is measured depends on the machine, on which clients,
# balancer and servers all run.
#
#   1. 10,000 idle keep-alive clients: resident memory of the balancer for each. The same with TLS.
#   2. Load beside the idle ones: 64 busy clients.
#   3. 4096 busy clients and nobody idle. Errors and time-outs are counted.
#   4. For comparison, one server without a balancer, and nginx with as many connections to the servers (if installed).
#
# Settings: IDLE=10000 IDLE_TLS=2000 BUSY=4096 SECONDS_EACH=10 CAPACITY=5. Needs wrk (apt-get install wrk), and as many
# open files as clients (`ulimit -Hn`): with fewer, fewer clients are taken, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."

IDLE=${IDLE:-10000}
IDLE_TLS=${IDLE_TLS:-2000}
BUSY=${BUSY:-4096}
SECONDS_EACH=${SECONDS_EACH:-10}
CAPACITY=${CAPACITY:-5}
juggler=${JUGGLER:-bin/juggler}
test_server=${TEST_SERVER:-bin/test_server}

fail() {
    echo "scale: $*" >&2
    exit 1
}

command -v wrk >/dev/null || fail "wrk is not installed: apt-get install wrk"
[[ -x $juggler && -x $test_server ]] || fail "$juggler and $test_server are not there: run make first"

# Both the balancer and who holds the clients need a descriptor for each.
ulimit -Sn "$(ulimit -Hn)"
files=$(ulimit -n)
most=$((files - BUSY - 500))
if [[ $files != unlimited && $most -lt $IDLE ]]; then
    echo "scale: only $files open files are allowed, so $most idle clients in place of $IDLE (raise: ulimit -Hn)"
    IDLE=$most
fi

work=$(mktemp -d)
pids=()
cleanup() {
    trap '' INT TERM EXIT
    # First in a friendly way: a killed nginx would leave its workers behind.
    kill -TERM "${pids[@]}" 2>/dev/null || true
    sleep 0.5
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Waits for one of our programs to end. After that its number may be somebody else's, and is not ours to kill.
reap() {
    local result=0 pid
    wait "$1" || result=$?
    local left=()
    for pid in "${pids[@]}"; do [[ $pid == "$1" ]] || left+=("$pid"); done
    pids=("${left[@]}")
    return $result
}

# Waits for a line in a file and prints what stands behind a text in it.
line_in() {
    local file=$1 text=$2 pid=$3
    for _ in $(seq 1200); do
        if grep -q "$text" "$file"; then
            sed -n "s/.*$text//p" "$file" | head -n 1
            return
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    cat "$file" >&2
    fail "no \"$text\" in $file"
}

memory_of() {
    awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"
}

threads_of() {
    awk '/^Threads:/ { print $2 }' "/proc/$1/status"
}

# Runs wrk and prints one line. What went wrong is told, also when it is nothing.
load() {
    local clients=$1 url=$2
    local threads=2
    [[ $clients -ge $threads ]] || threads=$clients
    wrk -t "$threads" -c "$clients" -d "${SECONDS_EACH}s" --timeout 10s --latency "$url" >"$work/wrk"
    local rate p50 p99 errors
    rate=$(awk '/^Requests\/sec/ { print $2 }' "$work/wrk")
    p50=$(awk '$1 == "50%" { print $2 }' "$work/wrk")
    p99=$(awk '$1 == "99%" { print $2 }' "$work/wrk")
    errors=$(awk '/Socket errors/ { sub(/^ *Socket errors: /, ""); print } /Non-2xx/ { print "not 2xx:", $NF }' "$work/wrk" | paste -sd ' ')
    printf '%6d clients: %9s requests/s, median %s, 99%% %s, errors: %s\n' "$clients" "$rate" "$p50" "$p99" "${errors:-none}"
}

# Opens idle clients, prints the balancer's memory for each, and leaves them open. `let_go` ends them.
hold() {
    local label=$1 count=$2 address=$3
    shift 3
    local before after held_pid
    before=$(memory_of "$balancer")
    rm -f "$work/stdin"
    mkfifo "$work/stdin"
    "$test_server" --hold "$address" --count "$count" --path /test.txt "$@" <"$work/stdin" >"$work/held" 2>&1 &
    held_pid=$!
    pids+=("$held_pid")
    exec 9>"$work/stdin"
    local how
    how=$(line_in "$work/held" "held " "$held_pid")
    after=$(memory_of "$balancer")
    printf '%s: held %s; balancer %d MiB, %d threads: %s KiB for each client\n' "$label" "$how" $((after / 1024)) \
        "$(threads_of "$balancer")" "$(awk -v a="$after" -v b="$before" -v n="$count" 'BEGIN { printf "%.1f", (a - b) / n }')"
    holder=$held_pid
}

let_go() {
    exec 9>&-
    reap "$holder" || true
    echo "   of these $(line_in "$work/held" "lost " $$) were lost meanwhile"
}

# Three servers.
servers=()
for n in 1 2 3; do
    "$test_server" --root "test_servers/root_$n" >"$work/server$n" 2>&1 &
    pids+=($!)
    servers+=("$(line_in "$work/server$n" "listening on " $!)")
done

# The balancer.
"$juggler" certificate --out "$work" >/dev/null
{
    cat <<END
[process]
max_sessions = 16384

[[listener]]
name = "http"
bind = ["127.0.0.1:0"]
backlog = 16384
timeout = { idle = "1h" }

[[listener]]
name = "https"
bind = ["127.0.0.1:0"]
backlog = 16384
timeout = { idle = "1h" }
tls = { certificates = [{ chain = "$work/server.crt", key = "$work/server.key" }] }

[[route]]
cluster = "app"

[[cluster]]
name = "app"
capacity = $CAPACITY
END
    for n in 0 1 2; do
        printf '\n  [[cluster.server]]\n  name = "s%d"\n  address = "%s"\n' "$n" "${servers[n]}"
    done
} >"$work/juggler.toml"

address_of() {
    sed -n "s/.*listening on \([^ ]*\) (listener $1).*/\1/p" "$work/juggler.log" | head -n 1
}

# A new one each time that memory is looked at: what one storm leaves with the allocator, the next would get for nothing.
start_balancer() {
    RUST_LOG=info "$juggler" --config "$work/juggler.toml" >"$work/juggler.log" 2>&1 &
    balancer=$!
    pids+=("$balancer")
    line_in "$work/juggler.log" "ready" "$balancer" >/dev/null
    http=$(address_of http)
    https=$(address_of https)
    url="http://$http/image.png"
    # The connections to the servers are there, and all has settled.
    sleep 1
}

stop_balancer() {
    kill -0 "$balancer" 2>/dev/null || fail "the balancer has ended by itself: $(tail -n 3 "$work/juggler.log")"
    kill -TERM "$balancer"
    reap "$balancer" || fail "the balancer did not end well: $(tail -n 3 "$work/juggler.log")"
}
start_balancer

echo "machine: $(nproc) cores, $(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
echo "balancer: 3 servers with $CAPACITY connections each, a 1 KB image, $SECONDS_EACH s for each line"
grep -i "warn" "$work/juggler.log" || true
printf 'nobody: balancer %d MiB, %d threads\n' $(($(memory_of "$balancer") / 1024)) "$(threads_of "$balancer")"

load 64 "$url"
hold "idle" "$IDLE" "$http"
load 64 "$url"
let_go
if [[ $IDLE_TLS -gt 0 ]]; then
    stop_balancer
    start_balancer
    hold "idle, TLS" "$IDLE_TLS" "$https" --tls
    let_go
fi
load "$BUSY" "$url"
printf 'afterwards: balancer %d MiB, %d threads\n' $(($(memory_of "$balancer") / 1024)) "$(threads_of "$balancer")"
stop_balancer

echo "for comparison"
echo -n "one server, no balancer: "
load 64 "http://${servers[0]}/image.png"
nginx=$(PATH=$PATH:/usr/sbin command -v nginx || true)
if [[ -n $nginx ]]; then
    port=$((20000 + RANDOM % 10000))
    cat >"$work/nginx.conf" <<END
worker_processes auto;
worker_rlimit_nofile $files;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections $((BUSY * 2 + 1000)); }
http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
    upstream app {
$(printf '        server %s;\n' "${servers[@]}")
        keepalive $((CAPACITY * 3));
        keepalive_requests 1000000;
    }
    server {
        listen 127.0.0.1:$port backlog=16384;
        location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
END
    "$nginx" -c "$work/nginx.conf" >"$work/nginx.out" 2>&1 &
    pids+=($!)
    sleep 1
    for clients in 64 "$BUSY"; do
        echo -n "nginx: "
        load "$clients" "http://127.0.0.1:$port/image.png"
    done
fi

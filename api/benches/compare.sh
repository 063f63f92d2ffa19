#!/usr/bin/env bash
# Runs our service and its Flask counterpart (gunicorn, 4 workers) one after the other on this machine, over SQLite and
# over PostgreSQL, with 100 tasks and the same durability, and prints requests per second, p99, memory and the ratios.
#
#   api/benches/compare.sh [seconds per measurement, default 10]
#
# Needs wrk, python3 and PostgreSQL's server programs (Debian: wrk python3-venv postgresql). Listens on loopback only.
set -euo pipefail
seconds=${1:-10}
connections=${CONNECTIONS:-64}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
chmod 755 "$scratch"
declare -a started=()
finish() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ -d "$scratch/pg" ]; then as_server "$pg_bin/pg_ctl" -D "$scratch/pg" -m immediate stop >/dev/null 2>&1 || true; fi
  rm -rf "$scratch"
}
trap finish EXIT

pg_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$pg_bin" ] || { echo "PostgreSQL's server programs are missing (Debian: postgresql)" >&2; exit 1; }
command -v wrk >/dev/null || { echo "wrk is missing (Debian: wrk)" >&2; exit 1; }
# PostgreSQL refuses to run as root.
as_server() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; else "$@"; fi; }

venv=${BENCH_VENV:-$scratch/venv}
if [ ! -x "$venv/bin/gunicorn" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi
binary=${TASK_API_BIN:-}
if [ -z "$binary" ]; then
  binary=$(cd "$here" && cargo build --release -p api --bin task-api --message-format=json |
    sed -n 's/.*"executable":"\([^"]*task-api\)".*/\1/p' | tail -1)
fi

port=$((20000 + RANDOM % 20000))
mkdir "$scratch/pg"
[ "$(id -u)" != 0 ] || chown nobody "$scratch/pg"
as_server "$pg_bin/initdb" -D "$scratch/pg" -U bench -A trust -E UTF8 --no-locale >/dev/null
as_server "$pg_bin/pg_ctl" -D "$scratch/pg" -w -l "$scratch/pg/log" \
  -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start >/dev/null
for name in ours flask; do
  as_server "$pg_bin/createdb" -h 127.0.0.1 -p "$port" -U bench "$name"
done

await() { for _ in $(seq 200); do curl -fsS -o /dev/null "$1" 2>/dev/null && return; sleep 0.1; done; echo "no answer from $1" >&2; return 1; }
# Proportional memory of a process and its children, in KiB: shared pages are shared out.
memory() {
  local total=0 process
  for process in $1 $(pgrep -P "$1" || true); do
    total=$((total + $(awk '/^Pss:/ {print $2}' "/proc/$process/smaps_rollup")))
  done
  echo "$total"
}
# load URL [script]: "requests/s p99-ms failures"
load() {
  wrk -t 2 -c "$connections" -d "${seconds}s" --latency ${2:+-s "$2"} "$1" | awk '
    /Requests\/sec/ {rate = $2}
    $1 == "99%" {p99 = $2; if (p99 ~ /us$/) p99 = p99 / 1000; else if (p99 ~ /ms$/) p99 += 0; else p99 = p99 * 1000}
    /Non-2xx/ {failed += $NF}
    /Socket errors/ {gsub(",", ""); failed += $4 + $6 + $8}
    END {printf "%.0f %.2f %d", rate, p99, failed}'
}
declare -A rate p99 failures kib
measure() { # name database port process
  await "http://127.0.0.1:$3/health"
  load "http://127.0.0.1:$3/tasks" >/dev/null
  read -r "rate[$1,$2,read]" "p99[$1,$2,read]" "failures[$1,$2,read]" <<<"$(load "http://127.0.0.1:$3/tasks")"
  read -r "rate[$1,$2,write]" "p99[$1,$2,write]" "failures[$1,$2,write]" <<<"$(load "http://127.0.0.1:$3/tasks" "$here/create.lua")"
  kib[$1,$2]=$(memory "$4")
}
ours() { # database url
  # The counterpart writes no access log, so ours does not either.
  TASKS_HOST=127.0.0.1 TASKS_PORT=$((port + 1)) TASKS_DATABASE_URL=$2 LOG_LEVEL=warn TASKS_DRAIN_DELAY=0 "$binary" &
  local process=$!
  started+=("$process")
  await "http://127.0.0.1:$((port + 1))/health"
  for number in $(seq 100); do
    curl -fsS -o /dev/null -H 'Content-Type: application/json' -d "{\"title\":\"task number $number\"}" "http://127.0.0.1:$((port + 1))/tasks"
  done
  measure ours "$1" $((port + 1)) "$process"
  kill "$process"; wait "$process" || true
}
flask() { # database url
  export DATABASE_URL=$2
  (cd "$here" && PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" counterpart.py)
  (cd "$here" && PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/gunicorn" -w 4 -b "127.0.0.1:$((port + 2))" --log-level warning counterpart:app) &
  local process=$!
  started+=("$process")
  measure flask "$1" $((port + 2)) "$process"
  kill "$process"; wait "$process" || true
}
ours SQLite "sqlite://$scratch/ours.db"
flask SQLite "sqlite:///$scratch/flask.db"
ours PostgreSQL "postgres://bench@127.0.0.1:$port/ours"
flask PostgreSQL "postgresql+psycopg2://bench@127.0.0.1:$port/flask"

printf '\n%s cores, %s connections, %s s each, 100 tasks listed\n\n' "$(nproc)" "$connections" "$seconds"
printf '%-11s %-6s %12s %12s %7s %9s %9s %9s\n' database what 'ours req/s' 'flask req/s' ratio 'our p99' 'its p99' failures
for database in SQLite PostgreSQL; do
  for what in read write; do
    ratio=$(awk "BEGIN {printf \"%.1f\", ${rate[ours,$database,$what]} / ${rate[flask,$database,$what]}}")
    printf '%-11s %-6s %12s %12s %6sx %6s ms %6s ms %5s %s\n' "$database" "$what" "${rate[ours,$database,$what]}" \
      "${rate[flask,$database,$what]}" "$ratio" "${p99[ours,$database,$what]}" "${p99[flask,$database,$what]}" \
      "${failures[ours,$database,$what]}" "${failures[flask,$database,$what]}"
  done
  printf '%-11s memory %9s KiB %8s KiB   1/%s\n' "$database" "${kib[ours,$database]}" "${kib[flask,$database]}" \
    "$(awk "BEGIN {printf \"%.1f\", ${kib[flask,$database]} / ${kib[ours,$database]}}")"
done

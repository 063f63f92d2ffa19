#!/usr/bin/env bash
# Property tests from the task API's own OpenAPI document: requests that the document allows, requests that it forbids,
# and every answer held against it. Runs against a fresh service on SQLite, once open and once with a token.
#
#   tests/api/schemathesis.sh [examples per operation, default 100]
#
# SCHEMATHESIS names the program if it is not on the PATH; otherwise it is installed from PyPI into a scratch folder.
# TASK_API_BIN names the service if it is not to be built here.
set -euo pipefail
examples=${1:-100}
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
service=
finish() {
  [ -z "$service" ] || kill "$service" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT
program=${SCHEMATHESIS:-$(command -v schemathesis || true)}
if [ -z "$program" ]; then
  python3 -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5'
  program=$scratch/venv/bin/schemathesis
fi
binary=${TASK_API_BIN:-}
if [ -z "$binary" ]; then
  binary=$(cargo build -p api --bin task-api --message-format=json | sed -n 's/.*"executable":"\([^"]*task-api\)".*/\1/p' | tail -1)
fi
for token in "" property-test-token; do
  log=$scratch/log
  : >"$log"
  API_TOKEN=$token TASKS_HOST=127.0.0.1 TASKS_PORT=0 TASKS_DATABASE_URL="sqlite://$scratch/tasks$token.db" \
    TASKS_DRAIN_DELAY=0 LOG_LEVEL=info,task_api::service=warn "$binary" >"$log" &
  service=$!
  for _ in $(seq 100); do grep -q 'listening on' "$log" && break; sleep 0.1; done
  url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$log" | head -1)
  echo "schemathesis on $url, $([ -n "$token" ] && echo with || echo without) a token"
  (cd "$scratch" && "$program" run "$url/openapi.json" --phases examples,coverage,fuzzing --max-examples "$examples" \
    --no-color ${token:+--header "Authorization: Bearer $token"})
  # Chains of requests go without Idempotency-Key: a key that comes again gets its first answer again, as it should,
  # also when the task has been deleted since, and that looks like a created task that is missing.
  "$binary" openapi | python3 -c '
import json, sys
document = json.load(sys.stdin)
post = document["paths"]["/tasks"]["post"]
post["parameters"] = [one for one in post["parameters"] if one["name"] != "Idempotency-Key"]
json.dump(document, sys.stdout)' >"$scratch/chains.json"
  (cd "$scratch" && "$program" run chains.json --url "$url" --phases stateful --max-examples "$examples" \
    --no-color ${token:+--header "Authorization: Bearer $token"})
  kill "$service"
  wait "$service" || { echo "the service did not end cleanly" >&2; exit 1; }
  service=
  if grep -E ' (WARN|ERROR) ' "$log" | grep -v 'limit on open files'; then echo "the service complained" >&2; exit 1; fi
done

#!/usr/bin/env bash
# Makes esteira-e2e/traefik from the real program: traefik.sh TRAEFIK_BIN
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/traefik"
printf 'FROM esteira-test/empty\nCOPY traefik /usr/local/bin/traefik\nENTRYPOINT ["traefik"]\nLABEL esteira-test=1\n' >"$work/Dockerfile"
docker build --quiet -t esteira-e2e/traefik "$work"

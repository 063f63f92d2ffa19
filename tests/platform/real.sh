#!/usr/bin/env bash
# platform/up and platform/up --swarm for real, as root, on an engine, a network and a /run of their own, so that nothing
# of this machine's is touched and the ports 80 and 443 are free; see real.py for what is looked at.
#
#   GITEA_BIN GITEA_SOURCE TRAEFIK_BIN LOKI_BIN CADVISOR_BIN ESTEIRA_BIN    tests/platform/real.sh [--only compose|swarm]
#
# Needs dockerd and the Compose plugin, and from this machine's engine the images of tests/e2e/images.sh (made here when
# they are not there). KEEP=1 leaves the engine and the platform running and says how to get in.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD

if [ "${1:-}" = --inside ]; then
  shift
  mount --make-rprivate /
  mount -t tmpfs tmpfs /run
  printf '127.0.0.1 localhost git.localhost api.localhost grafana.localhost registry.localhost\n' >"$FRESH/hosts"
  mount --bind "$FRESH/hosts" /etc/hosts
  ip link set lo up
  sysctl -qw net.ipv4.ip_forward=1
  dockerd --data-root "$FRESH/data" --exec-root /run/fresh -p /run/fresh.pid >"$FRESH/dockerd.log" 2>&1 &
  engine=$!
  end() {
    docker ps -q | xargs -r docker rm -fv >/dev/null 2>&1 || true
    docker swarm leave --force >/dev/null 2>&1 || true
    kill "$engine" && wait "$engine" || true
  }
  if [ -z "${KEEP:-}" ]; then trap end EXIT; else trap 'echo "kept: nsenter -t $engine -m -n"; wait "$engine"' EXIT; fi
  for _ in $(seq 150); do docker info >/dev/null 2>&1 && break; kill -0 "$engine"; sleep 0.2; done
  docker load -q <"$FRESH/images" >/dev/null
  tests/platform/images.sh
  mkdir "$FRESH/runner"
  cp "$ESTEIRA_BIN" "$FRESH/runner/esteira"
  cp /etc/ssl/certs/ca-certificates.crt "$FRESH/runner/"
  printf 'FROM scratch\nCOPY ca-certificates.crt /etc/ssl/certs/\nCOPY esteira /esteira\nENV HOME=/data\nWORKDIR /data\nENTRYPOINT ["/esteira"]\n' >"$FRESH/runner/Dockerfile"
  docker build --quiet -t stand-in/runner:real "$FRESH/runner" >/dev/null
  python3 tests/platform/real.py "$@"
  exit
fi

for name in GITEA_BIN GITEA_SOURCE TRAEFIK_BIN LOKI_BIN CADVISOR_BIN ESTEIRA_BIN; do
  [ -e "${!name:-}" ] || { echo "tests/platform/real.sh: $name names nothing" >&2; exit 2; }
done
docker compose version >/dev/null 2>&1 || { echo "tests/platform/real.sh: the Compose plugin is needed" >&2; exit 2; }
tests/e2e/images.sh
FRESH=$(mktemp -d)
export FRESH
trap '[ -n "${KEEP:-}" ] || rm -rf "$FRESH"' EXIT
mkfifo "$FRESH/images"
docker save esteira-test/base esteira-test/empty esteira-e2e/toolchain esteira-e2e/rust esteira-e2e/postgres >"$FRESH/images" &
unshare --net --mount -- "$here/tests/platform/real.sh" --inside "$@"

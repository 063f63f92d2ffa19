#!/usr/bin/env bash
# Makes the images that the end-to-end test starts from, where none can be pulled; idempotent, needs an engine and a
# Debian mirror. `esteira-test/base` comes from tests/images.sh.
#
#   esteira-e2e/toolchain  base, with a compiler, this machine's Rust toolchain, git, ssh, node, docker, PostgreSQL; made
#                          again when this file changes
#   esteira-e2e/rust       the same with the crates of Cargo.lock, so that nothing is downloaded; made again when that changes
#   esteira-e2e/postgres   base, with Debian's PostgreSQL behind the official image's POSTGRES_* variables
set -euo pipefail
cd "$(dirname "$0")/../.."

have() { docker image inspect "$1" >/dev/null 2>&1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
exec 9>"${TMPDIR:-/tmp}/esteira-e2e-images.lock"
flock 9

have esteira-test/base || tests/images.sh
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
mirror=$(apt-cache policy | awk -v wanted="$suite/main" '$1 == 500 && $2 ~ /^http/ && $3 == wanted { print $2; exit }')
install="echo 'deb [trusted=yes] $mirror $suite main' >/etc/apt/sources.list && apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
clean='&& rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/man && : >/etc/apt/sources.list'

label() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }
made=$(sha256sum tests/e2e/images.sh | cut -c1-16)
if [ "$(label esteira-e2e/toolchain made-by)" != "$made" ]; then
  mkdir -p "$work/add/usr/local/bin" "$work/add/usr/local/libexec/docker/cli-plugins" "$work/add/opt/rust"
  tar -C "$(rustc --print sysroot)" --exclude=./share --exclude=rust-analyzer -c . | tar -x -C "$work/add/opt/rust"
  cp -L "$(command -v docker)" "$(command -v node)" "$work/add/usr/local/bin/"
  cat >"$work/Dockerfile" <<D
FROM esteira-test/base
RUN $install bash ca-certificates curl gcc git libc6-dev libstdc++6 openssh-client postgresql procps python3 $clean
ADD add /
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL esteira-test=1 made-by=$made
D
  tar -C "$work" -c Dockerfile add | docker build --quiet -t esteira-e2e/toolchain - >/dev/null
fi

lock=$(cat Cargo.lock tests/e2e/images.sh | sha256sum | cut -c1-16)
if [ "$(label esteira-e2e/rust cargo-lock)" != "$lock" ]; then
  home=${CARGO_HOME:-$HOME/.cargo}
  cargo fetch --locked --quiet
  mkdir -p "$work/crates/registry"
  cp -a "$home/registry/cache" "$home/registry/index" "$work/crates/registry/"
  printf 'FROM esteira-e2e/toolchain\nADD crates /usr/local/cargo\nLABEL cargo-lock=%s\n' "$lock" >"$work/Dockerfile"
  tar -C "$work" -c Dockerfile crates | docker build --quiet -t esteira-e2e/rust - >/dev/null
fi

if ! have esteira-e2e/postgres; then
  mkdir "$work/postgres"
  cat >"$work/postgres/start" <<'P'
#!/bin/bash
# Starts PostgreSQL as the official image does, as far as POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD(_FILE) go.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
  install -d -o postgres -g postgres -m 0700 "$data"
  secret=$(mktemp)
  cat "${POSTGRES_PASSWORD_FILE:-/dev/stdin}" >"$secret" <<<"${POSTGRES_PASSWORD:-}"
  chown postgres "$secret"
  setpriv --reuid=postgres --regid=postgres --init-groups "$bin/initdb" -D "$data" -U "$POSTGRES_USER" --pwfile="$secret" --encoding=UTF8 --locale=C.UTF-8 --auth-host=scram-sha-256 --auth-local=trust
  rm "$secret"
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | setpriv --reuid=postgres --regid=postgres --init-groups "$bin/postgres" --single -D "$data" postgres
fi
install -d -o postgres -g postgres /var/run/postgresql
# Nothing here outlives the test, and a busy test machine's disk stalls for seconds.
exec setpriv --reuid=postgres --regid=postgres --init-groups "$bin/postgres" -D "$data" -c listen_addresses='*' -c fsync=off
P
  cat >"$work/postgres/Dockerfile" <<D
FROM esteira-test/base
RUN $install postgresql $clean && rm -rf /var/lib/postgresql/*/main && ln -s /usr/lib/postgresql/*/bin/pg_isready /usr/local/bin/ || true
COPY --chmod=0755 start /start
ENTRYPOINT ["/start"]
STOPSIGNAL SIGINT
LABEL esteira-test=1
D
  sed -i 's/COPY --chmod=0755 /COPY /' "$work/postgres/Dockerfile"
  chmod 0755 "$work/postgres/start"
  docker build --quiet -t esteira-e2e/postgres "$work/postgres" >/dev/null
fi
echo "images: $(docker image ls --format '{{.Repository}}' 'esteira-e2e/*' | sort -u | tr '\n' ' ')"

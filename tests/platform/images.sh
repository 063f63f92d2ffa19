#!/usr/bin/env bash
# Makes images stand-in/NAME for the parts of the platform where none can be pulled, around programs of this machine:
# Gitea, Traefik, Loki and cAdvisor are handed over, Prometheus, node exporter and registry are Debian's. Grafana and Alloy
# are not to be had: in their place stands a program that answers the health check, or only waits.
#
#   GITEA_BIN GITEA_SOURCE TRAEFIK_BIN LOKI_BIN CADVISOR_BIN    tests/platform/images.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

image() { # NAME DOCKERFILE FILE...: the files are beside the Dockerfile
  local name=$1 text=$2
  shift 2
  rm -rf "$work/context"
  mkdir "$work/context"
  [ $# = 0 ] || cp -rL "$@" "$work/context/"
  printf '%s\nLABEL esteira-test=1\n' "$text" >"$work/context/Dockerfile"
  docker build --quiet -t "stand-in/$name" "$work/context" >/dev/null
}
named() { cp "$1" "$work/$2" && chmod 0755 "$work/$2"; }

cat >"$work/start" <<'S'
#!/bin/bash
# Starts Gitea as the official image does, as far as GITEA__SECTION__KEY and GITEA__SECTION__KEY__FILE go.
set -euo pipefail
install -d -o git -g git /data /data/gitea
{
  printf 'RUN_USER = git\nAPP_DATA_PATH = /data/gitea\n[server]\nSTATIC_ROOT_PATH = /app\nHTTP_PORT = 3000\n[database]\nDB_TYPE = sqlite3\nPATH = /data/gitea/gitea.db\n[repository]\nROOT = /data/git\n[log]\nLEVEL = warn\n'
  while IFS='=' read -r name value; do
    [[ $name =~ ^GITEA__([a-z]+)__([A-Z_]+)$ ]] || continue
    section=${BASH_REMATCH[1]} key=${BASH_REMATCH[2]}
    if [[ $key == *__FILE ]]; then key=${key%__FILE} value=$(cat "$value"); fi
    printf '[%s]\n%s = %s\n' "$section" "$key" "$value"
  done < <(env)
} >/data/gitea/app.ini
chown -R git:git /data
exec setpriv --reuid=git --regid=git --init-groups env HOME=/data/git USER=git gitea web
S
printf '#!/bin/sh\nexec /app/gitea -c /data/gitea/app.ini --work-path /data/gitea "$@"\n' >"$work/gitea-command"
printf '#!/bin/sh\nmkdir -p /www/api && echo ok >/www/api/health\nexec busybox httpd -f -p 3000 -h /www\n' >"$work/grafana"
printf '#!/bin/sh\nexec sleep 1000000\n' >"$work/alloy"
chmod 0755 "$work"/{start,gitea-command,grafana,alloy}
named "$(command -v busybox)" busybox
named "$TRAEFIK_BIN" traefik
named "$LOKI_BIN" loki
named "$CADVISOR_BIN" cadvisor
named "$GITEA_BIN" gitea
printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\nhttp: {addr: ":5000"}\n' >"$work/registry.yml"

image traefik $'FROM esteira-test/empty\nCOPY traefik /usr/local/bin/traefik\nENTRYPOINT ["traefik"]' "$work/traefik"
image gitea $'FROM esteira-e2e/toolchain\nRUN useradd -m -d /data/git git\nCOPY . /app\nRUN mv /app/start /start && mv /app/gitea-command /usr/local/bin/gitea\nENTRYPOINT ["/start"]' \
  "$work/gitea" "$work/start" "$work/gitea-command" "$GITEA_SOURCE"/{templates,options,public}
image registry $'FROM esteira-test/base\nCOPY docker-registry /usr/bin/\nCOPY busybox /usr/bin/wget\nCOPY registry.yml /etc/\nENTRYPOINT ["docker-registry", "serve", "/etc/registry.yml"]' \
  "$(command -v docker-registry)" "$work/busybox" "$work/registry.yml"
image prometheus $'FROM esteira-test/base\nCOPY prometheus /usr/bin/\nCOPY busybox /usr/bin/wget\nENTRYPOINT ["prometheus"]' "$(command -v prometheus)" "$work/busybox"
image node-exporter $'FROM esteira-test/base\nCOPY prometheus-node-exporter /usr/bin/\nENTRYPOINT ["prometheus-node-exporter"]' "$(command -v prometheus-node-exporter)"
image loki $'FROM esteira-test/base\nCOPY loki /usr/bin/\nENTRYPOINT ["loki"]' "$work/loki"
image cadvisor $'FROM esteira-test/base\nCOPY cadvisor /usr/bin/\nENTRYPOINT ["cadvisor"]' "$work/cadvisor"
image grafana $'FROM esteira-test/base\nCOPY busybox /usr/bin/\nCOPY busybox /usr/bin/wget\nCOPY grafana /start\nENTRYPOINT ["/start"]' "$work/busybox" "$work/grafana"
image alloy $'FROM esteira-test/base\nCOPY alloy /start\nENTRYPOINT ["/start"]' "$work/alloy"
echo "images: $(docker image ls --format '{{.Repository}}' 'stand-in/*' | sort | tr '\n' ' ')"

#!/usr/bin/env bash
# Makes the few local images that the tests name. Nothing is pulled; idempotent; asks for a running engine.
#
#   esteira-test/base      Debian with bash, coreutils and procps
#   esteira-test/user      the same with a default user that is not root
#   esteira-test/busybox   one static busybox: sh, and no bash
#   esteira-test/empty     nothing at all
#
# Where the conformance corpus is at hand (CONFORMANCE, or ../shared/conformance) its own script makes the images of
# the corpus first, and `base` is one of them; otherwise `base` comes from debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."

have() { docker image inspect "$1" >/dev/null 2>&1; }
label='LABEL esteira-test=1'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Two of these scripts at a time (tests of two checkouts) would make everything twice.
exec 9>"${TMPDIR:-/tmp}/esteira-test-images.lock"
flock 9

debian_base() {
  local suite mirror
  suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mirror=$(apt-cache policy | awk -v wanted="$suite/main" '$1 == 500 && $2 ~ /^http/ && $3 == wanted { print $2; exit }')
  echo "making esteira-test/base by debootstrap ($suite)"
  debootstrap --variant=minbase --include=procps "$suite" "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1 ||
    { tail -20 "$work/log" >&2; return 1; }
  rm -rf "$work"/root/var/cache/apt "$work"/root/var/lib/apt/lists "$work"/root/usr/share/{doc,man,locale}
  tar -C "$work/root" --one-file-system -c . |
    docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' -c 'CMD ["bash"]' -c "$label" \
      - esteira-test/base >/dev/null
}

corpus=${CONFORMANCE:-../shared/conformance}
if [ -x "$corpus/make-images.sh" ]; then
  if ! have conformance/base || ! have node:24-bookworm-slim; then "$corpus/make-images.sh"; fi
  have esteira-test/base || docker tag conformance/base esteira-test/base
fi
have esteira-test/base || debian_base

if ! have esteira-test/user; then
  container=$(docker create esteira-test/base true)
  docker commit --change 'USER 1000:1000' --change "$label" "$container" esteira-test/user >/dev/null
  docker rm "$container" >/dev/null
fi

if ! have esteira-test/busybox; then
  busybox=$(command -v busybox || true)
  if [ -z "$busybox" ] || ! "$busybox" --list 2>/dev/null | grep -qx ash; then
    echo "tests/images.sh: no busybox here; install Debian's busybox-static" >&2
    exit 1
  fi
  mkdir -p "$work/busybox/bin" "$work/busybox/tmp" "$work/busybox/etc"
  cp "$busybox" "$work/busybox/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"
  done
  rm -f "$work/busybox/bin/bash"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$work/busybox/etc/passwd"
  tar -C "$work/busybox" -c . | docker import -c 'ENV PATH=/bin' -c 'CMD ["sh"]' -c "$label" - esteira-test/busybox >/dev/null
fi

if ! have esteira-test/empty; then
  mkdir "$work/empty"
  tar -C "$work/empty" -c . | docker import -c 'CMD ["/nothing"]' -c "$label" - esteira-test/empty >/dev/null
fi
echo "images: $(docker image ls --format "{{.Repository}}" "esteira-test/*" | sort | tr "\n" " ")"

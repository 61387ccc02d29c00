#!/usr/bin/env bash
# The image of the Dockerfile without a container engine: its steps are replayed on a small Debian, and the demo runs there
# as the image's user on a read-only root. Needs root, debootstrap, and the release binary, which stands for the build stage.
#
#   tests/image.sh BINARY BASE      BASE: where the small Debian is kept
set -euo pipefail

(($# == 2)) || {
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}
binary=$(realpath "$1") base=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'tests/image.sh: %s\n' "$*" >&2
    exit 1
}

if [[ ! -d $base ]]; then
    rm -rf "$base.new"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$base.new" >"$base.log" 2>&1 || {
        tail -n 20 "$base.log" >&2
        fail 'debootstrap failed'
    }
    mv "$base.new" "$base"
fi

work=$(mktemp -d)
running=
clean_up() {
    [[ ! $running ]] || kill "$running" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT
root=$work/root
cp -a "$base" "$root"

# The stage that becomes the image, with lines that go on joined.
stage=$(sed -e ':a; /\\$/N; s/\\\n//; ta' Dockerfile | awk '/^FROM /{kept = ""} {kept = kept $0 "\n"} END {printf "%s", kept}')
user= entrypoint=
while read -r step rest; do
    case $step in
    COPY)
        [[ $rest == --from=build\ * ]] || fail "COPY $rest: only from the build stage"
        read -ra paths <<<"${rest#--from=build }"
        into=${paths[-1]}
        unset 'paths[-1]'
        for path in "${paths[@]}"; do
            case $path in
            /llm-probe-exporter) source=$binary ;;
            /src/*) source=${path#/src/} ;;
            *) fail "COPY $path: the build stage has no such file" ;;
            esac
            [[ $into == */ ]] && place=$root$into${path##*/} || place=$root$into
            install -D --mode="$([[ -x $source ]] && echo 755 || echo 644)" "$source" "$place"
        done
        ;;
    USER) user=$rest ;;
    ENTRYPOINT) entrypoint=$(python3 -c 'import json, sys; print(*json.loads(sys.argv[1]))' "$rest") ;;
    FROM | LABEL | EXPOSE | CMD | '' | \#*) ;;
    *) fail "$step: not known here" ;;
    esac
done <<<"$stage"
[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "the user is \`$user\`, which Kubernetes cannot tell from root"
[[ $entrypoint ]] || fail 'the image has no entry point'

# in_image ARGUMENT…: a program of the image, as its user, with a root that cannot be written to.
in_image() {
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1 user=$2; shift 2
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc proc "$root/proc"
        exec chroot --userspec="$user" "$root" "$@"' in_image "$root" "$user" "$@"
}

in_image /bin/sh -c '[ "$(id -u)" != 0 ] && ! touch /tmp/x /var/tmp/x 2>/dev/null' || fail 'the root can be written to'
# shellcheck disable=SC2086 # words of the entry point
said=$(in_image $entrypoint --version)
echo "    $said, as $user"

# shellcheck disable=SC2086
in_image $entrypoint demo --web.listen-address=127.0.0.1:0 >"$work/out" 2>"$work/log" &
running=$!
for _ in {1..300}; do
    address=$(sed -n 's/.*listening.*address=\(127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/log" | tail -n 1)
    # Into a variable: curl takes a reader that has seen enough for an error.
    metrics=$([[ ! $address ]] || curl -sf "http://$address/metrics" || true)
    if grep -q '^llm_probe_requests_total{.*} [1-9]' <<<"$metrics"; then
        echo "    the demo probes its servers"
        exit
    fi
    kill -0 "$running" 2>/dev/null || break
    sleep 0.2
done
cat "$work/log" >&2
fail 'the demo does not probe'

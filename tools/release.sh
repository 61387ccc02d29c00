#!/usr/bin/env bash
# Makes what a release consists of, from the commit that is checked out:
#
#   tools/release.sh DIR           build it into DIR, which must not exist
#   tools/release.sh --twice DIR   build in two folders, and fail unless both give the same binary
#
# A build takes some minutes: it is linked as a whole.
set -euo pipefail

twice=
if [[ ${1-} == --twice ]]; then
    twice=yes
    shift
fi
if (($# != 1)) || [[ -e $1 ]]; then
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
mkdir -p "$1"
out=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

revision=$(git rev-parse HEAD)
when=$(git log -1 --format=%ct)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=llm-probe-exporter-$version-x86_64-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build FOLDER: from what is committed, without git, so that nothing of this folder goes into it.
build() {
    mkdir -p "$1"
    git archive "$revision" | tar -x -C "$1"
    (
        cd "$1"
        LLM_PROBE_EXPORTER_REVISION=$revision CARGO_TARGET_DIR=$1/target \
            RUSTFLAGS="--remap-path-prefix=$1=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
            cargo build --release --locked
    )
}

build "$work/source"
binary=$work/source/target/release/llm-probe-exporter
if [[ $twice ]]; then
    build "$work/another-place/of-another-length"
    cmp "$binary" "$work/another-place/of-another-length/target/release/llm-probe-exporter"
    echo "both builds: $(sha256sum "$binary" | cut -d ' ' -f 1)"
fi

tree=$work/$name
mkdir -p "$tree/completions" "$tree/man"
cp "$binary" LICENSE THIRD-PARTY.md CHANGELOG.md README.md "$tree"
git archive "$revision" config dashboards | tar -x -C "$tree"
"$binary" completions bash >"$tree/completions/llm-probe-exporter.bash"
"$binary" completions zsh >"$tree/completions/_llm-probe-exporter"
"$binary" completions fish >"$tree/completions/llm-probe-exporter.fish"
"$binary" man "$tree/man"
tools/dependencies.py sbom >"$tree/sbom.cdx.json"

tar -C "$work" --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -n >"$out/$name.tar.gz"
cp "$tree/sbom.cdx.json" "$out/$name.cdx.json"
(cd "$out" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)

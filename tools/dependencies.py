#!/usr/bin/env python3
"""What is linked into a release, from cargo's own metadata: the licences, and a bill of materials.

    tools/dependencies.py licenses   print THIRD-PARTY.md
    tools/dependencies.py sbom       print a bill of materials (CycloneDX 1.5, JSON)
    tools/dependencies.py check      fail unless THIRD-PARTY.md is up to date

The same sources give the same output: it holds no time and no path.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLATFORM = "x86_64-unknown-linux-gnu"
LICENSE_FILES = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def metadata():
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={PLATFORM}"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def linked(of):
    """The packages that a build reads, tests aside, and whom each depends on."""
    packages = {package["id"]: package for package in of["packages"]}
    nodes = {node["id"]: node for node in of["resolve"]["nodes"]}
    root = of["resolve"]["root"]
    edges, waiting = {}, [root]
    while waiting:
        at = waiting.pop()
        if at in edges:
            continue
        is_read = lambda dep: any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"])
        edges[at] = sorted({dep["pkg"] for dep in nodes[at]["deps"] if is_read(dep)})
        waiting += edges[at]
    key = lambda package: (package["name"], package["version"])
    return root, packages, edges, sorted((packages[at] for at in edges if at != root), key=key)


def expression(package):
    """Old manifests write `MIT/Apache-2.0`."""
    if not package["license"]:
        sys.exit(f"{package['name']} {package['version']} names no licence")
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and LICENSE_FILES.match(path.name))
    tidy = lambda text: "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    return [tidy(path.read_text(encoding="utf-8", errors="replace")) for path in files]


def licenses():
    *_, packages = linked(metadata())
    out = [
        "# Third-party licences",
        "",
        "What is linked into the program, or read to build it. Made by `tools/dependencies.py licenses`; do not edit.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
    ]
    holders = {}
    for package in packages:
        out.append(f"| {package['name']} | {package['version']} | {expression(package)} |")
        for text in texts(package):
            holders.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, names in sorted(holders.items(), key=lambda holder: holder[1]):
        fence = "`" * max([3] + [len(run) + 1 for run in re.findall("`+", text)])
        out += ["", f"## {', '.join(sorted(set(names)))}", "", f"{fence}text", text, fence]
    return "\n".join(out) + "\n"


def sbom():
    root, packages, edges, components = linked(metadata())
    lock = (ROOT / "Cargo.lock").read_bytes()
    checksums = {
        (package["name"], package["version"]): package.get("checksum")
        for package in tomllib.loads(lock.decode())["package"]
    }
    reference = lambda package: f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package, kind):
        entry = {
            "type": kind,
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": expression(package)}],
            "purl": reference(package),
        }
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(lock).hexdigest())}",
        "version": 1,
        "metadata": {"component": component(packages[root], "application")},
        "components": [component(package, "library") for package in components],
        "dependencies": [
            {"ref": reference(packages[at]), "dependsOn": [reference(packages[to]) for to in edges[at]]}
            for at in sorted(edges)
        ],
    }
    return json.dumps(bill, indent=2) + "\n"


def check():
    if (ROOT / "THIRD-PARTY.md").read_text(encoding="utf-8") != licenses():
        sys.exit("THIRD-PARTY.md is not up to date: tools/dependencies.py licenses > THIRD-PARTY.md")
    json.loads(sbom())
    return ""


COMMANDS = {"licenses": licenses, "sbom": sbom, "check": check}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.stdout.write(COMMANDS[sys.argv[1]]())

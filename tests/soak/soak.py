"""What tests/soak.sh runs: see there.

Memory is the resident set without files, as the kernel says it (RssAnon), averaged over spells of five minutes, because samples
ten seconds apart are anything but independent. Its slope is that of a straight line through those averages.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (a screen is not there)
from scipy import stats  # noqa: E402

SAMPLE_EVERY = 10  # s
RELOAD_EVERY = 60  # s
WARM_UP = 600  # s, in which memory may grow: the exporter remembers the last 60 bursts of a series, one every 10 s
SPELL = 300  # s that one average is over
SIGNIFICANT = 0.01  # a slope that chance gives less often than this is one
FORMATS = [
    "text/plain;version=0.0.4",
    "application/openmetrics-text;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
]
FAULTS = [
    "status=500 every=7",
    "status=429 every=31",
    "truncate every=11",
    "reset@3 every=13",
    "stall=2s@5 every=17",
    "error@2 every=19",
    "garbage@1 every=23",
    "split=3 every=3",
]
BINARY = os.environ["LLM_PROBE_TEST_BIN"]


class Program:
    """A child process whose log goes to a file; it says itself where it listens."""

    def __init__(self, args, log):
        self.log = log
        self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=log.open("w"))

    def address(self):
        for _ in range(200):
            found = re.search(r"listening.*?(127\.0\.0\.1:[1-9]\d*)", self.log.read_text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"{self.log} does not say where it listens: {self.log.read_text()[-2000:]}")

    def end(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


def configuration(steady, moody, turn):
    """Ten targets at each server. Every other turn has one more probe, and another has another interval."""
    targets = [
        {"name": f"{kind}-{n}", "url": f"http://{address}/v1", "api": api, "model": "simulated"}
        for kind, address in [("steady", steady), ("moody", moody)]
        for n, api in enumerate(["openai_chat", "openai_completions", "openai_responses", "anthropic_messages"] * 3)
        if n < 10
    ]
    steady_names = [target["name"] for target in targets if target["name"].startswith("steady")]
    slo = {"ttft": "500ms", "itl": "50ms", "objective": "99%"}
    probes = [
        {"name": "one", "every": "10s", "requests": 2, "slo": slo},
        {"name": "five", "every": "10s" if turn % 2 else "8s", "concurrency": 5, "slo": slo},
        {"name": "ladder", "targets": steady_names[:2], "every": "10s", "ladder": [{"users": n} for n in (1, 4, 16)], "slo": slo},
        {"name": "rate", "targets": steady_names[:1], "every": "10s", "arrival": {"kind": "rate", "per_second": 5}, "requests": 20, "slo": slo},
    ]
    if turn % 2:
        probes.append({"name": "passing", "every": "10s", "slo": slo})
    # JSON is YAML.
    return json.dumps({"targets": targets, "defaults": {"prompt": {"text": "Count."}, "max_tokens": 16, "timeouts": {"total": "15s"}}, "probes": probes})


def held(pid):
    """What the process holds, as the kernel says it."""
    status = Path(f"/proc/{pid}/status").read_text()
    field = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M).group(1))
    descriptors = os.listdir(f"/proc/{pid}/fd")
    return {"memory_mib": field("RssAnon") / 1024, "descriptors": len(descriptors), "threads": field("Threads")}


def scrape(address, accept):
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    begun = time.monotonic()
    body = urllib.request.urlopen(request, timeout=10).read()
    return body, time.monotonic() - begun


def samples(text):
    pairs = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line and line[0] != "#")
    return {series: float(value) for series, value in pairs}


def late(now, before):
    """The p99 of how late the measuring runtime's timers were between two scrapes, in ms: the bucket it lies in."""
    name = "llm_probe_exporter_runtime_lag_seconds_bucket"
    grew = sorted(
        (float(series.split('le="')[1].split('"')[0]), value - before.get(series, 0))
        for series, value in now.items()
        if series.startswith(name)
    )
    return next((bound * 1000 for bound, count in grew if count >= 0.99 * grew[-1][1]), float("nan"))


def fallen(now, before):
    counter = re.compile(r"^[a-z_]+_(total|bucket|count)(\{|$)")
    return [series for series, value in now.items() if counter.match(series) and value < before.get(series, 0)]


def chart(rows, folder, verdict):
    figure, axes = plt.subplots(4, 1, figsize=(10, 10), sharex=True)
    shown = [("memory_mib", "memory, MiB"), ("descriptors", "descriptors"), ("lag_p99_ms", "timers' lag p99, ms"), ("scrape_ms", "scrape, ms")]
    hours = [row["seconds"] / 3600 for row in rows]
    for axis, (name, label) in zip(axes, shown):
        axis.plot(hours, [row[name] for row in rows], linewidth=0.8)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.axvline(WARM_UP / 3600, color="grey", linestyle=":")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("hours")
    axes[0].set_title(verdict, fontsize=10)
    figure.tight_layout()
    figure.savefig(folder / "soak.png", dpi=80)


def averages(rows, name):
    """The means of whole spells after the warm-up: (hours, mean)."""
    spells = {}
    for row in rows:
        if row["seconds"] >= WARM_UP:
            spells.setdefault(int((row["seconds"] - WARM_UP) // SPELL), []).append(row[name])
    whole = [(spell, values) for spell, values in spells.items() if len(values) >= 0.8 * SPELL / SAMPLE_EVERY]
    return [(spell * SPELL / 3600, sum(values) / len(values)) for spell, values in whole]


def judge(rows, problems):
    """The sentence for the chart, and whether all is well."""
    said = []
    for name, unit in [("memory_mib", "MiB"), ("descriptors", "descriptors"), ("threads", "threads")]:
        points = averages(rows, name)
        if len(points) < 4:
            problems.append(f"too short to judge {name}: {len(points)} whole spells after the warm-up")
            continue
        line = stats.linregress(*zip(*points))
        said.append(f"{name} {line.slope:+.3f} ± {1.96 * line.stderr:.3f} {unit}/h (p = {line.pvalue:.2f})")
        if line.slope > 0 and line.pvalue < SIGNIFICANT:
            problems.append(f"{name} grows: {said[-1]}")
    return "; ".join(said)


def soak(seconds, folder):
    binary = [BINARY]
    simulate = [*binary, "simulate", "--listen-address=127.0.0.1:0", "--profile=8b-l40s", "--speed=4"]
    programs = [
        Program(simulate, folder / "steady.log"),
        Program(simulate + [f"--fault={fault}" for fault in FAULTS], folder / "moody.log"),
    ]
    try:
        steady, moody = (program.address() for program in programs)
        config = folder / "probes.yaml"
        config.write_text(configuration(steady, moody, 0))
        exporter = Program(
            [*binary, f"--config.file={config}", "--web.listen-address=127.0.0.1:0"],
            folder / "exporter.log",
        )
        programs.append(exporter)
        address = exporter.address()
        scraper = folder / "prometheus.yml"
        scraper.write_text(f"global: {{ scrape_interval: 5s }}\nscrape_configs: [{{ job_name: soak, static_configs: [{{ targets: ['{address}'] }}] }}]\n")
        data = folder / "prometheus"
        programs.append(
            Program(
                [os.environ["LLM_PROBE_TEST_PROMETHEUS"], f"--config.file={scraper}", f"--storage.tsdb.path={data}", "--web.listen-address=127.0.0.1:0"],
                folder / "prometheus.log",
            )
        )
        rows, problems = watch(seconds, folder, exporter, address, lambda turn: config.write_text(configuration(steady, moody, turn)))
        if code := exporter.end():
            problems.append(f"the exporter ended with {code}")
    finally:
        for program in programs:
            if program.process.poll() is None:
                program.end()
    sentence = judge(rows, problems)
    chart(rows, folder, sentence)
    print(sentence)
    for problem in problems:
        print("PROBLEM:", problem)
    return 1 if problems else 0


def watch(seconds, folder, exporter, address, change):
    rows, problems, before, turn = [], [], {}, 0
    begun = time.monotonic()
    with (folder / "soak.csv").open("w", newline="") as file:
        table = None
        while (elapsed := time.monotonic() - begun) < seconds:
            if elapsed >= (turn + 1) * RELOAD_EVERY:
                turn += 1
                change(turn)
                exporter.process.send_signal(signal.SIGHUP)
            if exporter.process.poll() is not None:
                problems.append(f"the exporter ended by itself with {exporter.process.returncode}")
                break
            try:
                for accept in FORMATS[1:]:
                    scrape(address, accept)
                text, took = scrape(address, FORMATS[0])
            except OSError as error:
                problems.append(f"after {elapsed:.0f} s a scrape failed: {error}")
                time.sleep(SAMPLE_EVERY)
                continue
            now = samples(text)
            problems += [f"after {elapsed:.0f} s {series} fell" for series in fallen(now, before)]
            total = lambda name: sum(value for series, value in now.items() if series.split("{")[0] == name)
            row = {
                "seconds": round(elapsed, 1),
                **held(exporter.process.pid),
                "samples": len(now),
                "requests": int(total("llm_probe_requests_total")),
                "reloads": turn,
                "lag_p99_ms": late(now, before),
                "scrape_ms": round(took * 1000, 1),
            }
            before = now
            rows.append(row)
            table = table or csv.DictWriter(file, row.keys())
            if len(rows) == 1:
                table.writeheader()
            table.writerow(row)
            file.flush()
            if len(rows) % 30 == 1:
                print(json.dumps(row), flush=True)
            time.sleep(max(0, (len(rows)) * SAMPLE_EVERY - (time.monotonic() - begun)))
    return rows, problems


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1]) * 3600, Path(sys.argv[2])))

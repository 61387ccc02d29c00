"""The real llama.cpp server, for the tests: a child process that cannot outlive the test that started it.

Prints one line, `ready PORT`, on standard output as soon as /health answers 200; everything that llama.cpp
logs goes to standard error. Ends on SIGTERM, and when its standard input closes: give it a pipe and keep the
other end, and it goes with its parent however that one ends, kill -9 included. (With /dev/null as standard
input it therefore ends at once.)
"""

import argparse
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 (the default) takes a free one")
    parser.add_argument("--parallel", type=int, default=1, help="slots: requests decoded at a time (default: 1)")
    parser.add_argument("--ctx", type=int, default=4096, help="context in tokens, shared by the slots (default: 4096)")
    return parser.parse_args()


def end_with_parent():
    """Ends the process at the end of standard input. `os._exit`, since the server's threads know no other end."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def start(options):
    import xllamacpp  # takes a moment; after the watch on standard input has begun

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.parallel
    params.n_ctx = options.ctx
    # One thread: the other core is the prober's. The prompt's threads do not follow by themselves.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    return xllamacpp.Server(params)


def wait_until_healthy(address, deadline):
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:  # 503 while the model loads, refused before
            if time.monotonic() > deadline:
                sys.exit(f"llama_server.py: {address}/health: {error}")
        time.sleep(0.02)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=end_with_parent, daemon=True).start()

    ready_line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints, standard output carries only our line

    server = start(options)
    address = server.listening_address  # http://127.0.0.1:PORT
    wait_until_healthy(address, time.monotonic() + 60)
    print(f"ready {address.rsplit(':', 1)[1]}", file=ready_line, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

"""Two network interfaces and a wire between them that takes its time.

Creates the TUN devices `tun0` and `tun1` where it is started, prints `ready`, and passes every packet that one of
them sends to the other, DELAY milliseconds later and never earlier. The devices may be moved into other network
namespaces: they stay connected. Ends when its standard input does.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000


def open_tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_WITHOUT_HEADER))
    return device


def main():
    delay = float(sys.argv[1]) / 1000
    ends = [open_tun("tun0"), open_tun("tun1")]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    print("ready", flush=True)
    under_way = collections.deque()  # (when it arrives, where, what); the delay is the same for all
    while True:
        wait = max(0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        for device in readable:
            try:
                while True:
                    packet = os.read(device, 65536)
                    under_way.append((time.monotonic() + delay, other[device], packet))
            except OSError:  # nothing more, or the device is down
                pass
        while under_way and under_way[0][0] <= time.monotonic():
            _, device, packet = under_way.popleft()
            try:
                os.write(device, packet)
            except OSError:  # it is down: a cable that is not plugged in
                pass


main()

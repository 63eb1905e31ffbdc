"""A link that loses the one answer that matters: `python deaf.py cut|kill SSH ARGUMENTS…`.

It stands where ssh stands, passes everything on, and hangs up once the remote says that it has
published; with `kill`, whoever pushed is killed as well, before any of it has come through.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from usrstore.objects import codec
from usrstore.remote.wire import FRAME_HEAD, MAGIC


def pump(source, target):
    try:
        while data := os.read(source, 1 << 16):
            target.write(data)
            target.flush()
    except OSError:
        pass
    target.close()


def main(fate, program):
    child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    threading.Thread(target=pump, args=(0, child.stdin), daemon=True).start()
    out = sys.stdout.buffer
    seen = b""
    while not seen.endswith(MAGIC):
        seen += child.stdout.read(1)
    out.write(seen)
    out.flush()
    while head := child.stdout.read(FRAME_HEAD.size):
        size, kind = FRAME_HEAD.unpack(head)
        body = child.stdout.read(size)
        if kind == b"M" and codec.decode(body).get("op") == "published":
            if fate == "kill":
                os.kill(os.getppid(), signal.SIGKILL)
            child.stdin.close()
            child.wait()
            os._exit(255)
        out.write(head + body)
        out.flush()
    os._exit(child.wait())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

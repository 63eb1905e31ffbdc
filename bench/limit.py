"""The least that keeping can cost: hash every byte with two threads, copy it, sync the disk."""

import os
import subprocess
import sys

from blake3 import blake3

LARGE_BYTES = 8 << 20

source, target = sys.argv[1:]
for at, _, names in os.walk(source):
    for name in names:
        path = os.path.join(at, name)
        hasher = blake3(max_threads=2 if os.path.getsize(path) > LARGE_BYTES else 1)
        with open(path, "rb") as file:
            while piece := file.read(LARGE_BYTES):
                hasher.update(piece)
        hasher.digest()
subprocess.run(["cp", "-r", source, target], check=True)
subprocess.run(["sync", "-f", target], check=True)

"""The least that keeping can cost: hash every byte with two threads, copy it, sync the disk.

python limit.py [--no-sync] SOURCE TARGET
"""

import os
import subprocess
import sys

from blake3 import blake3

LARGE_BYTES = 8 << 20

*options, source, target = sys.argv[1:]
buffer = bytearray(LARGE_BYTES)
view = memoryview(buffer)
for at, _, names in os.walk(source):
    for name in names:
        path = os.path.join(at, name)
        hasher = blake3(max_threads=2 if os.path.getsize(path) > LARGE_BYTES else 1)
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hasher.update(view[:count])
        hasher.digest()
subprocess.run(["cp", "-r", source, target], check=True)
if "--no-sync" not in options:
    subprocess.run(["sync", "-f", target], check=True)

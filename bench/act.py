"""Many small changes of a dataset, one after another in one process: `act.py WAY ROOT COUNT`.

WAY is `acts` (files and events as one, as every command does it) or `plain` (the file and the
line, each fsynced: what a disk asks for at least, without any promise about both).
"""

import os
import sys
import time

from usrstore import who
from usrstore.root import Root
from usrstore.verbs.creating import create
from usrstore.verbs.mutating import mutating
from usrstore.verbs.site import Site

PART = os.urandom(16_000)
LINE = b'{"action":"write_overlay_part","args":{"namespace":"infer","rows_incoming":400}}\n'


def acts(root: str, count: int) -> None:
    site = Site.open(Root(root), "bench/acts", who("bench"))
    for number in range(count):
        with mutating(site) as act:
            act.put(f"_derived/infer/part-{time.time_ns()}-{number}.parquet", PART)
            act.event("write_overlay_part", args={"namespace": "infer", "rows_incoming": 400})


def plain(root: str, count: int) -> None:
    folder = os.path.join(root, "plain")
    os.makedirs(folder, exist_ok=True)
    for number in range(count):
        path = os.path.join(folder, f"part-{time.time_ns()}-{number}.parquet")
        for name, data, flags in (
            (path, PART, os.O_CREAT | os.O_EXCL),
            (os.path.join(root, "log"), LINE, os.O_CREAT | os.O_APPEND),
        ):
            fd = os.open(name, os.O_WRONLY | flags, 0o666)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


way, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if way == "acts" and not os.path.exists(os.path.join(root, "bench", "acts")):
    create(Site.open(Root(root), "bench/acts", who("bench")))
{"acts": acts, "plain": plain}[way](root, 5)
began = time.perf_counter()
{"acts": acts, "plain": plain}[way](root, count)
print((time.perf_counter() - began) / count)

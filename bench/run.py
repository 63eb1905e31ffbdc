"""Run the benchmarks, print their tables, write bench/results/latest.json.

python bench/run.py                  everything, below ten minutes
python bench/run.py --quick          smaller data, below ninety seconds
python bench/run.py startup append   some of them
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time

import acts
import change
import fsck
import index
import keep
import lab
import negotiation
import overlays
import peers
import query
import rows
import startup
import transfer
import versus

import bucket

BENCHMARKS = {
    "startup": startup.startup,
    "push": transfer.push,
    "pull": transfer.pull,
    "many": transfer.many,
    "far": transfer.far,
    "negotiation": negotiation.negotiation,
    "append": change.append,
    "part": change.part,
    "acts": acts.acts,
    "overlays": overlays.overlays,
    "commit": keep.commit,
    "checkout": keep.checkout,
    "status": keep.status,
    "memory": keep.memory,
    "fsck": fsck.fsck,
    "bucket": bucket.bucket,
    "index": index.index,
    "query": query.query,
    "versus": versus.versus,
    "rows": rows.rows,
}
ON_ITS_OWN = {"versus"}  # minutes, and it writes a page
LATEST = os.path.join(lab.HERE, "results", "latest.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds")
    parser.add_argument(
        "--with-dvc", action="store_true", help="install dvc for comparison; versus always does"
    )
    parser.add_argument("--where", metavar="DIR", help="the disk to measure on (else $TMPDIR)")
    parser.add_argument("--out", metavar="FILE", help=f"else {os.path.relpath(LATEST)}")
    parser.add_argument("--megabytes", default="", help="sizes for versus: 60,600")
    parser.add_argument("--patience", type=float, help="seconds a tool has in versus for one step")
    parser.add_argument("--write-docs", action="store_true", help="versus: write docs/versus.md")
    given = parser.parse_args()
    sizes = tuple(int(word) for word in given.megabytes.split(",") if word)
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    began, load = time.time(), os.getloadavg()[0]
    result = {"machine": machine(), "quick": given.quick, "tables": {}}
    print(f"{result['machine']}\n")
    with lab.opened(
        quick=given.quick,
        where=given.where,
        with_dvc=given.with_dvc or "versus" in given.names,
        sizes=sizes,
        patience=given.patience,
        write_docs=given.write_docs,
        options=" ".join(sys.argv[1:]),
    ) as place:
        for name in given.names or [name for name in BENCHMARKS if name not in ON_ITS_OWN]:
            started = time.time()
            tables = BENCHMARKS[name](place)
            for table in tables:
                print(table.text(), flush=True)
            result["tables"][name] = [
                {"title": t.title, "rows": [r.data() for r in t.rows], "notes": t.notes}
                for t in tables
            ]
            print(f"({name}: {time.time() - started:.0f} s)\n", flush=True)
    result["load_average"] = [round(load, 2), round(os.getloadavg()[0], 2)]
    result["seconds"] = round(time.time() - began)
    print(f"{result['seconds']} s; load before and after: {result['load_average']}")
    out = given.out or (None if given.names or given.quick else LATEST)
    if out:
        os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
        with open(out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1, ensure_ascii=False)
            file.write("\n")


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "usr": said(lab.USR, "--version"),
        "ssh": said("ssh", "-V"),
        "rsync": said("rsync", "--version"),
        "git": said("git", "--version"),
        "rclone": said(bucket.RCLONE_PROGRAM, "--version"),
        **peers.versions(),
    }


def said(*argv: str) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode().splitlines()[0].strip()


if __name__ == "__main__":
    sys.exit(main())

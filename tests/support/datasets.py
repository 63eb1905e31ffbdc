"""Datasets as dicts {path: bytes}, written to folders and read back."""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from usrstore.dataset import registry
from usrstore.objects.sections import is_runtime

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
DATASET = "ns/x"

Files = dict[str, bytes]

REGISTRY = registry.text(
    {
        **registry.EMPTY["namespaces"],
        "infer": {"columns": [{"name": "infer__logits", "type": "list<float32>"}]},
    }
)
"""A registry that knows the columns of `sample_parquet`."""


def noise(name, size):
    """Bytes that no compressor shrinks, the same in every run."""
    return blake3(str(name).encode()).digest(length=size)


def sample_parquet() -> bytes:
    return (GOLDEN / "sample.parquet").read_bytes()


def events(*numbers) -> bytes:
    return b"".join(b'{"event": %d, "action": "append"}\n' % number for number in numbers)


def old_files() -> Files:
    """Every section, a file of several chunks, an empty file."""
    return {
        "records.parquet": noise("base", 400_000),
        ".events.log": events(1, 2, 3),
        "meta.md": b"# first\n",
        "_snapshots/2024-01-01.parquet": noise("snapshot", 3000),
        "_derived/infer/part-1.parquet": noise("part 1", 2000),
        "_derived/infer/part-2.parquet": noise("part 2", 2000),
        "_artifacts/figure.svg": b"<svg/>\n",
        "_artifacts/empty": b"",
    }


def new_files() -> Files:
    """`old_files` after a day: replaced, edited, removed, added, and a new folder in a folder."""
    files = old_files()
    base = files["records.parquet"]
    files["records.parquet"] = base[:200_000] + b"edited" + base[200_006:] + noise("more", 5000)
    files[".events.log"] = events(1, 2, 3, 4, 5)
    files["meta.md"] = b"# second\n"
    files["_derived/infer/part-1.parquet"] = noise("part 1, again", 2000)
    del files["_derived/infer/part-2.parquet"]
    files["_derived/infer/part-3.parquet"] = noise("part 3", 2500)
    files["_views/by/day/view.json"] = b'{"rows": 5}\n'
    return files


def write(folder, files: Files) -> None:
    """Make the folder hold these files and no other data."""
    folder = Path(folder)
    for path in read(folder):
        if path not in files:
            (folder / path).unlink()
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != data:
            scratch = target.with_name(f".{target.name}.writing")
            scratch.write_bytes(data)
            scratch.rename(target)


def read(folder) -> Files:
    """Every file below a folder, without locks and leases."""
    folder = str(folder)
    found: Files = {}
    for at, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(at, name)
            path = os.path.relpath(full, folder)
            if not is_runtime(name, top="/" not in path):
                with open(full, "rb") as file:
                    found[path] = file.read()
    return found


def outside(root, dataset=DATASET) -> Files:
    """Everything in a root that is neither the store nor the dataset."""
    return {
        path: data
        for path, data in read(root).items()
        if not path.startswith((".usr/", f"{dataset}/"))
    }

"""A dataset as batch tools leave it: sequences with vectors, overlays, snapshots, events.

Real Parquet, written as the tools write it, from a seed; so two drills see the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from typing import Any

from usrstore.dataset import registry

CREATED_US = 1_760_000_000_000_000
VECTOR = 16


def make_root(root: str) -> None:
    """A root whose registry knows the namespaces of the drill."""
    os.makedirs(root, exist_ok=True)
    namespaces = dict(registry.EMPTY["namespaces"])
    for name, columns in {
        "densegen": [
            ("densegen__vector", "list<float>"),
            ("densegen__run", "string"),
            ("densegen__number", "int64"),
            ("densegen__motifs", "list<string>"),
            ("densegen__starts", "list<int32>"),
            ("densegen__gc", "float64"),
        ],
        "infer": [
            ("infer__ll_mean", "float64"),
            ("infer__ll_sum", "float64"),
            ("infer__logits", "list<float>"),
        ],
        "annot": [("annot__label", "string")],
    }.items():
        namespaces[name] = {
            "owner": "drill",
            "description": f"the {name} namespace",
            "columns": [{"name": column, "type": kind} for column, kind in columns],
        }
    with open(os.path.join(root, "registry.yaml"), "wb") as file:
        file.write(registry.text(namespaces))


def make_dataset(root: str, dataset: str, *, rows: int, parts: int, seed: int = 1) -> None:
    """The dataset: `rows` sequences, two namespaces of `parts` overlay parts each."""
    folder = os.path.join(root, dataset)
    os.makedirs(os.path.join(folder, "_snapshots"))
    rng = random.Random(seed)
    sequences = _sequences(rng, rows)
    _write_records(folder, sequences, rng)
    for hour in range(3):
        name = f"records-2026110{hour + 1}T080000000000.parquet"
        shutil.copyfile(_records(folder), os.path.join(folder, "_snapshots", name))
    ids = [_id(sequence) for sequence in sequences]
    size = max(1, rows // parts)
    for number in range(parts):
        chosen = ids[number * size : (number + 1) * size]
        write_part(folder, "infer", number, chosen, rng)
        write_part(folder, "annot", number, chosen, rng)
    for number in range(12):
        _write(folder, f"_artifacts/run-{number:02d}/report.json", _report(rng, number))
    _write(folder, "meta.md", f"name: {dataset}\nsource: drill\n\n### Updates\n")
    for number in range(200):
        append_event(folder, "write_overlay_part", {"n": number})


def _sequences(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("ACGT", k=rng.randint(60, 120))) for _ in range(count)]


def _id(sequence: str) -> str:
    return hashlib.sha1(f"dna|{sequence}".encode(), usedforsecurity=False).hexdigest()


def _records(folder: str) -> str:
    return os.path.join(folder, "records.parquet")


def _write(folder: str, path: str, text: str) -> None:
    full = os.path.join(folder, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)


def _report(rng: random.Random, number: int) -> str:
    return json.dumps({"run": number, "scores": [rng.random() for _ in range(200)]}, indent=1)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("bio_type", pa.string()),
            ("sequence", pa.string()),
            ("alphabet", pa.string()),
            ("length", pa.int32()),
            ("source", pa.string()),
            ("created_at", pa.timestamp("us", tz="UTC")),
            ("densegen__vector", pa.list_(pa.float32())),
        ],
        metadata={"usr:schema_version": "1", "usr:id_hash": "sha1_utf8_pipe"},
    )


def _table(sequences: list[str], rng: random.Random) -> Any:
    import pyarrow as pa

    count = len(sequences)
    columns = {
        "id": [_id(sequence) for sequence in sequences],
        "bio_type": ["dna"] * count,
        "sequence": sequences,
        "alphabet": ["dna_4"] * count,
        "length": [len(sequence) for sequence in sequences],
        "source": ["densegen"] * count,
        "created_at": [CREATED_US] * count,
        "densegen__vector": [[rng.random() for _ in range(VECTOR)] for _ in range(count)],
    }
    return pa.table(columns, schema=_schema())


def _write_records(folder: str, sequences: list[str], rng: random.Random) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_table(sequences, rng), _records(folder), compression="zstd")


def append_rows(folder: str, count: int, seed: int) -> None:
    """What densegen does: the old rows again, the new ones behind them, a snapshot, an event."""
    import pyarrow.parquet as pq

    rng = random.Random(seed)
    old = pq.read_table(_records(folder))
    scratch = f"{_records(folder)}.tmp"
    with pq.ParquetWriter(scratch, old.schema, compression="zstd") as writer:
        writer.write_table(old)
        writer.write_table(_table(_sequences(rng, count), rng).cast(old.schema))
    os.replace(scratch, _records(folder))
    snapshot = f"_snapshots/records-20261108T{seed:012d}.parquet"
    shutil.copyfile(_records(folder), os.path.join(folder, snapshot))
    append_event(folder, "import_rows", {"n": count})


def write_part(folder: str, namespace: str, number: int, ids: list[str], rng: random.Random) -> str:
    """What infer does: one overlay part. Gives its path in the dataset."""
    import pyarrow as pa

    if namespace == "infer":
        table = pa.table(
            {
                "id": ids,
                "infer__ll_mean": [rng.gauss(-1, 0.2) for _ in ids],
                "infer__logits": pa.array(
                    [[rng.random() for _ in range(8)] for _ in ids], pa.list_(pa.float32())
                ),
            }
        )
    else:
        table = pa.table({"id": ids, "annot__label": [rng.choice("abc") for _ in ids]})
    stamp = f"20261101T{number:012d}Z"
    name = f"part-{stamp}-{rng.getrandbits(128):032x}.parquet"
    return _write_part(folder, namespace, table, name)


def _write_part(folder: str, namespace: str, table: Any, name: str) -> str:
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata(
        {"usr:overlay_namespace": namespace, "usr:overlay_key": "id"}
    )
    path = f"_derived/{namespace}/{name}"
    full = os.path.join(folder, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    pq.write_table(table, full, compression="zstd")
    return path


def write_bad_part(folder: str, column: str) -> str:
    """A part that some tool wrote past the registry: text under `column`. Gives its path."""
    import pyarrow as pa

    table = pa.table({"id": [_id("ACGT")], f"infer__{column}": ["high"]})
    return _write_part(folder, "infer", table, f"part-20261109T000000000000Z-{'0' * 32}.parquet")


def a_sequence(folder: str) -> str:
    """The first sequence of the dataset."""
    import pyarrow.parquet as pq

    return str(pq.read_table(_records(folder), columns=["sequence"]).column(0)[0].as_py())


def write_back(folder: str, seed: int, *, parts: int = 3, rows: int = 500) -> list[str]:
    """A sibling tool's write-back: some overlay parts and their events. Gives the new paths."""
    rng = random.Random(seed)
    paths = []
    for number in range(parts):
        ids = [_id(sequence) for sequence in _sequences(rng, rows)]
        paths.append(write_part(folder, "infer", seed * 1000 + number, ids, rng))
        append_event(folder, "write_overlay_part", {"namespace": "infer", "rows_incoming": rows})
    return paths


def append_event(folder: str, action: str, args: dict[str, Any]) -> None:
    event = {"event_version": 1, "action": action, "args": args, "actor": {"tool": "drill"}}
    with open(os.path.join(folder, ".events.log"), "a", encoding="utf-8") as file:
        file.write(json.dumps(event, separators=(",", ":")) + "\n")

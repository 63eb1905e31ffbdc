"""Overlays as plain Python: files written for tests, and an oracle of what a reader must see.

The oracle knows rows as dicts and nothing of Arrow, ranks or batches. It is slow and short, so
that it can be believed; everything that merges overlays is compared with it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from support.pairs import Place
from support.people import Clock, make_who
from usrstore.dataset import overlay, query, registry

MOMENT = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
NOON_US = int(MOMENT.timestamp()) * 1_000_000
BASE = pa.schema(
    [
        ("id", pa.string()),
        ("bio_type", pa.string()),
        ("sequence", pa.string()),
        ("alphabet", pa.string()),
        ("length", pa.int32()),
        ("source", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata={"usr:schema_version": "1", "usr:id_hash": "sha1_utf8_pipe"},
)


@dataclass
class Layer:
    """One overlay file: rows as dicts that hold the key under the key's own name.

    Attributes:
        created_us: None for a file that does not say when it was made.
        name: its file name in `_derived/<ns>/`; None for the compact file.
        types: the columns and their Arrow types, key excepted.
    """

    namespace: str
    created_us: int | None
    name: str | None
    rows: list[dict]
    types: dict[str, pa.DataType] = field(default_factory=dict)
    key: str = "id"

    @property
    def path(self) -> str:
        folder = f"_derived/{self.namespace}"
        return f"{folder}.parquet" if self.name is None else f"{folder}/{self.name}"

    @property
    def rank(self):
        return (self.created_us or 0, self.path.rpartition("/")[2])

    def write(self, folder, **options) -> Path:
        schema = pa.schema(
            [(self.key, pa.string()), *self.types.items()],
            metadata={
                "usr:overlay_namespace": self.namespace,
                "usr:overlay_key": self.key,
                **(
                    {}
                    if self.created_us is None
                    else {"usr:overlay_created_at": overlay.format_moment(self.created_us)}
                ),
            },
        )
        path = Path(folder) / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self.rows, schema=schema), path, **options)
        return path


def part(namespace, number, rows, types, *, key="id", created_us=None) -> Layer:
    """The `number`-th part of a namespace, a second after the one before."""
    created = NOON_US + number * 1_000_000 if created_us is None else created_us
    return Layer(namespace, created, overlay.part_name(created, f"{number:032x}"), rows, types, key)


def row_id(sequence, bio_type="dna") -> str:
    return hashlib.sha1(f"{bio_type}|{sequence.strip()}".encode()).hexdigest()


def row(sequence, **more) -> dict:
    return {
        "id": row_id(sequence),
        "bio_type": "dna",
        "sequence": sequence,
        "alphabet": "dna_4",
        "length": len(sequence),
        "source": "test",
        "created_at": MOMENT,
        **more,
    }


def write_base(folder, rows, more_types=None, **options) -> None:
    """records.parquet with these rows; `more_types` are the columns after the required ones."""
    schema = BASE
    for name, kind in (more_types or {}).items():
        schema = schema.append(pa.field(name, kind))
    Path(folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema), Path(folder) / "records.parquet", **options
    )


def compared(value, key):
    """A key as it is compared."""
    if value is None:
        return None
    value = value.strip()
    return value.upper() if key == "sequence_ci" else value


def seen(base: list[dict], layers: list[Layer]) -> list[dict]:
    """The oracle: the rows that a reader sees when the layers lie over the base."""
    result = []
    for old in base:
        new = dict(old)
        for layer in sorted(layers, key=lambda layer: layer.rank):  # later ones overwrite
            at = compared(old["id" if layer.key == "id" else "sequence"], layer.key)
            for name in layer.types:
                new.setdefault(name, None)
            for row in layer.rows:
                if compared(row[layer.key], layer.key) == at:
                    new.update({n: row[n] for n in layer.types if row.get(n) is not None})
        result.append(new)
    return result


def compacted(layers: list[Layer]) -> dict[str, dict]:
    """The oracle: what one compact file of these parts holds, by key as it is compared."""
    found: dict[str, dict] = {}
    names = {name for layer in layers for name in layer.types}
    for layer in sorted(layers, key=lambda layer: layer.rank):
        for row in layer.rows:
            at = compared(row[layer.key], layer.key)
            if at is not None:
                into = found.setdefault(at, dict.fromkeys(names))
                into.update({n: row[n] for n in layer.types if row.get(n) is not None})
    return found


NAMESPACES = {
    "infer": {"infer__score": "float64", "infer__vector": "list<float32>", "infer__n": "int32"},
    "annot": {"annot__label": "string", "annot__ok": "bool"},
}
SEQUENCES = ["ACGT", "TTGA", "GGCC", "acgt", "CATG"]


def write_registry(root, declared=None) -> None:
    """registry.yaml with these namespaces, {namespace: {column: type}}."""
    found = dict(registry.EMPTY["namespaces"])
    for name, columns in (NAMESPACES if declared is None else declared).items():
        rows = [{"name": column, "type": kind} for column, kind in columns.items()]
        found[name] = {"owner": "test", "description": "", "columns": rows}
    (Path(root) / "registry.yaml").write_bytes(registry.text(found))


def make_place(path, sequences=SEQUENCES, declared=None) -> Place:
    """A root with a registry and one dataset of these sequences."""
    place = Place(Path(path), make_who(clock=Clock()))
    place.path.mkdir(parents=True, exist_ok=True)
    write_registry(place.path, declared)
    write_base(place.folder, [row(sequence) for sequence in sequences])
    return place


def read_layers(folder, namespace) -> list[Layer]:
    """The overlay files of a namespace as they lie there, oldest first."""
    found = overlay.load(str(folder), [namespace]).get(namespace)
    layers = []
    for file in found.files if found else ():
        table = pq.read_table(Path(folder) / file.path)
        layers.append(
            Layer(
                namespace,
                file.created_us or None,
                None if found.compact else Path(file.path).name,
                table.to_pylist(),
                {name: table.schema.field(name).type for name in file.columns},
                file.key,
            )
        )
    return layers


def events_of(folder) -> list[dict]:
    path = Path(folder) / ".events.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def joined(folder, columns=(), *, deleted=False) -> list[dict]:
    """What a reader sees, as the joined view gives it."""
    view = query.open_view(str(folder))
    scratch = Path(folder).parent / "scratch"
    rows = []
    for batch in view.batches(columns, scratch=str(scratch), deleted=deleted):
        rows += batch.to_pylist()
    return rows

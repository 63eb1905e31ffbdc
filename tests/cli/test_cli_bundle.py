"""Bundles: states that travel in a file arrive whole and verified, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import datasets
from support.datasets import DATASET, noise
from support.faults import CRASHED, Crash, in_child, moments_of
from support.lab import make_config, sample_files
from usrstore.objects.ids import Kind
from usrstore.objects.names import DatasetId, head_ref
from usrstore.odb.backend.archivewriter import ArchiveWriter, publish
from usrstore.odb.database import Database
from usrstore.odb.states import Act, Change, States
from usrstore.root import Root

BIG = {**sample_files(), "_artifacts/big.bin": noise("big", 3 << 20)}


@pytest.fixture
def packed(lab):
    """A committed dataset here, its bundle in a file, nothing there."""
    lab.write(BIG)
    lab.usr("commit", DATASET, "-m", "one").ok()
    lab.bundle = lab.home / "one.usrb"
    lab.usr("bundle", "create", lab.bundle, DATASET).ok()
    return lab


def there(lab, *words):
    return lab.usr("--root", lab.there, *words)


def nothing_there(lab):
    assert datasets.read(lab.there / DATASET) == {}
    assert "heads" not in str(lab.refs(lab.there))


# ── there and back ──────────────────────────────────────────────────────────────────────
def test_a_bundle_brings_a_dataset_byte_for_byte(packed):
    said = there(packed, "bundle", "import", packed.bundle, "-y", "--json").ok()
    assert said.data["transfer_state"] == "TRANSFERRED"
    assert datasets.read(packed.far) == BIG
    assert packed.refs(packed.there)[f"heads/{DATASET}"] == packed.refs()[f"heads/{DATASET}"]
    assert there(packed, "fsck", "--deep").ok()


def test_importing_it_again_changes_nothing(packed):
    there(packed, "bundle", "import", packed.bundle, "-y").ok()
    before = packed.everything()
    said = there(packed, "bundle", "import", packed.bundle, "-y", "--json").ok()
    assert said.data["transfer_state"] == "NO-OP"
    assert packed.everything() == before


def test_an_older_bundle_takes_nothing_back(packed):
    (packed.folder / "meta.md").write_text("newer\n")
    packed.usr("commit", DATASET).ok()
    newer = packed.home / "two.usrb"
    packed.usr("bundle", "create", newer, DATASET).ok()
    there(packed, "bundle", "import", newer, "-y").ok()
    before = packed.everything()
    said = there(packed, "bundle", "import", packed.bundle, "-y", "--json").ok()
    assert said.data["transfer_state"] == "NO-OP"
    assert packed.everything() == before


def test_what_both_changed_is_a_conflict(packed):
    there(packed, "bundle", "import", packed.bundle, "-y").ok()
    (packed.far / "meta.md").write_text("theirs\n")
    (packed.folder / "meta.md").write_text("ours\n")
    packed.usr("commit", DATASET).ok()
    other = packed.home / "two.usrb"
    packed.usr("bundle", "create", other, DATASET).ok()
    before = packed.everything()
    there(packed, "bundle", "import", other, "-y").failed("merge-conflict", 11)
    assert packed.everything() == before


def test_a_bundle_is_a_tar_that_anybody_can_read(packed):
    done = subprocess.run(["tar", "-tf", packed.bundle], capture_output=True, text=True, check=True)
    names = done.stdout.splitlines()
    assert "states/00000000000000000001" in names
    assert "about.json" in names
    assert sum(name.endswith(".pack") for name in names) == 2
    said = packed.usr("bundle", "verify", packed.bundle, "--json").ok()
    [state] = said.data["states"]
    assert said.data["whole"] is True
    assert state["signature"] in ("good", "unknown")
    assert state["files"] == len(BIG)


def test_a_bundle_is_verified_where_there_is_no_store(packed, monkeypatch):
    empty = packed.home / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.delenv("USR_ROOT")
    assert packed.usr("bundle", "verify", packed.bundle).ok().lines[-1] == "whole"
    assert list(empty.iterdir()) == []


def test_two_datasets_in_one_bundle(packed):
    datasets.write(packed.root / "ns/other", sample_files())
    packed.usr("commit", "ns/other").ok()
    both = packed.home / "both.usrb"
    packed.usr("bundle", "create", both, DATASET, "ns/other").ok()
    there(packed, "bundle", "import", both, "ns/other", "-y").ok()
    assert datasets.read(packed.far) == {}
    there(packed, "bundle", "import", both, "-y").ok()
    assert datasets.read(packed.there / "ns/other") == sample_files()
    assert datasets.read(packed.far) == BIG
    there(packed, "bundle", "import", both, "ns/none", "-y").failed("invalid-input", 3)
    packed.usr("bundle", "create", packed.home / "x", DATASET, f"{DATASET}~0").failed(
        "invalid-input", 3
    )


# ── parts and increments ────────────────────────────────────────────────────────────────
def test_a_split_bundle_is_whole_from_any_of_its_parts(packed):
    path = packed.home / "split.usrb"
    said = packed.usr("bundle", "create", path, DATASET, "--split", "1M", "--json").ok()
    parts = said.data["paths"]
    assert len(parts) == 4
    assert not path.exists()
    joined = packed.home / "joined.usrb"
    joined.write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    assert packed.usr("bundle", "verify", joined).ok()
    assert packed.usr("bundle", "verify", parts[2]).ok()
    os.rename(parts[1], f"{parts[1]}.away")
    said = there(packed, "bundle", "import", parts[0], "-y").failed("decode", 6)
    assert f"1 of 4 parts are missing: {os.path.basename(parts[1])}" in said.err
    os.rename(f"{parts[1]}.away", parts[1])
    there(packed, "bundle", "import", parts[3], "-y").ok()
    assert datasets.read(packed.far) == BIG


def test_an_increment_carries_what_is_new_and_says_what_it_needs(packed):
    (packed.folder / "_derived/infer/part-2.parquet").write_bytes(noise("new", 50_000))
    packed.usr("commit", DATASET, "-m", "two").ok()
    path = packed.home / "two.usrb"
    said = packed.usr("bundle", "create", path, DATASET, "--since", f"{DATASET}~1", "--json").ok()
    assert said.data["size"] < 80_000
    [state] = packed.usr("bundle", "verify", path, "--json").ok().data["states"]
    assert len(state["needs"]) == 1
    said = there(packed, "bundle", "import", path, "-y").failed("bundle-needs", 6)
    assert state["needs"][0][:12] in said.err
    nothing_there(packed)
    there(packed, "bundle", "import", packed.bundle, "-y").ok()
    there(packed, "bundle", "import", path, "-y").ok()
    assert datasets.read(packed.far) == packed.read()
    assert there(packed, "fsck", "--deep").ok()


def test_a_light_state_is_bundled_from_the_folder_or_not_at_all(lab):
    lab.write(BIG)
    lab.usr("push", DATASET, "lab", "-y").ok()  # light: the bytes rest in the folder
    lab.usr("bundle", "create", lab.home / "light.usrb", DATASET).ok()
    assert lab.usr("bundle", "verify", lab.home / "light.usrb").ok()
    (lab.folder / "_artifacts/big.bin").write_bytes(noise("other", 3 << 20))
    said = lab.usr("bundle", "create", lab.home / "gone.usrb", DATASET).failed("not-kept", 6)
    assert "_artifacts/big.bin" in said.err
    assert [
        p.name for p in lab.home.iterdir() if "gone" in p.name or p.name.startswith(".tmp")
    ] == []


# ── what goes wrong ─────────────────────────────────────────────────────────────────────
def test_a_file_that_is_there_is_not_replaced(packed):
    before = packed.bundle.read_bytes()
    packed.usr("bundle", "create", packed.bundle, DATASET).failed("conflict", 5)
    assert packed.bundle.read_bytes() == before
    missing = packed.home / "no" / "where.usrb"
    packed.usr("bundle", "create", missing, DATASET).failed("invalid-input", 3)


def damaged(data: bytes, how: str, at: float) -> bytes:
    place = int(len(data) * at)
    match how:
        case "flip":
            return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]
        case "truncate":
            return data[:place]
        case "zero":
            return data[:place] + bytes(4096) + data[place + 4096 :]
        case "swap":
            piece = data[place : place + 512], data[place + 512 : place + 1024]
            return data[:place] + piece[1] + piece[0] + data[place + 1024 :]
        case _:
            return b""


@pytest.mark.parametrize("at", [0.0001, 0.1, 0.5, 0.9, 0.997])
@pytest.mark.parametrize("how", ["flip", "truncate", "zero", "swap", "empty"])
def test_a_damaged_bundle_is_told_and_never_taken(packed, how, at):
    """Verify says so and import refuses; or the damage is of a byte that nobody reads."""
    whole = packed.bundle.read_bytes()
    bad = damaged(whole, how, at)
    packed.bundle.write_bytes(bad)
    checked = packed.usr("bundle", "verify", packed.bundle)
    taken = there(packed, "bundle", "import", packed.bundle, "-y")
    if taken.status == 0:
        assert datasets.read(packed.far) == BIG
        assert how in ("flip", "zero", "swap", "truncate")
    else:
        assert checked.status != 0, (checked, taken)
        assert taken.code
        nothing_there(packed)


def test_something_else_is_no_bundle(packed):
    for name, data in {"text": b"hello\n" * 200, "empty": b"", "zeros": bytes(4096)}.items():
        path = packed.home / name
        path.write_bytes(data)
        said = packed.usr("bundle", "verify", path)
        assert said.status == 6, said
        assert said.code == "decode"
    packed.usr("bundle", "verify", packed.home / "nowhere").failed("storage", 10)


def forged(packed, name, dataset):
    """A bundle whose head of one dataset is a state of another."""
    root = Root(str(packed.root))
    oid = root.states.refs()[head_ref(DatasetId(DATASET))]
    scratch = packed.home / "forge"
    scratch.mkdir()
    with ArchiveWriter(str(scratch / "a")) as archive:
        database = Database(archive, str(scratch))
        with database.batch() as batch:
            for pack in root.database.packs():
                for item, row in pack.index.items():
                    if row.kind != Kind.INDEX:
                        batch.put(Kind(row.kind), item, pack.read(item, row))
        States(archive).advance(
            {head_ref(DatasetId(dataset)): Change(None, oid)}, Act("mallory", "forge", 1)
        )
        archive.finish()
        publish(archive, str(packed.home / name), None)
    shutil.rmtree(scratch)
    return packed.home / name


def test_a_state_of_another_dataset_is_a_graft(packed):
    path = forged(packed, "forged.usrb", "ns/y")
    said = packed.usr("bundle", "verify", path)
    assert said.status == 1
    assert f"it is a state of {DATASET}" in said.out
    there(packed, "bundle", "import", path, "-y").failed("graft", 7)
    assert datasets.read(packed.there / "ns/y") == {}


def test_strict_trust_refuses_a_stranger_until_they_are_listed(packed, tmp_path):
    """Somebody else's bundle: their key is nobody's whom the importer listed."""
    line = (packed.config / "usr" / "id_ed25519.pub").read_text().strip()
    packed.use(make_config(tmp_path / "somebody"))
    words = ("bundle", "import", packed.bundle, "-y", "--trust", "strict")
    there(packed, *words).failed("signer-unknown", 7)
    nothing_there(packed)
    there(packed, "trust", "add", "--name", "ada", "--key", line).ok()
    there(packed, *words).ok()
    assert datasets.read(packed.far) == BIG


def test_killed_at_any_change_to_the_disk_no_half_bundle_has_a_name(packed, tmp_path):
    """Crash before every change and inside of each write: the name is free, or the bundle under it is whole."""
    names = iter(range(10_000))
    act_home = packed.home / "out"
    act_home.mkdir()

    def act(path):
        packed.usr("bundle", "create", path, DATASET)

    _, points = moments_of(lambda: act(act_home / "count.usrb"), within=act_home)
    assert len(points) > 10
    log = tmp_path / "log"
    for number, when in points:
        path = act_home / f"{next(names)}.usrb"
        tap = Crash(within=str(act_home), number=number, when=when)
        assert in_child(lambda path=path: act(path), tap=tap, log=log) == CRASHED
        if path.exists():
            packed.usr("bundle", "verify", path).ok()


def test_verify_says_of_equal_files_what_create_said(packed):
    (packed.folder / "copy of meta.md").write_bytes((packed.folder / "meta.md").read_bytes() * 9)
    (packed.folder / "another.md").write_bytes((packed.folder / "copy of meta.md").read_bytes())
    packed.usr("commit", DATASET).ok()
    bundle = packed.home / "equal.usrb"
    made = packed.usr("bundle", "create", bundle, DATASET).ok().lines[0]
    assert packed.usr("bundle", "verify", bundle).ok().lines[0] == made

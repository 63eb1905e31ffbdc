"""diff-tree, update-ref, pack-info and verify-manifest: lines that programs may rely on."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from support.datasets import DATASET
from support.lab import fingerprint, sample_files
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.manifest import Signed, manifest_id
from usrstore.root import Root

HEAD = f"heads/{DATASET}"
NOBODY = "0" * 64


@pytest.fixture
def story(lab):
    lab.usr("commit", DATASET, "-m", "first").ok()
    files = {**sample_files(), "meta.md": b"# second\n", "new file.txt": b"new"}
    del files["_artifacts/note.txt"]
    lab.write(files)
    lab.usr("commit", DATASET, "-m", "second").ok()
    return lab


def ident(lab, text):
    return lab.usr("rev-parse", text).ok().out.strip()


# ── diff-tree ───────────────────────────────────────────────────────────────────────────
def test_diff_tree(story):
    def side(data):
        return f"{hash_object(Kind.CHUNK, data)} {len(data)}"

    expected = [
        f"D {side(b'a note' + bytes([10]))} - -\t_artifacts/note.txt",
        f"M {side(b'# sample' + bytes([10]))} {side(b'# second' + bytes([10]))}\tmeta.md",
        f"A - - {side(b'new')}\tnew file.txt",
    ]
    assert story.usr("diff-tree", f"{DATASET}~1", DATASET).ok().lines == expected
    said = story.usr("diff-tree", "-z", f"{DATASET}~1", DATASET).ok()
    assert said.out == "".join(f"{line}\0" for line in expected)
    said = story.usr("diff-tree", f"{DATASET}~1", DATASET, "--", "_artifacts", "nope").ok()
    assert said.lines == expected[:1]
    assert story.usr("diff-tree", DATASET, DATASET).ok().out == ""
    story.usr("diff-tree", DATASET, f"{DATASET}:meta.md").failed("invalid-input", 3)
    story.usr("diff-tree", DATASET, "nope").failed("revision-not-found", 4)


# ── update-ref ──────────────────────────────────────────────────────────────────────────
def test_update_ref_moves_what_is_as_expected(story):
    first, second = ident(story, f"{DATASET}~1"), ident(story, DATASET)
    files = story.read()
    assert story.usr("update-ref", HEAD, first, second).ok().out == "3\n"
    assert story.refs()[HEAD] == first
    assert story.read() == files, "no folder is touched"
    for name in (f"tags/{DATASET}/v1", f"remotes/lab/{DATASET}", f"folders/{DATASET}"):
        story.usr("update-ref", name, second, "absent", "-m", "by hand").ok()
        assert story.refs()[name] == second
    assert story.usr("op", "show", "--json").data["reason"] == "by hand"
    story.usr("update-ref", "-d", f"tags/{DATASET}/v1", second).ok()
    assert f"tags/{DATASET}/v1" not in story.refs()
    story.usr("undo").ok()
    assert story.refs()[f"tags/{DATASET}/v1"] == second


def test_update_ref_never_moves_from_whatever_it_is(story):
    first, second = ident(story, f"{DATASET}~1"), ident(story, DATASET)
    before = story.refs()
    for expected in (first, "absent", NOBODY):
        said = story.usr("update-ref", HEAD, first, expected).failed("ref-moved", 5)
        assert "nothing was changed" in said.err
        story.usr("update-ref", "-d", HEAD, expected).failed("ref-moved", 5)
    story.usr("update-ref", f"tags/{DATASET}/v1", first, second).failed("ref-moved", 5)
    for words in ([HEAD], [HEAD, first], ["-d", HEAD], ["-d", HEAD, first, second]):
        story.usr("update-ref", *words).failed("usage", 2)
    assert story.refs() == before


def test_update_ref_names_only_what_is_here_in_whole(story):
    second = ident(story, DATASET)
    tree = story.usr("rev-parse", "--tree", DATASET).out.strip()
    before = story.refs()
    story.usr("update-ref", HEAD, NOBODY, second).failed("object-not-found", 4)
    story.usr("update-ref", HEAD, tree, second).failed("invalid-input", 3)
    said = story.usr("update-ref", HEAD, second[:12], second).failed("invalid-input", 3)
    assert "hint: `usr rev-parse` prints whole ids" in said.err
    story.usr("update-ref", "heads/ns/other", second, "absent").failed("invalid-input", 3)
    story.usr("update-ref", "anything", second, "absent").failed("invalid-name", 3)
    root = Root(str(story.root))
    signed = Signed.decode(root.database.get(Kind.MANIFEST, bytes.fromhex(second)))
    payload = signed.payload.replace(bytes.fromhex(tree), bytes(32))
    data = Signed(payload, None).encode()
    with root.database.batch() as batch:
        batch.put(Kind.MANIFEST, manifest_id(data), data)
    story.usr("update-ref", HEAD, manifest_id(data).hex(), second).failed("incomplete", 6)
    story.usr("tag", f"{DATASET}@v1").ok()
    tag = story.refs()[f"tags/{DATASET}/v1"]
    story.usr("update-ref", HEAD, tag, second).failed("invalid-input", 3)
    story.usr("update-ref", f"tags/{DATASET}/v2", tag, "absent").ok()
    assert {k: v for k, v in story.refs().items() if "tags/" not in k} == before


# ── pack-info ───────────────────────────────────────────────────────────────────────────
def test_pack_info(story):
    lines = story.usr("pack-info").ok().lines
    files = sorted(path.stem for path in (story.root / ".usr" / "packs").glob("*.pack"))
    assert [line.split()[0] for line in lines] == files
    for line in lines:
        pack, objects, stored, raw, *kinds = line.split()
        rows = [row.split() for row in story.usr("pack-info", pack[:12]).ok().lines]
        assert len(rows) == int(objects) == sum(int(kind.partition("=")[2]) for kind in kinds)
        assert sum(int(row[3]) for row in rows) == int(stored)
        assert sum(int(row[4]) for row in rows) == int(raw)
        offsets = [int(row[2]) for row in rows]
        assert offsets == sorted(offsets)
    holder = story.usr("pack-info", "-o", ident(story, DATASET)).ok().lines
    assert len(holder) == 1
    assert "manifest=1" in holder[0]
    assert story.usr("pack-info", "-o", NOBODY).status == 1
    story.usr("pack-info", "nope").failed("object-not-found", 4)
    story.usr("pack-info", "").failed("revision-ambiguous", 3)


def test_pack_info_without_a_store(lab):
    lab.there.joinpath("registry.yaml").write_text("namespaces: {}\n")
    assert lab.usr("--root", lab.there, "pack-info").ok().out == ""


# ── verify-manifest ─────────────────────────────────────────────────────────────────────
def test_verify_manifest(story, configs):
    first, second = ident(story, f"{DATASET}~1"), ident(story, DATASET)
    key = fingerprint(story.config)
    assert story.usr("verify-manifest", DATASET).ok().out == f"{second} good {key} you\n"
    said = story.usr("verify-manifest", "--history", "--objects", DATASET, f"{DATASET}~1").ok()
    assert said.lines == [f"{oid} good {key} you" for oid in (second, first)]
    story.use(configs["bob"])
    said = story.usr("verify-manifest", DATASET).failed("signer-unknown", 7)
    assert said.out == f"{second} unknown {key} -\n"
    public = (configs["ada"] / "usr" / "id_ed25519.pub").read_text()
    story.usr("trust", "add", "--name", "ada@lab", "--key", public).ok()
    assert story.usr("verify-manifest", DATASET).ok().out == f"{second} good {key} ada@lab\n"


def test_verify_manifest_fails_for_what_nobody_signed_and_what_is_forged(story):
    second = ident(story, DATASET)
    root = Root(str(story.root))
    signed = Signed.decode(root.database.get(Kind.MANIFEST, bytes.fromhex(second)))
    forged = Signed(signed.payload.replace(b"second", b"secont"), signed.signature).encode()
    bare = Signed(signed.payload, None).encode()
    with root.database.batch() as batch:
        for data in (forged, bare):
            batch.put(Kind.MANIFEST, manifest_id(data), data)
    said = story.usr("verify-manifest", manifest_id(forged).hex()).failed("signature-bad", 7)
    assert said.out.split()[1] == "bad"
    said = story.usr("verify-manifest", manifest_id(bare).hex()).failed("signature-absent", 7)
    assert said.out == f"{manifest_id(bare).hex()} absent - -\n"


def test_verify_manifest_reads_everything_if_asked(synced):
    synced.usr("verify-manifest", DATASET).ok()
    said = synced.usr("verify-manifest", "--objects", DATASET).failed("incomplete", 6)
    assert "hint: a light state" in said.err
    synced.usr("commit", DATASET).ok()
    synced.usr("verify-manifest", "--objects", DATASET).ok()


@pytest.mark.parametrize("listed", [False, True], ids=["unlisted", "listed"])
def test_what_it_says_about_openssh_works_word_for_word(story, keygen, home, listed):
    if listed:
        public = (story.config / "usr" / "id_ed25519.pub").read_text()
        story.usr("trust", "add", "--name", "ada@lab", "--key", public).ok()
    said = story.usr("verify-manifest", "--openssh", DATASET).ok()
    commands = [line.removeprefix("  ") for line in said.lines if line.startswith("  ")]
    assert len(commands) == 3
    assert ("-Y verify" if listed else "-Y check-novalidate") in commands[-1]
    bin_folder = home / "bin"
    bin_folder.mkdir()
    (bin_folder / "usr").write_text(f'#!/bin/sh\nexec {sys.executable} -m usrcli "$@"\n')
    (bin_folder / "usr").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", "\n".join(commands)], env=env, cwd=home, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r'Good "usrstore" signature', done.stdout)
    assert fingerprint(story.config) in done.stdout

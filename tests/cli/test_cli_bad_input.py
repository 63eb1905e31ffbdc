"""What people get wrong and what disks spoil: each has a status and a code; nothing changes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from support import datasets
from support.datasets import DATASET
from usrstore.worktree import cut

SYNC = [["push", DATASET, "lab", "-y"], ["pull", DATASET, "lab", "-y"], ["diff", DATASET, "lab"]]


def refused(lab, words, code, status):
    """The command fails like this, in words and in JSON, and nothing has changed."""
    files = datasets.read(lab.root), datasets.read(lab.there)
    refs = lab.refs(), lab.refs(lab.there)
    said = lab.usr(*words).failed(code, status)
    assert said.err.startswith(("error: ", "post-"))
    command, *rest = words
    assert lab.usr(command, "--json", *rest).failed(code, status).error["exit"] == status
    for root, before in zip((lab.root, lab.there), files, strict=True):
        assert without_store(datasets.read(root)) == without_store(before)
    assert (lab.refs(), lab.refs(lab.there)) == refs
    return said


def without_store(files):
    return {path: data for path, data in files.items() if not path.startswith(".usr/")}


# ── names ───────────────────────────────────────────────────────────────────────────────
BAD_IDS = [
    "/abs/olute", "../x", "ns/../../x", "..", "archived/x", "a/b/c", "a//b", ".hidden", "ns/.x",
    "two words", "x~1", "x^", "x:y", "x?", "x*", "x[", "x\\y", "x..y", "x@{y", "new\nline",
    "tab\t", "x.lock", "-", "a" * 300, "", "/", "~",
]  # fmt: skip


@pytest.mark.parametrize("dataset", BAD_IDS)
@pytest.mark.parametrize("verb", ["push", "pull", "diff", "fetch"])
def test_bad_dataset_ids(lab, dataset, verb):
    flags = {"diff": [], "fetch": ["--"]}.get(verb, ["-y", "--"])  # after diff's -- come paths
    code, status = fate(dataset)
    if any(mark in dataset for mark in "?*["):
        code, status = "dataset-not-found", 4
    refused(lab, [verb, *flags, dataset, "lab"], code, status)


@pytest.mark.parametrize("dataset", BAD_IDS)
def test_bad_dataset_ids_of_commands_about_the_folder(lab, dataset):
    for command in ("commit", "status"):
        lab.usr(command, "--", dataset).failed(*fate(dataset))


def fate(dataset):
    """What can only be a path is looked for where it leads: above these there is no root."""
    path = dataset.startswith(("/", "../", "~")) or dataset == ".."
    return ("no-root", 4) if path else ("invalid-name", 3)


def test_a_folder_that_is_no_dataset(lab):
    (lab.root / "empty").mkdir()
    for words in (["push", "empty", "lab"], ["commit", "empty"], ["status", "empty"]):
        refused(lab, words, "dataset-not-found", 4)


def test_a_dataset_that_is_nowhere(synced):
    for words in (
        ["push", "nope/y", "lab", "-y"], ["pull", "nope/y", "lab", "-y"], ["diff", "nope/y", "lab"],
        ["fetch", "nope/y", "lab"], ["commit", "nope/y"], ["status", "nope/y"],
    ):  # fmt: skip
        refused(synced, words, "dataset-not-found", 4)


def test_a_last_name_of_two_datasets(lab):
    (lab.root / "other").mkdir()
    (lab.root / "other" / "x").mkdir()
    (lab.root / "other" / "x" / "records.parquet").write_bytes(b"")
    said = refused(lab, ["push", "x", "lab", "-y"], "dataset-not-found", 4)
    assert "ns/x, other/x" in said.err


def test_a_push_needs_a_registry(lab):
    (lab.root / "registry.yaml").unlink()
    said = refused(lab, ["push", DATASET, "lab", "-y"], "registry", 3)
    assert said.err.startswith("error: registry: ")
    assert "usr init makes one" in said.err


def test_registries_that_contradict_one_another(synced):
    def declare(root, kind):
        text = f"namespaces:\n  infer:\n    columns:\n    - name: score\n      type: {kind}\n"
        (root / "registry.yaml").write_text(text)

    declare(synced.root, "float64")
    declare(synced.there, "string")
    (synced.folder / "meta.md").write_text("more")
    refused(synced, ["push", DATASET, "lab", "-y"], "registry", 3)


@pytest.mark.parametrize("words", SYNC, ids=" ".join)
def test_an_unknown_remote(lab, words):
    words = ["nolab" if word == "lab" else word for word in words]
    said = refused(lab, words, "remote-not-found", 4)
    assert "has: lab" in said.err


def test_a_remote_whose_folder_is_not_there(lab):
    lab.there.rmdir()
    said = lab.usr("push", DATASET, "lab", "-y").failed("not-found", 4)
    assert str(lab.there) in said.err
    assert not lab.there.exists()


@pytest.mark.parametrize("command", ["status", "log", "commit", "fsck", "recover", "show-ref"])
def test_a_root_that_is_not_there(lab, command):
    for given in ("--root", "--root="):
        words = (
            [f"--root={lab.home}/nope"] if given.endswith("=") else ["--root", lab.home / "nope"]
        )
        lab.usr(*words, command).failed("not-found", 4)
    assert not (lab.home / "nope").exists()


def test_no_root_anywhere(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    monkeypatch.chdir(lab.there)
    said = lab.usr("status").failed("no-root", 4)
    assert "usr init" in said.err


# ── files that no state can hold ────────────────────────────────────────────────────────
def make_link(path):
    os.symlink("meta.md", path / "link")


def make_fifo(path):
    os.mkfifo(path / "pipe")


def make_socket(path):
    os.chdir(path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")


def make_device(path):
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    try:
        os.mknod(path / "device", 0o20666, os.makedev(1, 3))
    except OSError as exc:
        pytest.skip(f"no devices can be made here: {exc}")


def make_newline(path):
    (path / "new\nline").write_bytes(b"")


def make_bytes(path):
    with open(os.fsencode(path) + b"/\xff", "wb"):
        pass


@pytest.mark.parametrize("words", [*SYNC, ["commit", DATASET], ["status", DATASET]], ids=" ".join)
@pytest.mark.parametrize(
    "make", [make_link, make_fifo, make_socket, make_device, make_newline, make_bytes]
)
def test_files_that_no_state_can_hold(synced, monkeypatch, make, words):
    (synced.folder / "meta.md").write_text("more")
    make(synced.folder / "_artifacts")
    monkeypatch.chdir(synced.home)
    refs = synced.refs(), synced.refs(synced.there)
    there = datasets.read(synced.there)
    for flags in ([], ["--json"]):
        said = synced.usr(*words, *flags).failed("unsafe-file", 3)
        assert "_artifacts/" in said.err
        assert "\n" not in said.err.splitlines()[1]
    assert datasets.read(synced.there) == there
    assert (synced.refs(), synced.refs(synced.there)) == refs


# ── damaged settings and memories ───────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "text", ["{", "\xff", "nonsense", "[]", '{"pins": 3}', '{"remotes": {"lab": {"state": 3}}}']
)
@pytest.mark.parametrize("words", SYNC, ids=" ".join)
def test_a_damaged_memory_of_others(synced, words, text):
    (synced.far / "meta.md").write_text("more")
    (synced.root / ".usr" / "seen.json").write_text(text)
    said = refused(synced, words, "config", 3)
    assert "seen.json is damaged" in said.err
    assert "remove it to start trusting anew" in said.err


def test_a_flipped_digit_in_the_memory_of_others_accuses_nobody(synced):
    memory = synced.root / ".usr" / "seen.json"
    text = memory.read_text()
    at = text.index('"heads"') + 30
    memory.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    said = refused(synced, ["pull", DATASET, "lab", "-y"], "config", 3)
    assert "its sum does not hold" in said.err


@pytest.mark.parametrize(
    "text",
    [
        "x = [",
        "x = 3",
        "[trust]\nmode = 'maybe'\n",
        "[trusu]\nmode = 'strict'\n",
        "[trust]\nmod = 3\n",
    ],
)
def test_damaged_settings(synced, text):
    (synced.folder / "meta.md").write_text("more")
    (synced.root / ".usr" / "config").write_text(text)
    said = refused(synced, ["push", DATASET, "lab", "-y"], "config", 3)
    assert ".usr/config" in said.err


BAD_YAML = {
    "not yaml": "remotes: [",
    "not text": b"\xff\xfe",
    "a list": "- lab",
    "remotes is text": "remotes: lab",
    "a remote is text": "remotes: {lab: here}",
    "an unknown type": "remotes: {lab: {type: ftp, base_dir: /x}}",
    "no host": "remotes: {lab: {type: ssh, base_dir: /x}}",
    "no base_dir": "remotes: {lab: {type: folder}}",
    "an unknown setting": "remotes: {lab: {type: folder, base_dir: /x, hots: y}}",
    "a port that is text": "remotes: {lab: {type: ssh, host: h, base_dir: /x, port: ssh}}",
    "a host that is an option": "remotes: {lab: {type: ssh, host: -oX, base_dir: /x}}",
    "a bad name": "remotes: {'a/b': {type: folder, base_dir: /x}}",
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_damaged_remotes(lab, name):
    text = BAD_YAML[name]
    lab.remotes.write_bytes(text if isinstance(text, bytes) else text.encode())
    for words in (*SYNC, ["remotes", "list"], ["remotes", "doctor", "--remote", "lab"]):
        said = lab.usr(*words)
        assert (said.status, said.code) in ((3, "config"), (3, "invalid-name")), said
        assert "Traceback" not in said.err


def test_remotes_that_are_a_folder(lab):
    said = lab.usr("--remotes-config", lab.home, "remotes", "list").failed("config", 3)
    assert "cannot be read" in said.err


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x93\x01", None])
def test_a_damaged_stat_cache_costs_a_read_and_nothing_else(synced, data):
    [cache] = (synced.root / ".usr" / "index").iterdir()
    before = cache.read_bytes()
    cache.write_bytes(before[: len(before) // 2] if data is None else data)
    assert synced.usr("status", "--exit-code").ok().err == ""
    assert synced.usr("diff", DATASET, "lab", "--exit-code").ok().err == ""
    (synced.folder / "meta.md").write_text("more")
    cache.write_bytes(b"spoilt again")
    synced.usr("push", DATASET, "lab", "-y").ok()
    assert datasets.read(synced.far) == synced.read()


def test_a_damaged_state_is_an_error_of_integrity(synced):
    newest = max((synced.root / ".usr" / "states").iterdir())
    newest.chmod(0o600)
    newest.write_bytes(b"nonsense")
    said = synced.usr("status")
    assert said.status == 6
    assert synced.usr("fsck").status == 1
    said = synced.usr("push", DATASET, "lab", "-y")
    assert said.status == 6


@pytest.mark.parametrize("flags", [["--lock-timeout", "-1"], ["--lock-timeout", "nan"]])
def test_times_that_make_no_sense(synced, flags):
    refused(synced, ["push", DATASET, "lab", "-y", *flags], "config", 3)


# ── a folder that does not keep still ───────────────────────────────────────────────────
WRITER = """
import sys, os
path = sys.argv[1]
count = 0
with open(path, "r+b", buffering=0) as file:
    print("ready", flush=True)
    while True:
        file.seek(0)
        file.write(bytes([count % 256]) * (1 << 20))
        count += 1
"""


def until_it_is_written_again(path, whole):
    """Reads as slowly as the writer writes: one core may give either of them long turns alone."""

    def cut_file(fd, size, *sinks):
        found = whole(fd, size, *sinks)
        before, now = os.fstat(fd), path.stat()
        while os.path.samestat(before, now) and before.st_mtime_ns == now.st_mtime_ns:
            time.sleep(0.001)
            now = path.stat()
        return found

    return cut_file


@pytest.mark.parametrize("verb", ["commit", "push"])
def test_a_file_that_is_being_written(synced, verb, monkeypatch):
    path = synced.folder / "_artifacts" / "busy.bin"
    path.write_bytes(b"\0" * (8 << 20))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        writer.stdout.readline()
        words = ["commit", DATASET] if verb == "commit" else ["push", DATASET, "lab", "-y"]
        refs, far = synced.refs(), datasets.read(synced.far)
        with monkeypatch.context() as slow:
            slow.setattr(cut, "cut_file", until_it_is_written_again(path, cut.cut_file))
            said = synced.usr(*words).failed("changed-while-read", 5)
        assert "_artifacts/busy.bin" in said.err
        assert (synced.refs(), datasets.read(synced.far)) == (refs, far)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    synced.usr(*words).ok()

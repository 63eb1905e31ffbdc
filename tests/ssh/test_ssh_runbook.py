"""The runbook over a real sshd: its commands word for word, and what surrounds them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.datasets import noise
from support.lab import sample_files
from usrcli.drills import sshd

DATASET = "ns/x"
REMOTE = "bu-scc"
PROGRAM = Path(sys.executable).parent / "usr"
UV = '#!/bin/sh\nshift\nexec "$@"\n'
INFER = '#!/bin/sh\nprintf part > "$LOCAL_USR_ROOT/$DATASET_ID/_derived/infer/part-2.parquet"\n'
CHAINED = r"""
set -e
uv run usr remotes doctor --remote bu-scc
uv run usr diff "$DATASET_ID" bu-scc --verify parquet
uv run usr pull "$DATASET_ID" bu-scc -y --verify parquet --verify-sidecars
uv run infer run --preset evo2/extract_logits_ll --usr "$DATASET_ID" --field sequence --device cpu --write-back
uv run usr diff "$DATASET_ID" bu-scc --verify parquet
uv run usr push "$DATASET_ID" bu-scc -y --verify parquet --verify-sidecars
uv run usr diff "$DATASET_ID" bu-scc --verify parquet
"""
DRILLS = r"""
set -e
uv run usr --root "$LOCAL_USR_ROOT" diff "$DATASET_ID" bu-scc --verify parquet
uv run usr --root "$LOCAL_USR_ROOT" pull "$DATASET_ID" bu-scc -y --verify parquet --verify-sidecars
uv run infer run --preset evo2/extract_logits_ll --usr "$DATASET_ID" --field sequence --device cpu --write-back
uv run usr --root "$LOCAL_USR_ROOT" diff "$DATASET_ID" bu-scc --verify parquet
uv run usr --root "$LOCAL_USR_ROOT" push "$DATASET_ID" bu-scc -y --verify parquet --verify-sidecars
"""


def run(link, text):
    link.script("uv", UV)
    link.script("infer", INFER)
    path = f"{link.home}:{link.environment['PATH']}"
    return link.bash(text, PATH=path, DATASET_ID=DATASET, LOCAL_USR_ROOT=str(link.root)).ok()


def test_the_chained_loop_word_for_word(synced):
    """The remote is ahead by one edit; here infer writes one overlay part."""
    link = synced
    files = {**sample_files(), "_views/day.json": b"{}\n"}
    link.write(link.far, files)
    said = run(link, CHAINED)
    assert said.err == ""
    states = [line for line in said.lines if re.match(r"\w+ audit: |Status ", line)]
    assert states == [
        "DIFF audit: DIFF-ONLY", "Status     : CHANGES",
        "PULL audit: TRANSFERRED",
        "DIFF audit: DIFF-ONLY", "Status     : CHANGES",
        "PUSH audit: TRANSFERRED",
        "DIFF audit: DIFF-ONLY", "Status     : up-to-date",
    ]  # fmt: skip
    assert said.lines[-1] == "Status     : up-to-date"
    assert "bu-scc: a push would work" in said.lines
    files["_derived/infer/part-2.parquet"] = b"part"
    assert link.read(link.folder) == link.read(link.far) == files


def test_the_drills_with_a_root_word_for_word(synced):
    said = run(synced, DRILLS)
    assert said.lines[-1] == "Push complete."
    assert synced.read(synced.far) == synced.read(synced.folder)


def test_w16_a_first_pull_into_an_empty_root_gives_a_working_one(synced):
    """W16: the registry did not travel, and nothing could be read after a first pull."""
    fresh = synced.home / "fresh"
    fresh.mkdir()
    at = ("--root", fresh)
    assert synced.audit(*at, "pull", DATASET, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert synced.read(fresh / DATASET) == sample_files()
    assert (fresh / "registry.yaml").read_bytes() == (synced.root / "registry.yaml").read_bytes()
    assert "clean at" in synced.usr(*at, "status").ok().out
    assert synced.usr(*at, "fsck", "--deep").ok()
    (fresh / DATASET / "_derived/infer/part-7.parquet").write_bytes(noise(7, 5000))
    assert synced.audit(*at, "push", DATASET, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert synced.audit("pull", DATASET, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert synced.read(synced.folder) == synced.read(synced.far) == synced.read(fresh / DATASET)


def test_signers_are_known_at_both_ends(synced):
    (synced.far / "meta.md").write_text("theirs")
    said = synced.usr("pull", DATASET, REMOTE, "-y").ok()
    assert re.search(r"signer=SHA256:\S{43} signature=unknown$", said.out, re.MULTILINE)
    said = synced.usr("trust", "list").ok()
    assert re.search(rf"^pinned  SHA256:\S+  {REMOTE} {DATASET}$", said.out, re.MULTILINE)


def test_an_audit_counts_what_was_on_the_wire(link):
    data = link.audit("push", DATASET, REMOTE, "-y")["moved"]
    assert data["payload"] <= data["sent"] < data["payload"] * 1.2
    assert 0 < data["round_trips"] <= 4
    assert 0 < data["received"] < 10_000
    assert link.audit("diff", DATASET, REMOTE)["relation"] == "same"


def test_fetch_over_ssh(synced):
    (synced.far / "meta.md").write_text("theirs")
    said = synced.usr("fetch", DATASET, REMOTE).ok()
    assert said.out.startswith(f"{REMOTE}/{DATASET} ")
    assert synced.usr("show", f"{REMOTE}/{DATASET}:meta.md").ok().out == "theirs"


# ── diff creates nothing ────────────────────────────────────────────────────────────────
def test_a_diff_creates_nothing_at_a_remote_without_a_store(link, listed):
    for have in (False, True):
        if have:
            link.write(link.far, sample_files())
        before = listed(link.there)
        for _ in range(2):
            link.usr("diff", DATASET, REMOTE, "--verify", "parquet").ok()
        assert listed(link.there) == before


def test_a_diff_creates_nothing_at_a_remote_with_a_store(synced, listed):
    (synced.far / "meta.md").write_text("in no state")
    before = listed(synced.there)
    for words in (["diff", DATASET, REMOTE], ["status", DATASET, REMOTE]):
        assert synced.usr(*words).ok().lines[-1] == "Status     : CHANGES"
    assert synced.usr("remotes", "doctor", "--remote", REMOTE).ok()
    after = listed(synced.there)
    del before[".usr"], after[".usr"]  # doctor makes a file there and removes it
    assert after == before


# ── the caller's standard input ─────────────────────────────────────────────────────────
def test_w23_a_loop_runs_for_every_line(synced):
    """W23: ssh ate the list that the loop was reading, and the loop ran once."""
    text = f"""
    printf '{DATASET}\n{DATASET}\n{DATASET}\n' |
    while read d; do usr diff $d {REMOTE} && usr push $d {REMOTE} -y; done
    """
    said = synced.bash(text).ok()
    assert said.out.count("Status     : up-to-date") == 3
    assert said.out.count("PUSH audit: NO-OP") == 3


def test_w23_an_answer_reaches_the_question(synced):
    (synced.far / "meta.md").write_text("theirs")
    before = synced.read(synced.root), synced.refs(synced.root)
    said = synced.bash(f"echo n | usr pull {DATASET} {REMOTE}")
    assert said.status == 130
    assert "Proceed with overwrite?" in said.out
    assert (synced.read(synced.folder)) == sample_files()
    assert synced.refs(synced.root) == before[1]
    assert synced.bash(f"(echo; echo rest) | (usr pull {DATASET} {REMOTE}; cat)").ok()
    assert synced.read(synced.folder)["meta.md"] == b"theirs"


# ── remotes that may only be read ───────────────────────────────────────────────────────
def only_reads(link, listed, code="read-only"):
    """diff and pull work, push is refused, and the remote is byte for byte what it was."""
    link.write(link.folder, {**sample_files(), "meta.md": b"before"})
    link.usr("commit", DATASET).ok()
    link.write(link.folder, sample_files())
    link.write(link.far, sample_files())
    (link.far / "_artifacts" / "theirs.txt").write_text("theirs")
    before = listed(link.there)
    assert link.usr("diff", DATASET, REMOTE).ok().lines[-1] == "Status     : CHANGES"
    link.usr("pull", DATASET, REMOTE, "-y").ok()
    assert link.read(link.folder) == link.read(link.far)
    (link.folder / "meta.md").write_text("ours")
    said = link.usr("push", DATASET, REMOTE, "-y").failed(code, 10)
    assert "nothing was changed" in said.err
    link.usr("push", DATASET, REMOTE, "-y", "--force-with-lease").failed(code, 10)
    assert listed(link.there) == before
    doctor = link.usr("remotes", "doctor", "--remote", REMOTE)
    assert doctor.status == 1
    assert re.search(r"^writable +FAILED ", doctor.out, re.MULTILINE)


def test_a_remote_that_is_served_read_only(link, listed):
    serve = f'#!/bin/sh\nexec {link.far_usr} "$@" --read-only\n'
    link.profile(usr_command=link.script("serve", serve))
    only_reads(link, listed)


def test_a_remote_with_a_store_that_is_served_read_only(synced, listed):
    serve = f'#!/bin/sh\nexec {synced.far_usr} "$@" --read-only\n'
    synced.profile(usr_command=synced.script("serve", serve))
    (synced.far / "_artifacts" / "theirs.txt").write_text("theirs")
    before = listed(synced.there)
    assert synced.usr("diff", DATASET, REMOTE).ok().lines[-1] == "Status     : CHANGES"
    synced.usr("pull", DATASET, REMOTE, "-y").ok()
    assert synced.read(synced.folder) == synced.read(synced.far)
    synced.usr("pull", DATASET, REMOTE, "-y").ok()
    assert listed(synced.there) == before


@pytest.mark.parametrize("store", [False, True], ids=["without a store", "with a store"])
def test_a_remote_folder_that_may_not_be_written(link, listed, store):
    """Its files belong to somebody else; nothing but the permissions says so."""
    if store:
        link.usr("push", DATASET, REMOTE, "-y").ok()
    else:
        link.write(link.far, sample_files())
    (link.far / "_artifacts" / "theirs.txt").write_text("theirs")
    for path in (link.there, *link.there.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = f"env XDG_CONFIG_HOME=/nonexistent {PROGRAM}"
    if os.geteuid() == 0:  # a root without the right to overrule permissions
        command = f"setpriv --bounding-set=-dac_override,-dac_read_search {command}"
        probe = subprocess.run([*command.split(), "--version"], capture_output=True, check=False)
        if probe.returncode:
            pytest.skip("this root cannot give up its rights")
    link.profile(usr_command=command)
    before = listed(link.there)
    assert link.usr("diff", DATASET, REMOTE).ok().lines[-1] == "Status     : CHANGES"
    link.usr("pull", DATASET, REMOTE, "-y").ok()
    assert link.read(link.folder) == link.read(link.far)
    (link.folder / "meta.md").write_text("ours")
    said = link.usr("push", DATASET, REMOTE, "-y").failed("read-only", 10)
    assert "may only be read; nothing was changed" in said.err
    assert listed(link.there) == before
    doctor = link.usr("remotes", "doctor", "--remote", REMOTE)
    assert re.search(r"^writable +FAILED ", doctor.out, re.MULTILINE)
    assert f"→ ssh scc1 'chmod u+w {link.there}'" in doctor.out
    for path in (link.there, *link.there.rglob("*")):
        path.chmod(0o755)


def test_a_forced_command_decides_what_may_be_done(link, listed, tmp_path):
    forced = f"ForceCommand {link.far_usr} serve --stdio --root {link.there} --read-only"
    with sshd.running(str(tmp_path), extra=[forced]) as running:
        link.profile(
            ssh_options=["-F", running.config], base_dir="/somewhere/else", usr_command="rm -rf"
        )
        only_reads(link, listed)


def test_one_dataset_may_be_served_alone(link):
    link.profile(
        usr_command=link.script(
            "serve", f'#!/bin/sh\nexec {link.far_usr} "$@" --dataset ns/other\n'
        )
    )
    said = link.usr("push", DATASET, REMOTE, "-y").failed("refused", 10)
    assert "is not served here" in said.err


def test_a_push_may_be_limited(link):
    link.profile(
        usr_command=link.script("serve", f'#!/bin/sh\nexec {link.far_usr} "$@" --max-bytes 1000\n')
    )
    before = link.read(link.there)
    said = link.usr("push", DATASET, REMOTE, "-y")
    assert said.status == 9, said
    assert "--max-bytes" in said.err
    assert {p for p in link.read(link.there) if not p.startswith(".usr/")} == set(before)

"""diff, pull and push as people and scripts meet them: audits, prompts, opt-outs, dry runs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import fingerprint, sample_files


def rewrite(path, data: bytes) -> None:
    """Put other bytes under a name, keeping its times as tools do."""
    before = os.stat(path)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def listing(folder):
    """Every entry below a folder: size, mode, times."""
    return {
        str(path.relative_to(folder)): (
            stat.st_size if path.is_file() else 0,
            stat.st_mode,
            stat.st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        for stat in [path.lstat()]
    }


def same_table_other_bytes() -> bytes:
    """The sample's rows, columns and schema, written with another compression."""
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(datasets.sample_parquet()))
    out = io.BytesIO()
    pq.write_table(table, out, compression="snappy", row_group_size=777)
    return out.getvalue()


# ── the audit ───────────────────────────────────────────────────────────────────────────
def expect(lines, expected):
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)


FIRST = [
    r"Dataset    : ns/x",
    r"Verify     : primary=hash sidecars=strict content_hashes=on",
    r"Primary    : changed",
    r"meta\.md    : changed",
    r"\.events\.log: changed local=2 remote=0",
    r"_snapshots : changed remote_count=0 newer_than_local=0",
    r"_derived   : changed local_files=1 remote_files=0 local_only=1 remote_only=0 differ=0",
    r"_auxiliary : changed local_files=2 remote_files=0 local_only=2 remote_only=0 differ=0",
]
EQUAL = [
    r"Dataset    : ns/x",
    r"Verify     : primary=hash sidecars=strict content_hashes=on",
    r"Primary    : unchanged",
    r"meta\.md    : unchanged",
    r"\.events\.log: unchanged local=2 remote=2",
    r"_snapshots : unchanged remote_count=1 newer_than_local=0",
    r"_derived   : unchanged local_files=1 remote_files=1 local_only=0 remote_only=0 differ=0",
    r"_auxiliary : unchanged local_files=2 remote_files=2 local_only=0 remote_only=0 differ=0",
    r"Manifest   : local=[0-9a-f]{12} remote=[0-9a-f]{12}",
]


def test_the_audit_of_a_first_push(lab):
    key = re.escape(fingerprint(lab.config))
    said = lab.usr("push", DATASET, "lab", "-y").ok()
    assert said.err == ""
    expect(
        said.lines,
        [
            "PUSH audit: TRANSFERRED",
            *FIRST,
            rf"Manifest   : local=none remote=none now=[0-9a-f]{{12}} signer={key} signature=good",
            r"Moved      : \d+\.\d kB of \d+\.\d kB in \d+\.\d s",
            r"Resumed    : 0 B",
            r"Push complete\.",
        ],
    )


def test_the_audit_of_a_diff_and_of_a_push_without_changes(synced):
    said = synced.usr("diff", DATASET, "lab").ok()
    expect(said.lines, ["DIFF audit: DIFF-ONLY", *EQUAL, "Status     : up-to-date"])
    said = synced.usr("push", DATASET, "lab").ok()  # it does not ask: there is nothing to do
    expect(said.lines, ["Already up to date.", "PUSH audit: NO-OP", *EQUAL, r"Push complete\."])


def test_the_audit_of_a_pull(synced, configs):
    lab = synced
    lab.use(configs["bob"])
    fresh = lab.home / "fresh"
    fresh.mkdir()
    said = lab.usr("--root", fresh, "pull", DATASET, "lab", "-y").ok()
    assert said.lines[0] == "PULL audit: TRANSFERRED"
    manifest = next(line for line in said.lines if line.startswith("Manifest"))
    assert f"signer={fingerprint(configs['ada'])} signature=unknown" in manifest
    assert said.lines[-1] == "Pull complete."
    assert datasets.read(fresh / DATASET) == sample_files()
    assert (fresh / "registry.yaml").read_bytes() == (lab.root / "registry.yaml").read_bytes()
    assert lab.usr("--root", fresh, "pull", DATASET, "lab").ok().lines[1] == "PULL audit: NO-OP"


def test_a_diff_names_what_differs(synced):
    (synced.folder / "meta.md").write_text("other")
    (synced.folder / "_derived/infer/part-2.parquet").write_bytes(b"new")
    (synced.folder / "_artifacts/note.txt").unlink()
    said = synced.usr("diff", DATASET, "lab").ok()
    assert said.lines[-4:] == [
        "  only here  _derived/infer/part-2.parquet",
        "  only there _artifacts/note.txt",
        "  differs    meta.md",
        "Status     : CHANGES",
    ]
    for flag in ("--name-status", "--porcelain"):
        said = synced.usr("diff", DATASET, "lab", flag).ok()
        assert said.lines == [
            "D\t_artifacts/note.txt", "A\t_derived/infer/part-2.parquet", "M\tmeta.md",
        ]  # fmt: skip
    assert synced.usr("diff", DATASET, "lab", "--stat").ok().lines == [
        "_derived   : 1 added (3 B)",
        "_auxiliary : 1 deleted (7 B), 1 modified (-4 bytes)",
    ]
    data = synced.usr("diff", DATASET, "lab", "--json", "--name-status").ok().data
    assert data["_auxiliary"]["remote_only"] == ["_artifacts/note.txt"]
    assert data["_auxiliary"]["differ"] == ["meta.md"]
    assert data["relation"] == "local-ahead"


def test_more_than_ten_differences_are_counted(synced):
    for number in range(14):
        (synced.folder / f"_artifacts/{number:02}.txt").write_text("x")
    said = synced.usr("diff", DATASET, "lab").ok()
    assert said.out.count("only here") == 11
    assert "  only here  … and 4 more in _auxiliary" in said.lines


def test_the_audit_as_json(lab):
    out = lab.home / "deep" / "er" / "audit.json"
    data = lab.usr("push", DATASET, "lab", "-y", "--json", "--audit-json-out", out).ok().data
    assert lab.audit(out) == data
    today = {
        "action": "push",
        "transfer_state": "TRANSFERRED",
        "dataset": DATASET,
        "verify": {"primary": "hash", "sidecars": "strict", "content_hashes": "on"},
        "primary": {"changed": True},
        "meta": {"changed": True},
        ".events.log": {"changed": True, "local": 2, "remote": 0},
    }
    assert {key: data[key] for key in today} == today
    assert list(data)[:10] == [*today, "_snapshots", "_derived", "_auxiliary"]
    assert data["_derived"]["local_only"] == ["_derived/infer/part-1.parquet"]
    assert data["manifest"]["result"] == lab.refs()[f"heads/{DATASET}"]
    assert data["manifest"]["signer"] == fingerprint(lab.config)
    total = sum(map(len, sample_files().values()))
    assert total * 0.99 < data["moved"]["payload"] <= total  # equal chunks travel once


def test_an_audit_file_that_cannot_be_written_is_a_warning(synced):
    said = synced.usr("diff", DATASET, "lab", "--audit-json-out", synced.home).ok()
    assert said.err.startswith("warning: the audit could not be written to ")


def diverge(lab):
    """Both sides change the same file."""
    (lab.folder / "meta.md").write_text("ours")
    (lab.far / "meta.md").write_text("theirs")


@pytest.mark.parametrize(
    ("verb", "code", "status"), [("pull", "merge-conflict", 11), ("push", "diverged", 5)]
)
def test_a_refusal_is_audited(synced, verb, code, status):
    diverge(synced)
    before = synced.read(), datasets.read(synced.far)
    out = synced.home / "audit.json"
    said = synced.usr(verb, DATASET, "lab", "-y", "--audit-json-out", out).failed(code, status)
    assert said.lines[0] == f"{verb.upper()} audit: REFUSED"
    assert "meta.md" in said.err
    data = synced.audit(out)
    assert data["transfer_state"] == "REFUSED"
    assert data["relation"] == "diverged"
    assert data["error"]["code"] == code
    assert data["error"]["exit"] == status
    assert (synced.read(), datasets.read(synced.far)) == before
    said = synced.usr(verb, DATASET, "lab", "-y", "--json").failed(code, status)
    assert said.error["code"] == code


def test_a_refusal_before_both_sides_are_known_is_audited(lab):
    out = lab.home / "audit.json"
    lab.usr("push", DATASET, "nolab", "-y", "--audit-json-out", out).failed("remote-not-found", 4)
    assert lab.audit(out)["error"]["code"] == "remote-not-found"


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_one_side_may_win_and_nothing_is_lost(synced, verb):
    diverge(synced)
    synced.usr(verb, DATASET, "lab", "-y", "--force-with-lease").ok()
    won = b"theirs" if verb == "pull" else b"ours"
    lost = b"ours" if verb == "pull" else b"theirs"
    assert synced.read()["meta.md"] == datasets.read(synced.far)["meta.md"] == won
    root = synced.root if verb == "pull" else synced.there
    kept = synced.usr("--root", root, "show", f"{DATASET}@{{1}}", "--json").ok().data
    assert kept["message"].startswith("kept before")
    assert kept["kept"]
    assert synced.raw("--root", root, "show", f"{DATASET}@{{1}}:meta.md") == lost


def test_a_push_onto_a_remote_that_moved_says_pull(synced):
    (synced.far / "meta.md").write_text("theirs")
    before = synced.everything()
    said = synced.usr("push", DATASET, "lab", "-y").failed("remote-ahead", 5)
    assert f"hint: usr pull {DATASET} lab" in said.err
    assert synced.everything() == before


def test_a_pull_from_behind_is_no_op(synced):
    (synced.folder / "meta.md").write_text("ours")
    before = synced.read()
    said = synced.usr("pull", DATASET, "lab", "-y").ok()
    assert said.lines[:2] == ["Nothing to pull: this side is ahead.", "PULL audit: NO-OP"]
    assert synced.read() == before


# ── opt-outs ────────────────────────────────────────────────────────────────────────────
OPT_OUTS = [
    (["--no-verify-sidecars"], ["no-verify-derived-hashes", "no-verify-sidecars"]),
    (["--no-verify-derived-hashes"], ["no-verify-derived-hashes"]),
    (["--no-verify-registry"], ["no-verify-registry"]),
    (["--trust", "none"], ["trust none"]),
]


@pytest.mark.parametrize(("flags", "policy"), OPT_OUTS, ids=" ".join)
def test_an_opt_out_warns_and_is_recorded_everywhere(synced, flags, policy):
    lab = synced
    (lab.folder / "meta.md").write_text("more")
    out = lab.home / "audit.json"
    said = lab.usr("push", DATASET, "lab", "-y", *flags, "--audit-json-out", out).ok()
    verb = "is" if len(policy) == 1 else "are"
    assert said.err == (
        f"warning: {', '.join(policy)} {verb} in force; "
        "the manifest, the operation log and this audit record it\n"
    )
    assert lab.audit(out)["policy"] == policy
    for root in (lab.root, lab.there):
        assert f"Policy:  {', '.join(policy)}" in lab.usr("--root", root, "log", DATASET).lines
        assert lab.usr("--root", root, "log", DATASET, "--json").data[0]["policy"] == policy
    for root in (lab.root,) if "--trust" in flags else (lab.root, lab.there):
        assert operations(root)[-1] == " ".join(("push", *policy))


def operations(root):
    """The reasons of the operation log, oldest first."""
    from usrstore.root import Root

    return [state.reason for state in Root(str(root)).states.history()][::-1]


def test_an_opt_out_warns_with_json_as_well(synced):
    (synced.folder / "meta.md").write_text("more")
    said = synced.usr("push", DATASET, "lab", "-y", "--json", "--no-verify-sidecars").ok()
    assert "no-verify-derived-hashes, no-verify-sidecars are in force" in said.err
    assert said.data["verify"] == {"primary": "hash", "sidecars": "off", "content_hashes": "off"}


def test_only_the_primary_moves(synced):
    (synced.folder / "records.parquet").write_bytes(same_table_other_bytes())
    (synced.folder / "meta.md").write_text("stays")
    flags = ["--primary-only", "--no-verify-sidecars"]
    said = synced.usr("push", DATASET, "lab", "-y", *flags).ok()
    assert "only primary are in force" in said.err
    far = datasets.read(synced.far)
    assert far == {**sample_files(), "records.parquet": same_table_other_bytes()}
    said = synced.usr("push", DATASET, "lab", "-y", *flags).ok()
    assert said.lines[0] == "What differs was left out; all else is equal."
    assert said.lines[1] == "PUSH audit: NO-OP"


def test_snapshots_may_stay_behind(lab):
    lab.usr("push", DATASET, "lab", "-y", "--skip-snapshots", "--no-verify-sidecars").ok()
    assert "_snapshots/2024-01-01.parquet" not in datasets.read(lab.far)
    assert "meta.md" in datasets.read(lab.far)


# ── dry runs and prompts ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_dry_run_changes_nothing(synced, verb):
    side = synced.folder if verb == "push" else synced.far
    (side / "meta.md").write_text("new")
    before = synced.everything()
    said = synced.usr(verb, DATASET, "lab", "--dry-run").ok()
    assert said.lines[-1] == "Manifest   : " + said.lines[-1].partition(": ")[2]
    assert f"{verb.upper()} audit: DRY-RUN" in said.lines
    assert "  differs    meta.md" in said.lines
    assert "complete" not in said.out
    after = synced.everything()
    for root in before:
        assert after[root][:2] == before[root][:2]
    assert after[str(synced.root)] == before[str(synced.root)]


def test_a_dry_run_of_a_first_push_leaves_the_remote_empty(lab):
    before = listing(lab.there)
    lab.usr("push", DATASET, "lab", "--dry-run").ok()
    assert listing(lab.there) == before


@pytest.mark.parametrize("answer", ["n\n", "N\n", "no\n", "what?\n"])
def test_no_means_no(lab, answer):
    before = lab.everything()
    said = lab.usr("push", DATASET, "lab", stdin=answer)
    assert said.status == 130
    assert said.lines[-2:] == [
        "Changes detected. Proceed with overwrite?", "[Enter = Yes / n = No] : ",
    ]  # fmt: skip
    assert lab.everything() == before


@pytest.mark.parametrize("answer", ["\n", "y\n", "Yes\n"])
def test_enter_means_yes(lab, answer):
    said = lab.usr("push", DATASET, "lab", stdin=answer).ok()
    assert "  only here  records.parquet" in said.lines, "the plan is shown before the question"
    assert "PUSH audit: TRANSFERRED" in said.lines, "on a line of its own"
    assert datasets.read(lab.far) == sample_files()


def test_no_answer_is_no(lab):
    said = lab.usr("push", DATASET, "lab", stdin="")
    assert said.status == 130
    assert "no answer: nothing was changed" in said.err
    assert not lab.far.exists()


def test_with_json_the_question_is_not_on_standard_output(lab):
    said = lab.usr("push", DATASET, "lab", "--json", stdin="\n").ok()
    assert said.data["transfer_state"] == "TRANSFERRED"
    assert "Proceed with overwrite?" in said.err


def test_a_first_pull_by_a_bare_name_can_be_forbidden(synced, monkeypatch):
    fresh = synced.home / "fresh"
    fresh.mkdir()
    words = ["--root", fresh, "pull", "x", "lab", "-y"]
    synced.usr(*words, "--strict-bootstrap-id").failed("invalid-name", 3)
    monkeypatch.setenv("USR_SYNC_STRICT_BOOTSTRAP_ID", "1")
    synced.usr(*words).failed("invalid-name", 3)
    assert listing(fresh) == {}


def test_lock_timeout_names_who_holds_the_dataset(synced):
    import fcntl

    (synced.folder / "meta.md").write_text("more")
    before = synced.everything()
    with (synced.far / ".usr.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = synced.spawn("push", DATASET, "lab", "-y", "--lock-timeout", "0.2")
        said.failed("locked", 5)
    (synced.far / ".usr.lock").unlink()
    assert synced.everything() == before
    synced.usr("push", DATASET, "lab", "-y").ok()


# ── the weak points of the tool before us ───────────────────────────────────────────────
def test_w5_a_touch_is_no_change_and_a_kept_time_hides_nothing(synced):
    """W5: meta.md was compared by its time in whole seconds only."""
    os.utime(synced.folder / "meta.md", (1, 1))
    said = synced.usr("diff", DATASET, "lab", "--exit-code").ok()
    assert said.lines[-1] == "Status     : up-to-date"
    assert synced.usr("push", DATASET, "lab", "--json").ok().data["transfer_state"] == "NO-OP"
    rewrite(synced.folder / "meta.md", b"# SAMPLE\n")
    rewrite(synced.folder / "_snapshots/2024-01-01.parquet", datasets.noise("other", 3000))
    data = synced.usr("diff", DATASET, "lab", "--json").ok().data
    assert data["meta"]["changed"]
    assert data["_snapshots"]["differ"] == ["_snapshots/2024-01-01.parquet"]
    synced.usr("push", DATASET, "lab", "-y").ok()
    assert datasets.read(synced.far) == synced.read()


@pytest.mark.parametrize("mode", ["hash", "auto", "size", "parquet"])
def test_w6_a_rewritten_primary_with_equal_counts_is_seen(synced, mode):
    """W6: --verify parquet compared the number of rows and columns only."""
    rewrite(synced.folder / "records.parquet", same_table_other_bytes())
    said = synced.usr("diff", DATASET, "lab", "--verify", mode).ok()
    assert "Primary    : changed" in said.lines
    assert said.lines[-1] == "Status     : CHANGES"
    synced.usr("push", DATASET, "lab", "-y", "--verify", mode).ok()
    assert datasets.read(synced.far) == synced.read()


def test_w6_a_primary_that_is_no_table_is_refused_under_verify_parquet(synced):
    (synced.folder / "records.parquet").write_bytes(b"PAR1 this is no table PAR1")
    before = datasets.read(synced.far), synced.refs(synced.there)
    said = synced.usr("push", DATASET, "lab", "-y", "--verify", "parquet")
    said.failed("post-push-primary", 6)
    assert said.err.startswith("post-push-primary: Primary: ")
    assert (datasets.read(synced.far), synced.refs(synced.there)) == before


def test_w8_an_older_primary_never_overwrites_a_newer_one(synced):
    """W8: --primary-only --no-verify-sidecars skipped the test of who is ahead."""
    rewrite(synced.far / "records.parquet", same_table_other_bytes())
    before = datasets.read(synced.far), synced.refs(synced.there)
    flags = ["-y", "--primary-only", "--no-verify-sidecars"]
    synced.usr("push", DATASET, "lab", *flags).failed("remote-ahead", 5)
    (synced.folder / "meta.md").write_text("ours")
    synced.usr("push", DATASET, "lab", *flags).failed("diverged", 5)
    assert (datasets.read(synced.far), synced.refs(synced.there)) == before


def test_w26_a_dataset_named_by_its_folder_is_a_no_op_too(synced, monkeypatch):
    """W26: a sync by path always transferred and said NO-OP; its output was mixed up."""
    for path in (synced.folder, f"./here/{DATASET}", f"{synced.folder}/"):
        data = synced.usr("push", path, "lab", "-y", "--json").ok().data
        assert (data["dataset"], data["transfer_state"]) == (DATASET, "NO-OP")
    monkeypatch.chdir(synced.folder)
    assert synced.usr("push", ".", "lab", "--json").ok().data["transfer_state"] == "NO-OP"
    (synced.folder / "meta.md").write_text("more")
    said = synced.spawn("push", ".", "lab", "-y", "--json").ok()
    assert json.loads(said.out)["data"]["transfer_state"] == "TRANSFERRED"


# ── diff creates nothing ────────────────────────────────────────────────────────────────
def test_a_diff_writes_nothing_at_the_remote(synced):
    (synced.far / "meta.md").write_text("not in any state")
    before = listing(synced.there)
    for _ in range(2):
        synced.usr("diff", DATASET, "lab").ok()
    synced.usr("status", DATASET, "lab").ok()
    assert listing(synced.there) == before


def test_a_diff_makes_no_store(lab):
    (lab.there / "other").mkdir()
    before = listing(lab.home)
    lab.usr("diff", DATASET, "lab").ok()
    after = listing(lab.home)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert all(path == "here/.usr" or path.startswith("here/.usr/") for path in changed), changed


# ── fetch and remotes ───────────────────────────────────────────────────────────────────
def test_fetch_keeps_a_state_and_leaves_the_folder(synced):
    (synced.far / "meta.md").write_text("theirs")
    before = synced.read()
    data = synced.usr("fetch", DATASET, "lab", "--json").ok().data
    assert (data["fresh"], data["remote"]) == (True, "lab")
    assert synced.read() == before
    assert synced.raw("show", f"lab/{DATASET}:meta.md") == b"theirs"
    said = synced.usr("fetch", DATASET, "lab").ok()
    assert said.out == f"lab/{DATASET} {data['manifest'][:12]} (as before)\n"


def test_remotes_from_first_to_last(lab, monkeypatch):
    monkeypatch.setenv("USR_REMOTES_PATH", str(lab.home / "mine" / "remotes.yaml"))
    assert lab.usr("remotes", "list").ok().out.startswith("no remotes in ")
    assert lab.usr("remotes", "list", "--json").ok().data == []
    words = ["--host", "h", "--user", "u", "--base-dir", "/b", "--port", "22", "--ssh-option=-4"]
    said = lab.usr("remotes", "add", "hpc", *words).ok()
    assert said.lines[0].startswith("hpc is u@h:/b (")
    assert said.lines[1] == "next: usr remotes doctor --remote hpc"
    lab.usr("remotes", "add", "hpc", "--base-dir", "/c", "--type", "folder").failed("config", 3)
    lab.usr("remotes", "add", "two", "--type", "folder", "--base-dir", "/c", "--json").ok()
    assert lab.usr("remotes", "list").ok().lines == [
        "hpc  ssh     u@h:/b", "two  folder  /c",
    ]  # fmt: skip
    data = lab.usr("remotes", "show", "hpc", "--json").ok().data
    assert (data["port"], data["ssh_options"], data["batch_mode"]) == (22, ["-4"], True)
    assert data in lab.usr("remotes", "list", "--json").ok().data
    shown = lab.usr("remotes", "show", "hpc").ok().lines
    assert "host           : h" in shown
    assert all(len(line.partition(": ")[0]) == 15 for line in shown)
    lab.usr("remotes", "add", "hpc", "--base-dir", "/c", "--type", "folder", "--overwrite").ok()
    assert lab.usr("remotes", "show", "hpc", "--json").ok().data["type"] == "folder"
    lab.usr("remotes", "remove", "two", "--json").ok()
    lab.usr("remotes", "remove", "two").failed("remote-not-found", 4)
    lab.usr("remotes", "add", "h2", "--base-dir", "/c").failed("config", 3)
    lab.usr("remotes", "add", "h2", "--host", "-oProxyCommand=x", "--base-dir", "/c").failed(
        "config", 3
    )


def test_the_remotes_of_a_root_come_before_those_of_the_user(lab, monkeypatch):
    monkeypatch.delenv("USR_REMOTES_PATH")
    lab.usr("remotes", "add", "mine", "--type", "folder", "--base-dir", "/m").ok()
    text = "remotes: {ours: {type: folder, base_dir: /o}}\n"
    (lab.root / ".usr" / "remotes.yaml").write_text(text)
    assert [row["name"] for row in lab.usr("remotes", "list", "--json").data] == ["ours"]
    given = lab.usr("--remotes-config", lab.remotes, "remotes", "list", "--json").data
    assert [row["name"] for row in given] == ["lab"]
    (Path(os.environ["XDG_CONFIG_HOME"]) / "usr" / "remotes.yaml").unlink()


def test_doctor_is_well_only_if_a_push_would_work(lab):
    said = lab.usr("remotes", "doctor", "--remote", "lab").ok()
    assert said.lines[-1] == "lab: a push would work"
    assert re.search(r"^room +ok +\d+\.\d GB", said.out, re.MULTILINE)
    data = lab.usr("remotes", "doctor", "--remote", "lab", "--json").ok().data
    assert data["healthy"]
    assert all(check["ok"] for check in data["checks"])
    lab.there.rmdir()
    said = lab.usr("remotes", "doctor", "--remote", "lab")
    assert said.status == 1
    assert f"→ mkdir -p {lab.there}" in said.out
    assert said.lines[-1] == "lab: a push would fail"
    assert not lab.usr("remotes", "doctor", "--remote", "lab", "--json").data["healthy"]


def test_doctor_finds_a_strict_root_without_signers_and_a_missing_registry(lab):
    (lab.root / ".usr" / "config").write_text('[trust]\nmode = "strict"\n')
    (lab.root / "registry.yaml").unlink()
    said = lab.usr("remotes", "doctor", "--remote", "lab")
    assert said.status == 1
    assert re.search(r"^trust +FAILED +mode strict, 0 listed signers$", said.out, re.MULTILINE)
    assert re.search(r"^registry +warning ", said.out, re.MULTILINE)


def test_doctor_without_a_root(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    monkeypatch.chdir(lab.there)
    said = lab.usr("remotes", "doctor", "--remote", "lab").ok()
    assert re.search(r"^root +warning +no local root", said.out, re.MULTILINE)


def test_chosen_sections_move_and_the_rest_stays(synced):
    """What is left out is neither moved nor verified, and the policy says so."""
    (synced.far / "meta.md").write_text("theirs")
    (synced.far / "_derived/infer/part-2.parquet").write_bytes(b"theirs")
    said = synced.usr("pull", DATASET, "lab", "-y", "--section", "derived").failed("usage", 2)
    assert "--section leaves sidecars out" in said.err
    words = ["--section", "derived", "--section", "events", "--no-verify-sidecars"]
    words += ["--no-verify-registry"]
    said = synced.usr("pull", DATASET, "lab", "-y", *words, "--json").ok()
    assert "only derived events" in said.data["policy"]
    assert (synced.folder / "_derived/infer/part-2.parquet").read_bytes() == b"theirs"
    assert (synced.folder / "meta.md").read_text() != "theirs"
    words = ["--section", "events", "--primary-only", "--no-verify-sidecars"]
    synced.usr("pull", DATASET, "lab", "-y", *words).failed("usage", 2)

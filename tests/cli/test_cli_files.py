"""One file as a target: the same checks as a whole dataset, and none of what used to go wrong."""

from __future__ import annotations

import fcntl
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets
from support.datasets import DATASET, REGISTRY


def table(rows, seed=0):
    return pa.table({"id": [f"{seed}-{n}" for n in range(rows)], "n": list(range(rows))})


def write(path, rows, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, seed), path, **options)
    return path.read_bytes()


class Repos:
    """Two clones of one repository, outside of any root: `lab` knows where the other one is."""

    def __init__(self, lab, monkeypatch):
        self.lab = lab
        self.here, self.there = lab.home / "repo", lab.home / "far repo"
        self.file, self.far = self.here / "data/t.parquet", self.there / "data/t.parquet"
        self.far.parent.mkdir(parents=True)
        self.data = write(self.file, 2000)
        monkeypatch.delenv("DNADESIGN_REPO_ROOT", raising=False)
        self.profile(repo_root=str(self.there), local_repo_root=str(self.here))

    def profile(self, **values):
        body = {"type": "folder", "base_dir": str(self.lab.there), **values}
        self.lab.remotes.write_text(json.dumps({"remotes": {"lab": body}}))

    def usr(self, verb, *words, **more):
        return self.lab.usr(verb, self.file, "lab", *words, **more)


@pytest.fixture
def repos(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    return Repos(lab, monkeypatch)


@pytest.fixture
def synced(repos):
    repos.usr("push", "-y").ok()
    return repos


def files(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".usr" not in path.parts
    }


# ── there and back ──────────────────────────────────────────────────────────────────────
def test_a_file_is_pushed_compared_and_pulled(repos):
    assert repos.usr("diff").ok().lines[-2:] == ["  only here  t.parquet", "Status     : CHANGES"]
    said = repos.usr("push", "-y").ok()
    assert said.lines[0] == "PUSH audit: TRANSFERRED"
    assert f"File       : here={repos.file} there={repos.far}" in said.lines
    assert said.lines[-1] == "Push complete."
    assert repos.far.read_bytes() == repos.data
    assert repos.usr("diff").ok().lines[-1] == "Status     : up-to-date"
    assert repos.usr("status").ok().lines[-1] == "Status     : up-to-date"
    theirs = write(repos.far, 2100)
    said = repos.usr("diff", "--exit-code")
    assert (said.status, said.lines[-2]) == (1, "  differs    t.parquet")
    assert repos.usr("diff", "--porcelain").ok().out == "M\tt.parquet\n"
    repos.usr("pull", "-y").ok()
    assert repos.file.read_bytes() == theirs
    assert files(repos.here) == files(repos.there) == {"data/t.parquet"}


def test_what_is_equal_is_a_no_op_that_moves_nothing(synced):
    """W26: a file was always transferred, and the audit said NO-OP all the same."""
    os.utime(synced.file)  # a touched file is no other file
    before = os.stat(synced.far)
    for verb in ("push", "pull"):
        data = synced.usr(verb, "-y", "--json").ok().data
        assert (data["transfer_state"], data["moved"]["payload"]) == ("NO-OP", 0)
    assert os.stat(synced.far) == before


def test_output_to_a_pipe_is_one_line_of_json_and_nothing_else(synced):
    """W26: rsync's progress stood among the results."""
    theirs = write(synced.far, 3000)
    said = synced.lab.spawn("pull", synced.file, "lab", "-y", "--json").ok()
    data = json.loads(said.out)["data"]
    assert data["transfer_state"] == "TRANSFERRED"
    assert data["file"] == {"local": str(synced.file), "remote": str(synced.far)}
    assert data["moved"]["payload"] <= len(theirs)
    assert said.err == ""


def test_the_same_size_and_time_with_other_bytes_is_a_change(synced):
    before = os.stat(synced.far)
    data = bytearray(synced.data)
    data[100] ^= 1
    synced.far.write_bytes(data)
    os.utime(synced.far, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert synced.usr("diff").ok().lines[-1] == "Status     : CHANGES"


@pytest.mark.parametrize("mode", ["hash", "auto", "size", "parquet"])
def test_every_mode_of_verification_is_taken(synced, mode):
    theirs = write(synced.far, 2000, compression="gzip")  # the same rows, other bytes
    assert synced.usr("diff", "--verify", mode).ok().lines[-1] == "Status     : CHANGES"
    said = synced.usr("pull", "-y", "--verify", mode).ok()
    assert f"Verify     : primary={mode} sidecars=strict content_hashes=on" in said.lines
    assert synced.file.read_bytes() == theirs


def test_what_is_no_table_is_refused_under_verify_parquet_and_moves_otherwise(synced):
    synced.far.write_bytes(b"not a table")
    said = synced.usr("pull", "-y", "--verify", "parquet").failed("post-pull-primary", 6)
    assert said.err.startswith("post-pull-primary: ")
    assert synced.file.read_bytes() == synced.data
    synced.usr("pull", "-y").ok()
    assert synced.file.read_bytes() == b"not a table"


def test_a_first_pull_brings_a_file_that_is_not_here(synced):
    synced.file.unlink()
    (synced.here / "data/.usr").rename(synced.lab.home / "forgotten")
    synced.usr("pull", "-y", "--strict-bootstrap-id").ok()  # that is about ids of datasets
    assert synced.file.read_bytes() == synced.data


def test_only_what_changed_travels(repos):
    """A pull used to bring the whole file again."""
    names = [f"{n:06}" for n in range(200_000)]
    pq.write_table(pa.table({"id": names}), repos.file, row_group_size=20_000)
    repos.usr("push", "-y").ok()
    size = repos.file.stat().st_size
    pq.write_table(pa.table({"id": [*names, "new"]}), repos.file, row_group_size=20_000)
    data = repos.usr("push", "-y", "--json").ok().data
    assert 0 < data["moved"]["payload"] < size / 3


def test_a_dry_run_says_what_would_happen_and_writes_nothing(repos):
    said = repos.usr("push", "--dry-run").ok()
    assert said.lines[0] == "  only here  t.parquet"
    assert "PUSH audit: DRY-RUN" in said.lines
    assert not repos.far.exists()
    assert not (repos.far.parent / ".usr").exists()


def test_it_asks_before_it_overwrites(synced):
    write(synced.far, 3000)
    said = synced.usr("pull", stdin="n\n")
    assert (said.status, synced.file.read_bytes()) == (130, synced.data)
    assert "differs    t.parquet" in said.out
    synced.usr("pull", stdin="\n").ok()
    assert synced.file.read_bytes() == synced.far.read_bytes()


def test_the_mode_of_the_file_stays(synced):
    synced.file.chmod(0o640)
    write(synced.far, 3000)
    synced.usr("pull", "-y").ok()
    assert synced.file.stat().st_mode & 0o777 == 0o640


# ── nothing is chosen silently ──────────────────────────────────────────────────────────
def test_both_sides_changed_is_refused_until_somebody_says_who_wins(synced):
    ours, theirs = write(synced.file, 10), write(synced.far, 20)
    for verb in ("push", "pull"):
        said = synced.usr(verb, "-y").failed("diverged", 5)
        assert "a file is not merged: let one side win" in said.err
        assert (synced.file.read_bytes(), synced.far.read_bytes()) == (ours, theirs)
    synced.usr("pull", "-y", "--force-with-lease").ok()
    assert synced.file.read_bytes() == theirs


def test_two_files_that_never_met_are_not_taken_for_one_another(repos):
    theirs = write(repos.far, 20)
    for verb in ("push", "pull"):
        repos.usr(verb, "-y").failed("diverged", 5)
    assert (repos.file.read_bytes(), repos.far.read_bytes()) == (repos.data, theirs)


def test_an_older_file_never_overwrites_a_newer_one(synced):
    newer = write(synced.far, 20)
    synced.usr("push", "-y").failed("remote-ahead", 5)
    assert synced.far.read_bytes() == newer
    write(synced.file, 30)
    write(synced.far, 2000)  # back to what it was
    assert synced.far.read_bytes() == synced.data
    said = synced.usr("pull", "-y").ok()
    assert said.lines[0] == "Nothing to pull: this side is ahead."


# ── where it is at the remote ───────────────────────────────────────────────────────────
def test_a_remote_path_may_be_any_and_have_another_name(repos):
    elsewhere = repos.lab.home / "else where" / "their name.parquet"
    elsewhere.parent.mkdir()
    repos.profile()
    repos.usr("push", "-y", "--remote-path", elsewhere).ok()
    assert elsewhere.read_bytes() == repos.data
    theirs = write(elsewhere, 7)
    repos.usr("pull", "-y", "--remote-path", elsewhere).ok()
    assert repos.file.read_bytes() == theirs
    assert files(elsewhere.parent) == {"their name.parquet"}
    assert repos.usr("status", "--remote-path", elsewhere).ok().lines[-1].endswith("up-to-date")


@pytest.mark.parametrize("how", ["option", "profile", "environment"])
def test_a_place_follows_from_the_roots_of_both_repositories(repos, monkeypatch, how):
    words = []
    repos.profile(repo_root=f"{repos.there}/")
    if how == "option":
        monkeypatch.setenv("DNADESIGN_REPO_ROOT", str(repos.lab.home / "ignored"))
        words = ["--repo-root", "repo"]
    elif how == "profile":
        monkeypatch.setenv("DNADESIGN_REPO_ROOT", str(repos.lab.home / "ignored"))
        repos.profile(repo_root=str(repos.there), local_repo_root=str(repos.here))
    else:
        monkeypatch.setenv("DNADESIGN_REPO_ROOT", str(repos.here))
    repos.usr("push", "-y", *words).ok()
    assert repos.far.read_bytes() == repos.data


def test_a_file_whose_place_cannot_be_known_is_refused(repos):
    def refused(*words):
        said = repos.usr("push", "-y", *words).failed("file-unmapped", 3)
        assert "nothing was changed" in said.err
        assert "--remote-path" in said.err
        return said.err

    repos.profile(local_repo_root=str(repos.here))
    assert "the remote lab has no repo_root" in refused()
    repos.profile(repo_root=str(repos.there))
    assert "nothing says which folder here is its repo_root" in refused()
    assert f"lies outside of {repos.lab.root} (--repo-root)" in refused(
        "--repo-root", repos.lab.root
    )
    assert "is not the whole path" in refused("--remote-path", "data/t.parquet")
    assert files(repos.there) == set()


def test_no_folder_is_made_for_a_path_that_may_be_misspelt(repos):
    for words in (["--remote-path", repos.there / "dta/t.parquet"],):
        said = repos.usr("push", "-y", *words).failed("no-folder", 4)
        assert "mkdir -p" in said.err
    assert not (repos.there / "dta").exists()


def test_what_is_no_file_is_refused(repos):
    repos.file.unlink()
    repos.usr("push", "-y").failed("dataset-not-found", 4)
    repos.usr("diff").failed("dataset-not-found", 4)
    (repos.here / "data/link.parquet").symlink_to(repos.far)
    words = ["push", repos.here / "data/link.parquet", "lab", "-y"]
    assert "is a link" in repos.lab.usr(*words).failed("invalid-input", 3).err
    repos.lab.usr("commit", repos.lab.remotes).failed("invalid-input", 3)


@pytest.mark.parametrize(
    "words",
    [["--section", "primary"], ["--path", "*"], ["--all"], ["--rows"]],
    ids=lambda words: words[0],
)
def test_options_of_datasets_are_refused(repos, words):
    verb = "diff" if words == ["--rows"] else "pull"
    assert repos.usr(verb, *words).status == 2


def test_a_dataset_has_no_remote_path(lab):
    assert lab.usr("push", DATASET, "lab", "-y", "--remote-path", "/x").status == 2
    assert lab.usr("diff", DATASET, "lab", "--remote-path", "/x").status == 2
    lab.usr("push", DATASET, "lab", "-y", "--repo-root", lab.home).ok()  # scripts give it to all


def test_a_bucket_holds_no_files(repos):
    repos.lab.remotes.write_text(
        json.dumps({"remotes": {"lab": {"type": "bucket", "url": "s3://lab-data/p"}}})
    )
    repos.usr("push", "-y", "--remote-path", "/x/y.parquet").failed("unsupported", 8)


# ── its history ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["t.parquet", "other.parquet"])
def test_a_pull_of_a_file_can_be_undone_and_what_was_is_shown(repos, name):
    words = ["-y", "--remote-path", repos.far.parent / name]
    repos.usr("push", *words).ok()
    theirs = write(repos.far.parent / name, 20)
    repos.usr("pull", *words).ok()
    at = ["--root", repos.file]
    log = repos.lab.usr(*at, "log", "--json").ok().data
    assert [entry["dataset"] for entry in log] == [name, name]
    assert repos.lab.raw(*at, "show", f"{log[1]['id']}:records.parquet") == repos.data
    assert len(repos.lab.usr(*at, "op", "log", "--json").ok().data) == 2
    repos.lab.usr(*at, "undo").ok()
    assert repos.file.read_bytes() == repos.data
    repos.lab.usr(*at, "undo").ok()  # an undo can be undone
    assert repos.file.read_bytes() == theirs
    assert files(repos.here) == {"data/t.parquet"}


def test_only_commands_of_its_history_take_a_file_for_a_root(synced):
    before = files(synced.here)
    for words in (["commit"], ["import", "x", "--from", "csv", "--path", "y"], ["gc"], ["ls"]):
        synced.lab.usr("--root", synced.file, *words).failed("not-found", 4)
    assert files(synced.here) == before


# ── in a dataset ────────────────────────────────────────────────────────────────────────
def test_the_primary_of_a_dataset_is_a_file_too_and_its_store_is_the_roots(lab):
    there = lab.home / "flat"
    there.mkdir()
    words = [lab.folder / "records.parquet", "lab", "--remote-path", there / "r.parquet"]
    before = lab.read()
    lab.usr("push", *words, "-y").ok()
    assert (there / "r.parquet").read_bytes() == before["records.parquet"]
    assert lab.read() == before  # no store in the dataset
    assert not (lab.folder / ".usr").exists()
    assert (lab.root / ".usr/files/ns@x@records.parquet/states").is_dir()
    write(there / "r.parquet", 5)
    lab.usr("pull", *words, "-y").ok()
    assert lab.usr("status", DATASET, "--porcelain").status == 0
    assert (lab.folder / "records.parquet").read_bytes() == (there / "r.parquet").read_bytes()
    assert lab.usr("fsck").ok().status == 0


def test_the_locks_of_a_dataset_are_honoured(lab):
    there = lab.home / "flat"
    words = ["--remote-path", there / "r.parquet", "-y", "--lock-timeout", "0.2"]
    write(there / "r.parquet", 5)
    (lab.folder / ".usr.lock").touch()
    with open(lab.folder / ".usr.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = lab.usr("push", lab.folder / "records.parquet", "lab", *words)
    said.failed("locked", 5)


def test_a_root_that_believes_strictly_does_so_of_its_files(lab, configs):
    """A file must be no way round the settings of the root that it lies in."""
    there = lab.home / "flat"
    there.mkdir()
    words = ["lab", "--remote-path", there / "r.parquet", "-y"]
    lab.use(configs["eve"])
    lab.usr("push", lab.folder / "records.parquet", *words).ok()
    lab.use(configs["bob"])
    mine = lab.home / "mine"
    (mine / "ns/y").mkdir(parents=True)
    (mine / ".usr/states").mkdir(parents=True)
    (mine / ".usr/config").write_text('[trust]\nmode = "strict"\n')
    file = mine / "ns/y/records.parquet"
    lab.usr("pull", file, *words).failed("signer-unknown", 7)
    assert not file.exists()
    (mine / ".usr/config").unlink()
    lab.usr("pull", file, *words).ok()
    assert file.read_bytes() == (there / "r.parquet").read_bytes()


def test_a_root_does_not_see_the_stores_of_files(repos):
    (repos.here / "registry.yaml").write_bytes(REGISTRY)
    datasets.write(repos.here / "ns/x", {"records.parquet": repos.data})
    repos.usr("push", "-y").ok()
    said = repos.lab.usr("--root", repos.here, "ls", "--json").ok()
    assert [row["dataset"] for row in said.data] == ["ns/x"]
    assert repos.lab.usr("--root", repos.here, "show-ref").out == ""
    assert (repos.here / ".usr/files/data@t.parquet").is_dir()

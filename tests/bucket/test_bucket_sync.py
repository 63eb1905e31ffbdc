"""A bucket as a remote, through the command line and a real server: what a person sees."""

from __future__ import annotations

import signal
import subprocess

import pytest
import yaml

from support import datasets, flaky
from support.datasets import DATASET
from support.flaky import BUSY, DENY, STALL, Link
from support.lab import USR, sample_files


@pytest.fixture
def pushed(lab):
    lab.usr("push", DATASET, "b", "-y").ok()
    return lab


def other_root(lab):
    other = lab.home / "other"
    other.mkdir(exist_ok=True)
    return other


def rewire(lab, **settings):
    """Change the remote's settings behind everybody's back."""
    body = yaml.safe_load(lab.remotes.read_text())
    body["remotes"]["b"].update(settings)
    lab.remotes.write_text(yaml.safe_dump(body))


def test_a_push_is_kept_there_and_a_pull_elsewhere_is_the_same_folder(pushed):
    other = other_root(pushed)
    said = pushed.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert "PULL audit: TRANSFERRED" in said.lines
    assert datasets.read(other / DATASET) == sample_files() == pushed.read()
    assert pushed.usr("diff", DATASET, "b").ok().lines[-1] == "Status     : up-to-date"
    assert pushed.usr("push", DATASET, "b").ok().lines[0] == "Already up to date."


def test_the_audit_is_that_of_any_remote(lab):
    data = lab.usr("push", DATASET, "b", "-y", "--json").ok().data
    assert (data["action"], data["transfer_state"]) == ("push", "TRANSFERRED")
    assert data["moved"]["sent"] > data["moved"]["payload"] > 0
    assert data["moved"]["round_trips"] < 40
    assert data["manifest"]["signature"] == "good"
    data = lab.usr("diff", DATASET, "b", "--json").ok().data
    assert data["manifest"]["remote"] == data["manifest"]["local"]
    assert data["moved"]["sent"] == 0


def test_diff_shows_what_differs_and_exits_as_it_does_for_a_host(pushed):
    (pushed.folder / "meta.md").write_text("other\n")
    said = pushed.usr("diff", DATASET, "b", "--exit-code")
    assert said.status == 1
    assert said.lines[-1] == "Status     : CHANGES"
    pushed.usr("push", DATASET, "b", "-y").ok()
    assert pushed.usr("diff", DATASET, "b", "--exit-code").status == 0


def test_a_fetch_and_a_checkout_take_a_state_without_its_folder(pushed):
    other = other_root(pushed)
    pushed.usr("--root", other, "init", other)
    pushed.usr("--root", other, "fetch", DATASET, "b").ok()
    assert not (other / DATASET).exists()
    shown = pushed.usr("--root", other, "show", f"b/{DATASET}").ok()
    assert "records.parquet" in shown.out


def test_whoever_comes_second_is_told_to_pull(pushed):
    other = other_root(pushed)
    pushed.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    (other / DATASET / "meta.md").write_text("theirs\n")
    pushed.usr("--root", other, "push", DATASET, "b", "-y").ok()
    pushed.usr("push", DATASET, "b", "-y").failed("remote-ahead", 5)
    (pushed.folder / "meta.md").write_text("ours\n")
    pushed.usr("push", DATASET, "b", "-y").failed("diverged", 5)


def test_a_remote_that_goes_back_is_refused(pushed, moto_server):
    (pushed.folder / "meta.md").write_text("second\n")
    pushed.usr("push", DATASET, "b", "-y").ok()
    key = f"{pushed.prefix}/states/{2:020}"
    moto_server.client().delete_object(Bucket=moto_server.bucket, Key=key)
    pushed.usr("pull", DATASET, "b", "-y").failed("rollback", 7)


# ── writing it down ─────────────────────────────────────────────────────────────────────
def test_a_remote_is_shown_as_it_was_written_down(lab, moto_server):
    data = lab.usr("remotes", "show", "b", "--json").ok().data
    assert (data["type"], data["url"]) == ("bucket", lab.url)
    assert data["endpoint"] == moto_server.endpoint
    said = lab.usr("remotes", "list").ok()
    assert f"b    bucket  {lab.url} at {moto_server.endpoint}" in said.lines
    written = yaml.safe_load(lab.remotes.read_text())["remotes"]["b"]
    assert written == {"type": "bucket", "url": lab.url, "endpoint": moto_server.endpoint}


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIASECRET:hunter2@bucket/x",
        "az://container/x?sig=hunter2",
        "http://bucket/x",
        "s3://",
        "s3://UPPER/x",
        "s3://bucket/../x",
        "s3://bucket//x",
    ],
)
def test_an_address_that_makes_no_sense_or_holds_a_password_is_refused(lab, url):
    before = lab.remotes.read_bytes()
    said = lab.usr("remotes", "add", "x", "--type", "bucket", "--url", url)
    said.failed("config", 3)
    assert "hunter2" not in said.out + said.err
    assert lab.remotes.read_bytes() == before


def test_a_bucket_that_is_not_there_is_not_written_down(lab, moto_server):
    words = ["remotes", "add", "x", "--type", "bucket", "--endpoint", moto_server.endpoint]
    lab.usr(*words, "--url", "s3://no-such-bucket/x").failed("bucket-missing", 9)
    assert "x" not in yaml.safe_load(lab.remotes.read_text())["remotes"]
    lab.usr(*words, "--url", "s3://no-such-bucket/x", "--no-check").ok()
    lab.usr("push", DATASET, "x", "-y").failed("bucket-missing", 9)


def test_a_server_that_ignores_preconditions_is_refused_wherever_it_is_met(
    lab, rclone_server, monkeypatch
):
    for name, value in rclone_server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{rclone_server.bucket}/{lab.prefix}"
    words = ["--type", "bucket", "--url", url, "--endpoint", rclone_server.endpoint]
    said = lab.usr("remotes", "add", "x", *words).failed("no-exclusive-create", 8)
    assert "two writers there would lose each other's work" in said.err
    assert "x" not in yaml.safe_load(lab.remotes.read_text())["remotes"]
    lab.usr("remotes", "add", "x", *words, "--no-check").ok()
    before = lab.everything()
    lab.usr("push", DATASET, "x", "-y").failed("no-exclusive-create", 8)
    assert lab.everything() == before
    assert list(rclone_server.backend(lab.prefix).list("packs/")) == []
    said = lab.usr("remotes", "doctor", "--remote", "x")
    assert said.status == 1
    assert any(line.startswith("exclusive create  FAILED") for line in said.lines)


# ── doctor ──────────────────────────────────────────────────────────────────────────────
def checks(said):
    return {check["name"]: check for check in said.data["checks"]}


def test_doctor_says_that_a_push_would_work(pushed):
    said = pushed.usr("remotes", "doctor", "--remote", "b", "--json").ok()
    found = checks(said)
    for name in ("bucket", "ranges", "writable", "exclusive create", "clock"):
        assert found[name]["ok"], found[name]
    assert pushed.usr("remotes", "doctor", "--remote", "b").ok().lines[-1] == (
        "b: a push would work"
    )


@pytest.mark.parametrize(
    ("settings", "name", "code"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, "bucket", "bucket-unreachable"),
        ({"url": "s3://no-such-bucket/x"}, "bucket", "bucket-missing"),
    ],
)
def test_doctor_and_a_push_say_why_it_would_not(lab, monkeypatch, settings, name, code):
    from usrstore.odb.backend import bucket

    monkeypatch.setattr(bucket, "PATIENCE_S", 0.3)
    rewire(lab, **settings)
    said = lab.usr("remotes", "doctor", "--remote", "b", "--json")
    assert said.status == 1
    assert checks(said)[name]["ok"] is False
    lab.usr("push", DATASET, "b", "-y").failed(code, 9)


def test_doctor_tells_who_may_read_from_who_may_write(pushed, moto_server):
    with Link(moto_server.port, flaky.every(1, "PUT", DENY)) as link:
        rewire(pushed, endpoint=link.endpoint)
        found = checks(pushed.usr("remotes", "doctor", "--remote", "b", "--json"))
        assert found["bucket"]["ok"]
        assert found["writable"]["ok"] is False
        assert pushed.usr("diff", DATASET, "b").ok()
        words = ["--type", "bucket", "--url", pushed.url, "--endpoint", link.endpoint]
        said = pushed.usr("remotes", "add", "public", *words).ok()
        assert "it may only be read: diff, pull and fetch work" in said.lines
        (pushed.folder / "meta.md").write_text("more\n")
        pushed.usr("push", DATASET, "public", "-y").failed("bucket-denied", 9)


# ── secrets, patience, Ctrl-C ───────────────────────────────────────────────────────────
def test_no_secret_is_printed_or_written_whatever_goes_wrong(lab, moto_server, monkeypatch):
    secrets = set(moto_server.environment.values())
    out = lab.home / "audit.json"
    told = []
    with Link(moto_server.port, lambda *_: DENY) as link:
        rewire(lab, endpoint=link.endpoint)
        for words in (
            ("push", DATASET, "b", "-y", "--audit-json-out", out),
            ("--debug", "push", DATASET, "b", "-y"),
            ("pull", DATASET, "b", "-y", "--json"),
            ("fetch", DATASET, "b"),
            ("diff", DATASET, "b"),
            ("remotes", "doctor", "--remote", "b"),
            ("remotes", "show", "b"),
            ("remotes", "list", "--json"),
        ):
            said = lab.spawn(*words)
            told.append(said.out + said.err)
    assert "bucket-denied" in told[0]
    assert "Traceback" in told[1], "--debug shows where, and still no secret"
    written = [path.read_bytes() for path in lab.home.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not [text for text in told if secret in text]
        assert not [data for data in written if secret.encode() in data]


def test_keys_are_found_where_other_tools_keep_them(lab, moto_server, monkeypatch):
    from usrcli import credentials

    aws = lab.home / ".aws"
    aws.mkdir()
    keys = {name.lower(): value for name, value in moto_server.environment.items()}
    lines = [f"{name} = {value}" for name, value in keys.items()]
    (aws / "credentials").write_text("\n".join(["[lab]", *lines]) + "\n")
    (aws / "config").write_text("[profile lab]\nregion = eu-central-1\n")
    for name in moto_server.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    found = credentials.gather({"AWS_PROFILE": "lab"})
    assert found.items() >= {**moto_server.environment, "AWS_REGION": "eu-central-1"}.items()
    lab.usr("push", DATASET, "b", "-y").ok()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    lab.usr("diff", DATASET, "b").failed("config", 3)
    (aws / "credentials").write_text("aws_secret_access_key = hunter2\n")
    said = lab.usr("diff", DATASET, "b").failed("config", 3)
    assert "hunter2" not in said.err
    mine = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "own"}
    (aws / "credentials").write_text("[default]\naws_access_key_id = theirs\n")
    assert credentials.gather(mine).items() >= mine.items()


def test_slow_down_and_lost_replies_are_no_concern_of_a_persons(lab, moto_server):
    with Link(moto_server.port, lambda number, *_: BUSY if number % 3 == 0 else None) as link:
        rewire(lab, endpoint=link.endpoint)
        lab.usr("push", DATASET, "b", "-y").ok()
        assert link.wrong > 2
        other = other_root(lab)
        lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == sample_files()


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_ctrl_c_is_obeyed_while_a_server_keeps_silent(lab, moto_server, verb):
    with Link(moto_server.port, lambda *_: STALL) as link:
        rewire(lab, endpoint=link.endpoint)
        child = subprocess.Popen(
            [*USR, verb, DATASET, "b", "-y"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert link.stalled.wait(120)
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "Traceback" not in err


def test_a_program_can_push_and_pull_as_well(lab):
    import usrstore
    from usrstore.remote import profiles

    environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    profile = profiles.find(str(lab.remotes), "b")
    me = usrstore.who("me", signer=None)
    store = usrstore.open(str(lab.root), me)
    with usrstore.connect(profile, environment, me, root=str(lab.root)) as peer:
        assert store[DATASET].push(peer, "b").state == "TRANSFERRED"
        assert peer.traffic()[0] > 0


@pytest.mark.slow
def test_all_of_it_works_with_ceph_too(lab, ceph_server, monkeypatch):
    for name, value in ceph_server.environment.items():
        monkeypatch.setenv(name, value)
    words = ["--type", "bucket", "--url", lab.url, "--endpoint", ceph_server.endpoint]
    lab.usr("remotes", "add", "b", "--overwrite", *words).ok()
    lab.usr("push", DATASET, "b", "-y").ok()
    other = other_root(lab)
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    (other / DATASET / "meta.md").write_text("theirs\n")
    lab.usr("--root", other, "push", DATASET, "b", "-y").ok()
    lab.usr("push", DATASET, "b", "-y").failed("remote-ahead", 5)
    lab.usr("pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == lab.read()
    lab.usr("remotes", "doctor", "--remote", "b").ok()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one")
    said = lab.usr("push", DATASET, "b", "-y").failed("bucket-denied", 9)
    assert "SignatureDoesNotMatch" in said.err
    assert "not-the-one" not in said.err


def asked(lab, server, *words):
    """How many requests a command makes."""
    with Link(server.port) as link:
        rewire(lab, endpoint=link.endpoint)
        lab.usr(*words).ok()
        rewire(lab, endpoint=server.endpoint)
        return len(link.asked)


def test_a_command_asks_for_the_packs_that_are_new_to_it(lab, moto_server):
    """Twelve pushes are some 24 packs; a second look opens none of them again."""
    for number in range(12):
        (lab.folder / "meta.md").write_text(f"{number}\n")
        lab.usr("push", DATASET, "b", "-y").ok()
    other = other_root(lab)
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    (other / ".usr" / "far" / "b.ends").unlink()
    look = ("--root", other, "diff", DATASET, "b")
    first, second = asked(lab, moto_server, *look), asked(lab, moto_server, *look)
    assert first > 24 > 10 > second
    (lab.folder / "meta.md").write_text("new\n")
    lab.usr("push", DATASET, "b", "-y").ok()
    assert asked(lab, moto_server, *look) <= second + 6
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == lab.read()
    print(f"{first} requests of a look at 24 unknown packs, {second} of the next")


@pytest.mark.parametrize("damage", ["cut", "flip", "nonsense", "folder"])
def test_what_is_remembered_of_packs_is_never_believed(pushed, damage):
    other = other_root(pushed)
    pushed.usr("--root", other, "init", other).ok()
    pushed.usr("--root", other, "diff", DATASET, "b").ok()
    path = other / ".usr" / "far" / "b.ends"
    data = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = data[:60] + bytes([data[60] ^ 1]) + data[61:]
        path.write_bytes({"cut": data[:70], "flip": flipped, "nonsense": b"x" * 200}[damage])
    pushed.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == pushed.read()
    assert damage == "folder" or len(path.read_bytes()) == len(data), "and it is made anew"

"""Whose signatures are believed, and which key signs, as settings and options say."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import fingerprint, sample_files


def settings(lab, text, root=None):
    path = (root or lab.root) / ".usr" / "config"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.fixture
def bob(synced, configs):
    """ada has pushed; bob has an empty root of his own, and `usr` runs as bob."""
    synced.use(configs["bob"])
    home = synced.home / "bob"
    home.mkdir()
    synced.patch.setenv("USR_ROOT", str(home))
    synced.bob = home
    return synced


def pushes(lab, config, text):
    """Somebody pushes another meta.md from a root of their own."""
    root = lab.home / f"root-of-{config.name}"
    root.mkdir(exist_ok=True)
    lab.use(config)
    lab.usr("--root", root, "pull", DATASET, "lab", "-y", "--trust", "none").ok()
    (root / DATASET / "meta.md").write_text(text)
    lab.usr("--root", root, "push", DATASET, "lab", "-y").ok()


# ── tofu ────────────────────────────────────────────────────────────────────────────────
def test_the_first_signer_is_pinned_and_another_is_refused(bob, configs):
    ada = fingerprint(configs["ada"])
    bob.usr("pull", DATASET, "lab", "-y").ok()
    assert bob.usr("trust", "list", "--json").ok().data["pins"] == {f"lab {DATASET}": [ada]}
    assert bob.usr("trust", "list").lines == ["mode tofu", f"pinned  {ada}  lab {DATASET}"]
    pushes(bob, configs["eve"], "eve was here")
    bob.use(configs["bob"])
    before = datasets.read(bob.bob), bob.refs(bob.bob)
    said = bob.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)
    assert fingerprint(configs["eve"]) in said.err
    assert "hint: once you know whose it is: usr trust add --name SOMEBODY --key" in said.err
    assert (datasets.read(bob.bob), bob.refs(bob.bob)) == before
    bob.usr("fetch", DATASET, "lab").failed("signer-unknown", 7)
    key = (configs["eve"] / "usr" / "id_ed25519.pub").read_text().strip()
    said = bob.usr("trust", "add", "--name", "eve", "--key", key).ok()
    assert said.out == f"eve {fingerprint(configs['eve'])} is believed in {bob.bob}\n"
    said = bob.usr("pull", DATASET, "lab", "-y").ok()
    assert "signature=good" in said.out
    assert datasets.read(bob.bob / DATASET)["meta.md"] == b"eve was here"


def test_none_believes_anyone_on_record(bob, configs):
    bob.usr("pull", DATASET, "lab", "-y").ok()
    pushes(bob, configs["eve"], "eve was here")
    bob.use(configs["bob"])
    said = bob.usr("pull", DATASET, "lab", "-y", "--trust", "none", "--json").ok()
    assert "warning: trust none is in force" in said.err
    assert said.data["policy"] == ["trust none"]
    assert said.data["manifest"]["signature"] == "unknown"
    settings(bob, '[trust]\nmode = "none"\n', bob.bob)
    assert "trust none is in force" in bob.usr("pull", DATASET, "lab", "-y").ok().err


# ── strict ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["option", "settings"])
def test_strict_wants_a_listed_signer(bob, configs, how):
    flags = ["--trust", "strict"] if how == "option" else []
    if how == "settings":
        settings(bob, '[trust]\nmode = "strict"\n', bob.bob)
    bob.usr("pull", DATASET, "lab", "-y", *flags).failed("signer-unknown", 7)
    assert not (bob.bob / DATASET).exists()
    public = configs["ada"] / "usr" / "id_ed25519.pub"
    bob.usr("trust", "add", "--name", "ada", "--key", public, "--json").ok()
    data = bob.usr("pull", DATASET, "lab", "-y", "--json", *flags).ok().data
    assert data["manifest"]["signature"] == "good"
    assert data["manifest"]["signer"] == fingerprint(configs["ada"])
    listed = bob.usr("trust", "list").lines
    assert f"listed  {fingerprint(configs['ada'])}  ada" in listed


def test_strict_refuses_what_nobody_signed(lab, configs, monkeypatch):
    monkeypatch.setenv("USR_SIGNING_KEY", "none")
    lab.usr("push", DATASET, "lab", "-y").ok()
    monkeypatch.delenv("USR_SIGNING_KEY")
    fresh = lab.home / "fresh"
    fresh.mkdir()
    lab.use(configs["bob"])
    words = ["--root", fresh, "pull", DATASET, "lab", "-y"]
    lab.usr(*words, "--trust", "strict").failed("signature-absent", 7)
    assert not (fresh / DATASET).exists()
    said = lab.usr(*words).ok()
    assert "signer=nobody signature=absent" in said.out


def test_a_remote_root_may_be_strict_about_pushes(lab, configs):
    settings(lab, '[trust]\nmode = "strict"\n', lab.there)
    lab.usr("push", DATASET, "lab", "-y").ok()  # a folder remote is ours as much as this root
    assert datasets.read(lab.far) == sample_files()


# ── keys ────────────────────────────────────────────────────────────────────────────────
def test_a_first_key_is_made_once_and_told_once(lab, monkeypatch):
    empty = lab.home / "empty"
    lab.use(empty)
    said = lab.usr("commit", DATASET).ok()
    assert said.err.startswith(f"note: made a signing key, {empty}/usr/id_ed25519 (SHA256:")
    assert (empty / "usr" / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert (empty / "usr").stat().st_mode & 0o777 == 0o700
    (lab.folder / "meta.md").write_text("more")
    assert lab.usr("commit", DATASET).ok().err == ""


def test_a_look_makes_no_key(lab):
    empty = lab.home / "empty"
    lab.use(empty)
    for words in (["status"], ["diff", DATASET, "lab"], ["push", DATASET, "lab", "--dry-run"]):
        lab.usr(*words).ok()
    assert not empty.exists()


@pytest.mark.parametrize("how", ["settings", "variable", "relative"])
def test_a_configured_key_signs(lab, configs, monkeypatch, how):
    key = configs["eve"] / "usr" / "id_ed25519"
    if how == "variable":
        monkeypatch.setenv("USR_SIGNING_KEY", str(key))
    elif how == "settings":
        settings(lab, f'[signing]\nkey = "{key}"\n')
    else:
        (lab.root / ".usr" / "mine").write_bytes(key.read_bytes())
        settings(lab, '[signing]\nkey = "mine"\n')
    lab.usr("commit", DATASET).ok()
    [row] = lab.usr("log", DATASET, "--json").data
    assert row["signer"] == fingerprint(configs["eve"])
    assert lab.usr("trust", "key", "--json").data["key"] == fingerprint(configs["eve"])


BAD_KEYS = {
    "absent": (None, "key-unreadable"),
    "nonsense": (b"not a key\n", "key-unreadable"),
    "cut short": (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "key-unreadable"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_that_cannot_be_read(lab, name):
    data, code = BAD_KEYS[name]
    if data is not None:
        (lab.root / ".usr" / "bad").write_bytes(data)
    settings(lab, '[signing]\nkey = "bad"\n')
    before = lab.everything()
    for words in (["commit", DATASET], ["push", DATASET, "lab", "-y"], ["trust", "key"]):
        said = lab.usr(*words).failed(code, 3)
        assert "hint: " in said.err
    assert lab.everything() == before
    doctor = lab.usr("remotes", "doctor", "--remote", "lab")
    assert doctor.status == 1
    assert "signing key       FAILED" in doctor.out


@pytest.mark.parametrize("text", ["[signing]\nkey = 3\n", "[signing\n"])
def test_settings_that_make_no_sense(lab, text):
    settings(lab, text)
    lab.usr("commit", DATASET).failed("config", 3)


@pytest.fixture
def agent(monkeypatch):
    """An empty agent."""
    program = shutil.which("ssh-agent")
    if program is None:
        pytest.skip("there is no ssh-agent")
    said = subprocess.run([program, "-s"], capture_output=True, text=True, check=True).stdout
    values = dict(
        part.split("=", 1) for line in said.splitlines() for part in line.split(";") if "=" in part
    )
    monkeypatch.setenv("SSH_AUTH_SOCK", values["SSH_AUTH_SOCK"])
    yield values["SSH_AUTH_SOCK"]
    os.kill(int(values["SSH_AGENT_PID"]), 15)


def encrypted_key(lab, keygen):
    path = lab.home / "locked"
    words = [keygen, "-q", "-t", "ed25519", "-N", "secret", "-C", "", "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def test_an_encrypted_key_needs_an_agent(lab, keygen):
    path = encrypted_key(lab, keygen)
    settings(lab, f'[signing]\nkey = "{path}"\n')
    said = lab.usr("commit", DATASET).failed("key-encrypted", 3)
    assert "ssh-add" in said.err


def add_to_agent(path):
    """Add a key whose passphrase is `secret`."""
    ask = path.parent / "ask"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o755)
    environment = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(path)], check=True, env=environment, stdin=-3)


@pytest.mark.parametrize("key", ["the file", "its public half", "agent"])
def test_an_agent_signs(lab, keygen, agent, key):
    path = encrypted_key(lab, keygen)
    named = {"the file": path, "its public half": f"{path}.pub", "agent": "agent"}[key]
    settings(lab, f'[signing]\nkey = "{named}"\n')
    said = lab.usr("commit", DATASET)
    assert said.status == 3, "the agent holds nothing yet"
    assert "ssh-add" in said.err
    add_to_agent(path)
    lab.usr("commit", DATASET).ok()
    [row] = lab.usr("log", DATASET, "--json").data
    assert row["signature"] == "good"


def test_an_agent_that_is_not_there(lab, monkeypatch):
    settings(lab, '[signing]\nkey = "agent"\n')
    lab.usr("commit", DATASET).failed("agent-unreachable", 3)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(lab.home / "nothing"))
    lab.usr("commit", DATASET).failed("agent-unreachable", 3)


# ── trust list and add ──────────────────────────────────────────────────────────────────
BAD_LINES = [
    (["--name", "bob", "--key", "/nonexistent"], "invalid-input"),
    (["--name", "bob", "--key", "ssh-ed25519 AAA"], "config"),
    (["--name", "two words", "--key", "KEY"], "invalid-input"),
    (["--name", "*", "--key", "KEY"], "invalid-input"),
]


@pytest.mark.parametrize(("words", "code"), BAD_LINES)
def test_signers_that_cannot_be_listed(lab, words, code):
    key = (lab.config / "usr" / "id_ed25519.pub").read_text().strip()
    lab.usr("trust", "add", *[key if word == "KEY" else word for word in words]).failed(code, 3)
    assert not (lab.root / ".usr" / "allowed_signers").exists()


def test_a_damaged_list_of_signers_is_named_by_line(synced):
    (synced.root / ".usr" / "allowed_signers").write_text("# mine\nada nonsense\n")
    said = synced.usr("trust", "list").failed("allowed-signers", 3)
    assert "line 2" in said.err
    (synced.far / "meta.md").write_text("more")
    synced.usr("pull", DATASET, "lab", "-y").failed("allowed-signers", 3)

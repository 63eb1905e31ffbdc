"""Remotes set up by a wizard and changed in place; the users' own YAML."""

from __future__ import annotations

import yaml

from support.lab import validate

INCUMBENT = """\
remotes:
  bu-scc:
    type: ssh
    host: scc1.bu.edu
    user: me
    base_dir: /project/lab/datasets
    batch_mode: true
    ssh_key_env: null
    repo_root: null
    local_repo_root: null
"""


def body(lab, name):
    return yaml.safe_load(lab.remotes.read_text())["remotes"][name]


def test_the_yaml_that_users_have_works_unchanged(lab):
    lab.remotes.write_text(INCUMBENT)
    said = lab.usr("remotes", "show", "bu-scc", "--json").ok()
    data = validate("remotes-show", said.out)
    assert (data["host"], data["user"]) == ("scc1.bu.edu", "me")
    assert lab.remotes.read_text() == INCUMBENT


def test_w29_the_wizard_makes_the_file_it_writes_to(lab):
    """W29: the wizard needed a file that nothing had made."""
    lab.remotes.unlink(missing_ok=True)
    said = lab.usr(
        "remotes", "wizard", "--preset", "bu-scc", "--user", "me", "--base-dir", "/project/x"
    ).ok()
    assert said.out.startswith("bu-scc is me@scc1.bu.edu:/project/x")
    assert "usr remotes doctor --remote bu-scc" in said.out
    assert body(lab, "bu-scc") == {
        "type": "ssh", "host": "scc1.bu.edu", "user": "me", "base_dir": "/project/x",
    }  # fmt: skip


def test_the_wizard_knows_the_transfer_node(lab):
    words = ["remotes", "wizard", "--preset", "bu-scc", "--name", "move", "--transfer-node"]
    said = lab.usr(*words, "--user", "me", "--base-dir", "/x", "--json").ok()
    data = validate("remotes-change", said.out)
    assert data["added"] == "move"
    assert body(lab, "move")["host"] == "scc-globus.bu.edu"


def test_without_a_terminal_the_wizard_asks_for_options(lab):
    before = lab.remotes.read_text()
    said = lab.usr("remotes", "wizard", "--preset", "bu-scc", "--user", "me")
    said.failed("usage", 2)
    assert "--base-dir" in said.err
    lab.usr("remotes", "wizard", "--transfer-node", "--user", "me").failed("usage", 2)
    assert lab.remotes.read_text() == before


def test_the_wizard_replaces_nothing_unasked(lab):
    lab.remotes.write_text(INCUMBENT)
    words = ["remotes", "wizard", "--preset", "bu-scc", "--user", "you", "--base-dir", "/y"]
    lab.usr(*words).failed("config", 3)
    assert lab.remotes.read_text() == INCUMBENT
    lab.usr(*words, "--overwrite").ok()
    assert body(lab, "bu-scc")["user"] == "you"


def test_a_setting_is_changed_and_the_others_stay(lab):
    lab.remotes.write_text(INCUMBENT)
    said = lab.usr("remotes", "set", "bu-scc", "--usr-command", "/opt/bin/usr", "--json").ok()
    assert validate("remotes-change", said.out)["changed"] == "bu-scc"
    found = body(lab, "bu-scc")
    assert found["usr_command"] == "/opt/bin/usr"
    assert (found["host"], found["user"]) == ("scc1.bu.edu", "me")
    assert lab.usr("remotes", "set", "bu-scc", "--port", "2222").ok().out == "port: None → 2222\n"


def test_a_change_of_nothing_is_refused(lab):
    lab.remotes.write_text(INCUMBENT)
    lab.usr("remotes", "set", "bu-scc").failed("invalid-input", 3)
    lab.usr("remotes", "set", "nolab", "--port", "1").failed("remote-not-found", 4)
    lab.usr("remotes", "set", "bu-scc", "--host", "-oProxyCommand=x").failed("config", 3)
    assert lab.remotes.read_text() == INCUMBENT


def test_a_folder_remote_is_the_same_folder_wherever_one_stands(lab, monkeypatch):
    monkeypatch.chdir(lab.home)
    (lab.home / "disk").mkdir()
    lab.usr("remotes", "add", "disk", "--type", "folder", "--base-dir", "disk").ok()
    monkeypatch.chdir("/")
    lab.usr("ls-remote", "disk").ok()
    assert str(lab.home / "disk") in lab.usr("remotes", "show", "disk").ok().out

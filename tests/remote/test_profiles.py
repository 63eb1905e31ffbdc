"""Remotes as people write them down: what is read, what is refused, what survives an edit."""

from __future__ import annotations

import pytest
import yaml

from usrstore.errors import ConfigError, RemoteNotFoundError, UsrError
from usrstore.remote import profiles
from usrstore.remote.profiles import Profile, add, find, load, parse, remove

OLD_STYLE = """
remotes:
  bu:
    type: ssh
    host: scc1.example.edu
    user: me
    base_dir: /projects/lab/usr
    batch_mode: false
    ssh_key_env: USR_SSH_KEY
    repo_root: /projects/lab/code
    local_repo_root: null
"""


def test_the_settings_that_people_have_are_read(tmp_path):
    path = tmp_path / "remotes.yaml"
    path.write_text(OLD_STYLE)
    profile = find(str(path), "bu")
    assert profile == Profile(
        "bu",
        host="scc1.example.edu",
        user="me",
        base_dir="/projects/lab/usr",
        batch_mode=False,
        ssh_key_env="USR_SSH_KEY",
        repo_root="/projects/lab/code",
    )
    assert profile.target == "me@scc1.example.edu"
    assert profile.place == "me@scc1.example.edu:/projects/lab/usr"


def test_ssh_is_what_a_remote_is_unless_it_says_otherwise():
    assert parse("r", {"host": "h", "base_dir": "/d"}, "f").type == "ssh"
    folder = parse("r", {"type": "folder", "base_dir": "/d"}, "f")
    assert folder.place == "/d"


def test_options_may_be_a_text_or_a_list():
    body = {"host": "h", "base_dir": "/d"}
    expected = ("-o", "Compression=no")
    assert parse("r", {**body, "ssh_options": "-o Compression=no"}, "f").ssh_options == expected
    assert parse("r", {**body, "ssh_options": list(expected)}, "f").ssh_options == expected


BAD = {
    "no map": (None, "not a map"),
    "a list": ([], "not a map"),
    "no host": ({"base_dir": "/d"}, "host is missing"),
    "no base_dir": ({"host": "h"}, "base_dir is missing"),
    "a folder without base_dir": ({"type": "folder"}, "base_dir is missing"),
    "an unknown type": ({"type": "ftp", "host": "h", "base_dir": "/d"}, "'ftp'"),
    "an unknown setting": ({"host": "h", "base_dir": "/d", "hots": "x"}, "hots"),
    "a host that is an option": ({"host": "-oProxyCommand=x", "base_dir": "/d"}, "host"),
    "a user that is an option": ({"host": "h", "user": "-x", "base_dir": "/d"}, "user"),
    "a host that is a number": ({"host": 7, "base_dir": "/d"}, "host must be text"),
    "a port of zero": ({"host": "h", "base_dir": "/d", "port": 0}, "port"),
    "a port too high": ({"host": "h", "base_dir": "/d", "port": 65536}, "port"),
    "a port that is true": ({"host": "h", "base_dir": "/d", "port": True}, "port"),
    "a port in words": ({"host": "h", "base_dir": "/d", "port": "22"}, "port"),
    "batch_mode in words": ({"host": "h", "base_dir": "/d", "batch_mode": "no"}, "batch_mode"),
    "options that are numbers": (
        {"host": "h", "base_dir": "/d", "ssh_options": [1]},
        "ssh_options",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_remote_with_a_mistake_is_refused_by_name(what):
    body, words = BAD[what]
    with pytest.raises(ConfigError) as caught:
        parse("r", body, "the-file")
    assert caught.value.message.startswith("the-file: remote 'r'")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["", "a/b", "-x", "a b", ".hidden", "a..b"])
def test_a_name_that_could_not_stand_in_a_ref_is_refused(name):
    with pytest.raises(UsrError):
        parse(name, {"host": "h", "base_dir": "/d"}, "f")


@pytest.mark.parametrize("text", ["", "{}", "remotes:", "remotes: {}"])
def test_a_file_without_remotes_has_none(tmp_path, text):
    path = tmp_path / "remotes.yaml"
    path.write_text(text)
    assert load(str(path)) == {}
    assert load(str(tmp_path / "missing.yaml")) == {}


@pytest.mark.parametrize("text", ["[", "- 1", "remotes: [1]", "remotes: text", "\t:", "\x00"])
def test_a_file_that_is_something_else_is_named(tmp_path, text):
    path = tmp_path / "remotes.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"remotes\.yaml"):
        load(str(path))


def test_an_unknown_remote_is_answered_with_the_known_ones(tmp_path):
    path = tmp_path / "remotes.yaml"
    path.write_text(OLD_STYLE)
    with pytest.raises(RemoteNotFoundError) as caught:
        find(str(path), "hpc")
    assert "bu" in caught.value.message
    assert "usr remotes add hpc" in caught.value.hint


def test_what_is_added_is_found_and_what_was_there_stays(tmp_path):
    path = tmp_path / "remotes.yaml"
    path.write_text(OLD_STYLE + "other: {kept: true}\n")
    new = Profile("hpc", host="login", base_dir="/scratch", port=2222, ssh_options=("-v",))
    add(str(path), new)
    assert find(str(path), "hpc") == new
    assert find(str(path), "bu").host == "scc1.example.edu"
    written = yaml.safe_load(path.read_text())
    assert written["other"] == {"kept": True}
    assert "user" not in written["remotes"]["hpc"]


def test_a_remote_is_not_overwritten_by_accident(tmp_path):
    path = str(tmp_path / "remotes.yaml")
    add(path, Profile("r", type="folder", base_dir="/one"))
    with pytest.raises(ConfigError, match="already"):
        add(path, Profile("r", type="folder", base_dir="/two"))
    assert find(path, "r").base_dir == "/one"
    add(path, Profile("r", type="folder", base_dir="/two"), overwrite=True)
    assert find(path, "r").base_dir == "/two"


def test_a_removed_remote_is_gone_and_only_that(tmp_path):
    path = str(tmp_path / "remotes.yaml")
    for name in ("a", "b"):
        add(path, Profile(name, type="folder", base_dir=f"/{name}"))
    remove(path, "a")
    assert list(profiles.load(path)) == ["b"]
    with pytest.raises(RemoteNotFoundError):
        remove(path, "a")

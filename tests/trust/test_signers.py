"""The allowed_signers file means to us what it means to `ssh-keygen -Y verify`."""

import calendar
import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import ConfigError, InvalidInputError
from usrstore.trust import sshsig
from usrstore.trust.keys import generate, load_private_key
from usrstore.trust.signers import AllowedSigners

KEY_FILE, KEY = generate()
OTHER = generate()[1]
LINE = KEY.line()
AT = calendar.timegm((2024, 7, 1, 12, 0, 0))


def find(text, *, key=KEY, namespace="usrstore", at_s=AT):
    return AllowedSigners.parse(text).find(key, namespace=namespace, at_s=at_s)


def test_a_file_is_written_as_it_was_read():
    text = f'# our lab\n\n  ada@lab\t{LINE} laptop\n*@lab,bob NAMESPACES="file,git" {LINE}\n#end\n'
    assert AllowedSigners.parse(text).text() == text
    assert AllowedSigners.parse("").text() == ""
    assert AllowedSigners.parse(LINE.join(["a ", ""])).text() == f"a {LINE}\n"


def test_a_new_signer_is_a_line_at_the_end_and_only_once():
    before = AllowedSigners.parse(f"# ours\nbob {OTHER.line()}\n")
    after = before.with_signer("ada@example.org", KEY)
    assert after.text() == before.text() + f'ada@example.org namespaces="usrstore" {LINE}\n'
    assert AllowedSigners.parse(after.text()) == after
    assert after.with_signer("ada@example.org", KEY) is after
    assert after.find(KEY, namespace="usrstore", at_s=None) == "ada@example.org"
    assert after.find(KEY, namespace="git", at_s=None) is None
    assert before.find(KEY, namespace="usrstore", at_s=None) is None


@pytest.mark.parametrize("name", ["", "a b", "a,b", "*", "a?", "!a", "#a", 'a"b', "a\nb", "a\\"])
def test_a_name_that_would_mean_something_else_is_refused(name):
    with pytest.raises(InvalidInputError):
        AllowedSigners().with_signer(name, KEY)


def test_the_first_line_that_holds_gives_the_name():
    text = f'a namespaces="git" {LINE}\nb valid-before="20200101Z" {LINE}\nc,d {LINE}\ne {LINE}\n'
    assert find(text) == "c"
    assert find(text, namespace="git") == "a"
    assert find(text, at_s=0) == "b"
    assert find(text, key=OTHER) is None


def test_principals_may_be_several_quoted_or_wild():
    assert find(f"ada@lab,bob@lab {LINE}") == "ada@lab"
    assert find(f"* {LINE}") == "*"
    assert find(f'"Ada L" {LINE}') == "Ada L"
    assert find(f"ada {LINE}\r\n") == "ada"


def test_a_line_with_limits_allows_nothing_at_an_unknown_time():
    limited = f'ada valid-after="20200101Z" {LINE}\n'
    assert find(limited) == "ada"
    assert find(limited, at_s=None) is None
    assert find(f"ada {LINE}", at_s=None) == "ada"


BAD = [
    "cert-authority {}",
    'namespaces="git",cert-authority {}',
    'CERT-AUTHORITY,namespaces="git" {}',
    "restrict {}",
    'colour="red" {}',
    "valid-after=20200101 {}",
    "namespaces {}",
    'namespaces="usrstore {}',
    'namespaces="usrstore", {}',
    'namespaces="a"valid-after="20200101" {}',
    'namespaces="a",namespaces="b" {}',
    'valid-after="2020010100" {}',
    'valid-after="20201301" {}',
    'valid-after="20200101T" {}',
    'valid-after="19700101Z" {}',
    'valid-after="" {}',
    'valid-after="20210101Z",valid-before="20200101Z" {}',
    'namespaces="usrstore"',
    "",
    "ssh-ed25519",
    "ssh-ed25519 AAAA",
    "ssh-dss AAAAB3NzaC1kc3MAAAAA",
    "ssh-ed25519-cert-v01@openssh.com AAAA",
]


@pytest.mark.parametrize("rest", BAD)
def test_a_line_that_cannot_be_honoured_is_named(rest):
    with pytest.raises(ConfigError, match="line 3") as caught:
        AllowedSigners.parse(f"# one\nada {LINE}\nbob {rest.format(LINE)}\n")
    assert caught.value.hint
    assert caught.value.code == "allowed-signers"


@pytest.mark.parametrize("principals", ["a,,b", ",", '"', '""', '"a', "!a,b", 'a"b c"'])
def test_principals_that_name_nobody_are_refused(principals):
    with pytest.raises(ConfigError, match="line 1"):
        AllowedSigners.parse(f"{principals} {LINE}\n")


OPTION = st.sampled_from(
    ['namespaces="', "valid-after=", '"20200101Z"', '"', ",", " ", "\\", "!", "*", "[", "\t", LINE]
)


@given(st.lists(OPTION | st.text(max_size=5), max_size=8).map("".join))
def test_random_text_raises_only_config_error(text):
    for prefix in ("", "ada ", 'ada namespaces="'):
        try:
            signers = AllowedSigners.parse(prefix + text)
        except ConfigError:
            continue
        signers.find(KEY, namespace="usrstore", at_s=AT)
        assert AllowedSigners.parse(signers.text()) == signers


# ssh-keygen is the judge


def openssh_allows(folder, options, *, at, zone="UTC"):
    (folder / "allowed").write_text(f"ada {options} {LINE}\n")
    blob = load_private_key(KEY_FILE).sign(b"m")
    (folder / "signature").write_text(sshsig.armor(blob))
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-I",
        "ada",
        "-n",
        "usrstore",
        "-O",
        f"verify-time={at}",
    ]
    command += ["-f", folder / "allowed", "-s", folder / "signature"]
    environment = {**os.environ, "TZ": zone}
    done = subprocess.run(command, input=b"m", capture_output=True, check=False, env=environment)
    return done.returncode == 0


@pytest.fixture
def local_zone(monkeypatch):
    def enter(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield enter
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("name", ["valid-after", "valid-before"])
@pytest.mark.parametrize(
    "text", ["20240701", "20240701Z", "202407010000", "20240701000000z", "20240701000000UTC"]
)
def test_a_time_means_what_openssh_says(text, name, zone, tmp_path, local_zone):
    options = f'{name}="{text}"'
    local_zone(zone)
    signers = AllowedSigners.parse(f"ada {options} {LINE}\n")
    (signer,) = signers.signers
    edge = signer.valid_after_s or signer.valid_before_s
    for at_s in (edge - 1, edge, edge + 1):
        at = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at_s))
        ours = signers.find(KEY, namespace="usrstore", at_s=at_s) is not None
        assert ours == openssh_allows(tmp_path, options, at=at, zone=zone)


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        ("usrstore", True),
        ("git,usrstore", True),
        ("usr*", True),
        ("*", True),
        ("usrst?re", True),
        ("usrst?", False),
        ("git", False),
        ("", False),
        ("!usrstore,*", False),
        ("*,!usr*", False),
        ("*,!git", True),
        ("!git", False),
        ("[u]srstore", False),
        ("USRSTORE", False),
    ],
)
def test_namespaces_mean_what_openssh_says(patterns, allowed, tmp_path):
    options = f'namespaces="{patterns}"'
    assert (find(f"ada {options} {LINE}") is not None) == allowed
    assert openssh_allows(tmp_path, options, at="20240701Z") == allowed

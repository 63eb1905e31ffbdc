"""A catalogue of what is wrong with remotes: the doctor names each, and the command that mends it.

Every row is a real misconfiguration of a real ssh, sshd, file system or store.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.lab import validate
from usrcli.drills import sshd

REMOTE = "bu-scc"


def config_with(link, *changes, top=()):
    """The ssh configuration with lines replaced, and lines before all others."""
    text = Path(link.config).read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = link.home / "ssh_config"
    path.write_text("\n".join(["Host *", *(f"  {line}" for line in top), text]))
    return ["-F", str(path)]


def key_of(link):
    return str(Path(link.config).parent / "client")


def with_key(link, path):
    return config_with(link, (f"IdentityFile {key_of(link)}\n", f"IdentityFile {path}\n"))


def script(link, text):
    link.profile(usr_command=link.script("usr-odd", f"#!/bin/sh\n{text}\n"))


# ── the catalogue: name → how it is brought about, the check that fails, what mends it ─────
def host_unknown(link):
    link.profile(ssh_options=["-o", "HostName=no-such-host.invalid", "-F", link.config])


def port_closed(link):
    """Nobody listens there, and nobody else can get it."""
    link.keep = socket.socket()
    link.keep.bind(("127.0.0.1", 0))
    link.profile(port=link.keep.getsockname()[1])


def network_silent(link):
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    link.keep = silent
    options = ["-o", "ConnectTimeout=1", "-F", link.config]
    link.environment["USR_SSH_COMMAND"] = f"ssh {' '.join(options)}"
    link.profile(port=silent.getsockname()[1])


def hangs_up(link):
    """A port whose program closes every connection, as a full sshd does."""
    closing = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import socket\ns=socket.create_server(('127.0.0.1',0))\n"
                "print(s.getsockname()[1],flush=True)\n"
                "for _ in range(9): s.accept()[0].close()"
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    link.keep = closing
    link.profile(port=int(closing.stdout.readline()))


def jump_host_closed(link):
    port = Path(link.config).read_text().partition("Port ")[2].split()[0]
    link.profile(
        ssh_options=["-F", link.config, "-o", (f"ProxyCommand=ssh -F {link.config} -p {port} -W "
                     "127.0.0.1:1 scc1")]
    )  # fmt: skip


def host_key_unknown(link):
    link.profile(ssh_options=["-F", link.config, "-o", "UserKnownHostsFile=/dev/null"])


def host_key_changed(link):
    other = link.home / "other-host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    known = (Path(link.config).parent / "known_hosts").read_text().split()[0]
    key = " ".join((link.home / "other-host.pub").read_text().split()[:2])
    hosts = link.home / "known_hosts"
    hosts.write_text(f"{known} {key}\n")
    link.profile(ssh_options=["-F", link.config, "-o", f"UserKnownHostsFile={hosts}"])


def key_refused(link):
    other = link.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    link.profile(ssh_options=with_key(link, other))


def key_exposed(link):
    copy = link.home / "exposed"
    copy.write_bytes(Path(key_of(link)).read_bytes())
    copy.chmod(0o644)
    link.profile(ssh_options=with_key(link, "none"), ssh_key_env="MY_KEY")
    link.environment["MY_KEY"] = str(copy)


def key_file_missing(link):
    link.profile(ssh_options=with_key(link, "none"), ssh_key_env="MY_KEY")
    link.environment["MY_KEY"] = str(link.home / "no-key")


def key_damaged(link):
    broken = link.home / "broken"
    broken.write_text("this is no key\n")
    broken.chmod(0o600)
    link.profile(ssh_options=with_key(link, "none"), ssh_key_env="MY_KEY")
    link.environment["MY_KEY"] = str(broken)


def ssh_config_broken(link):
    link.profile(ssh_options=config_with(link, top=["NoSuchOption yes"]))


def socket_path_too_long(link):
    path = f"ControlPath {link.home}/{'x' * 120}"
    link.profile(ssh_options=config_with(link, top=["ControlMaster auto", path]))


def no_ssh(link):
    link.environment["USR_SSH_COMMAND"] = "/nonexistent/ssh"


def no_usr(link):
    link.profile(usr_command="/nonexistent/usr")


def usr_not_executable(link):
    path = link.home / "usr-plain"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o644)
    link.profile(usr_command=str(path))


def usr_is_another_program(link):
    script(link, 'echo "Usage: usr"; echo "Error: No such command \'serve\'" >&2; exit 2')


def usr_is_broken(link):
    script(link, "echo \"ModuleNotFoundError: No module named 'usrstore'\" >&2; exit 1")


def usr_wants_another_python(link):
    link.profile(usr_command=link.script("usr-old", "#!/nonexistent/python\n"))


def usr_speaks_another_protocol(link):
    link.profile(
        usr_command=link.script(
            "usr-99",
            f"#!{sys.executable}\nimport sys\nfrom usrstore.remote.wire import MAGIC, "
            "StreamChannel, Wire\nchannel = StreamChannel(sys.stdin.buffer, sys.stdout.buffer)\n"
            'channel.write(MAGIC)\nWire(channel).send({"op": "hello", "protocol": 99, '
            '"tool": "usrstore 99"})\nsys.stdin.buffer.read()\n',
        )
    )


def no_shell(link):
    script(link, "echo 'This account is currently not available.' >&2; exit 1")


def home_full(link):
    script(link, "echo 'cannot create temp file: No space left on device' >&2; exit 1")


def nothing_but_sftp(link):
    script(link, "echo 'This service allows sftp connections only.'; exit 1")


def base_dir_missing(link):
    link.profile(base_dir=str(link.home / "missing"))


def base_dir_is_a_file(link):
    (link.home / "file").write_text("")
    link.profile(base_dir=str(link.home / "file"))


def served_read_only(link):
    link.profile(
        usr_command=link.script("usr-ro", f'#!/bin/sh\nexec {link.far_usr} "$@" --read-only\n')
    )


def remote_config_damaged(link):
    (link.there / ".usr").mkdir()
    (link.there / ".usr/config").write_text("trust = [\n")


def remote_trust_unknown(link):
    (link.there / ".usr").mkdir()
    (link.there / ".usr/config").write_text('[trust]\nmode = "maybe"\n')


def clock_wrong(link):
    text = (
        f"#!{sys.executable}\nimport sys, time\nreal = time.time_ns\n"
        "time.time_ns = lambda: real() + 7200 * 10**9\n"
        "from usrcli.main import main\nmain(sys.argv[1:])\n"
    )
    link.profile(usr_command=link.script("usr-late", text))


def older_usr(link):
    text = (
        f"#!{sys.executable}\nimport sys\nfrom usrstore import root\n"
        'root.TOOL = "usrstore 0.0.1"\nfrom usrcli.main import main\nmain(sys.argv[1:])\n'
    )
    link.profile(usr_command=link.script("usr-older", text))


def strict_without_signers(link):
    (link.root / ".usr/config").write_text('[trust]\nmode = "strict"\n')


def signers_damaged(link):
    (link.root / ".usr/allowed_signers").write_text("alice ssh-ed25519 nonsense\n")


def local_config_damaged(link):
    (link.root / ".usr/config").write_text("[trust\n")


def signing_key_missing(link):
    (link.root / ".usr/config").write_text('[signing]\nkey = "/nonexistent/key"\n')


def agent_missing(link):
    (link.root / ".usr/config").write_text('[signing]\nkey = "agent"\n')
    link.environment.pop("SSH_AUTH_SOCK", None)


def no_registry(link):
    (link.root / "registry.yaml").unlink()


FAILURES = {
    host_unknown: ("ssh", "check the host name: usr remotes show bu-scc"),
    port_closed: ("ssh", "ssh scc1 true"),
    network_silent: ("ssh", "join the network .*scc1"),
    hangs_up: ("ssh", "wait a little.*ssh scc1 true"),
    jump_host_closed: ("ssh", "ssh -v scc1 true"),
    host_key_unknown: ("ssh", "accept the host key once you know it"),
    host_key_changed: ("ssh", "ssh-keygen -R scc1"),
    key_refused: ("ssh", "ssh-copy-id scc1"),
    key_exposed: ("ssh key", "chmod 600 .*exposed"),
    key_file_missing: ("ssh key", "export MY_KEY="),
    key_damaged: ("ssh", "ssh-add .*broken"),
    ssh_config_broken: ("ssh config", "mend ~/.ssh/config"),
    socket_path_too_long: ("ssh", "shorten ControlPath"),
    no_ssh: ("ssh", "install openssh-client"),
    no_usr: ("usr", "ssh scc1 'pip install usrstore'"),
    usr_not_executable: ("usr", "chmod [+]x .*usr-plain"),
    usr_is_another_program: ("usr", "name ours with `usr_command`"),
    usr_is_broken: ("usr", "pip install --force-reinstall usrstore"),
    usr_wants_another_python: ("usr", "pip install"),
    usr_speaks_another_protocol: ("usr", "ssh scc1 'pip install -U usrstore'"),
    no_shell: ("shell", "ask whoever runs scc1 for a login shell"),
    home_full: ("shell", "ssh scc1 'quota -s; df -h ~'"),
    nothing_but_sftp: ("shell", "ForceCommand of `usr serve --stdio`"),
    base_dir_missing: ("base_dir", "ssh scc1 'mkdir -p .*/missing'"),
    base_dir_is_a_file: ("base_dir", "usr remotes set bu-scc --base-dir"),
    served_read_only: ("writable", "ask whoever serves it --read-only"),
    remote_config_damaged: ("remote config", "mend that file"),
    remote_trust_unknown: ("remote config", "there/.usr/config"),
    strict_without_signers: ("trust", "usr trust add --name WHO"),
    signers_damaged: ("trust", "mend line 1 of .*here/.usr/allowed_signers"),
    local_config_damaged: ("trust", "mend that file"),
    signing_key_missing: ("signing key", r"set \[signing\] key in .usr/config"),
    agent_missing: ("signing key", "ssh-add"),
}
WARNINGS = {
    clock_wrong: ("clock", "NTP"),
    older_usr: ("usr", "ssh scc1 'pip install usrstore==0.1.0'"),
    no_registry: ("registry", "usr init"),
}


def examined(link):
    said = link.usr("remotes", "doctor", "--remote", REMOTE, "--json")
    data = validate("remotes-doctor", said.out)
    assert data["healthy"] is (said.status == 0)
    return said.status, data["checks"], said.out


@pytest.fixture
def settled(link):
    yield link
    kept = getattr(link, "keep", None)
    if isinstance(kept, socket.socket):
        kept.close()
    elif kept is not None:
        kept.kill()
        kept.communicate()


@pytest.mark.parametrize("bring_about", FAILURES, ids=lambda f: f.__name__)
def test_the_doctor_names_what_fails_and_what_mends_it(settled, bring_about):
    check, remedy = FAILURES[bring_about]
    bring_about(settled)
    status, checks, text = examined(settled)
    assert status == 1, text
    failed = [c for c in checks if c["ok"] is False]
    assert [c["name"] for c in failed if re.fullmatch(check, c["name"])], text
    found = next(c for c in failed if re.fullmatch(check, c["name"]))
    assert re.search(remedy, found["remedy"]), found


@pytest.mark.parametrize("bring_about", WARNINGS, ids=lambda f: f.__name__)
def test_the_doctor_warns_of_what_does_not_stop_a_push(settled, bring_about):
    check, remedy = WARNINGS[bring_about]
    bring_about(settled)
    status, checks, text = examined(settled)
    found = next(c for c in checks if c["name"] == check)
    assert found["ok"] is None, text
    assert re.search(remedy, found["remedy"]), found
    assert status == 0, text


def test_a_second_factor_in_batch_mode(link, tmp_path):
    """AuthenticationMethods wants more than the key: only a person at a terminal has it."""
    lines = ["AuthenticationMethods publickey,keyboard-interactive"]
    lines.append("KbdInteractiveAuthentication yes")
    with sshd.running(str(tmp_path), extra=lines) as server:
        link.profile(ssh_options=["-F", server.config])
        status, checks, text = examined(link)
        assert status == 1
        found = next(c for c in checks if c["ok"] is False)
        assert found["name"] == "ssh", text
        assert found["remedy"] == f"usr remotes warm-auth --remote {REMOTE}"
        said = link.usr("pull", "ns/x", REMOTE, "-y").failed("ssh-failed", 9)
        assert f"hint: usr remotes warm-auth --remote {REMOTE}" in said.err


def test_an_usr_that_is_not_on_the_path_is_found(link):
    """The doctor looks where pip puts programs, and the command it prints mends the remote."""
    home = Path.home() / ".local" / "bin"
    place = home / "usr"
    if os.path.lexists(place):
        pytest.skip(f"{place} is somebody's own program")
    made = [folder for folder in (home.parent, home) if not folder.exists()]
    home.mkdir(parents=True, exist_ok=True)
    command = link.far_usr.split()
    place.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    place.chmod(0o755)
    try:
        link.profile(usr_command="usr-that-no-path-has")
        status, checks, text = examined(link)
        assert status == 1
        found = next(c for c in checks if c["ok"] is False)
        if f"it is at {place}" in found["detail"]:
            assert found["remedy"] == f"usr remotes set {REMOTE} --usr-command {place}"
            link.bash(found["remedy"].replace("usr ", f"{sys.executable} -m usrcli ", 1)).ok()
        else:  # another usr comes first in that account's login shell
            assert "usr remotes set" in found["remedy"], text
        assert link.usr("remotes", "show", REMOTE, "--json").ok()
    finally:
        place.unlink()
        for folder in reversed(made):
            folder.rmdir()


def test_a_healthy_remote_is_healthy(link):
    status, checks, text = examined(link)
    assert status == 0, text
    assert not [c for c in checks if c["ok"] is not True]
    plain = link.usr("remotes", "doctor", "--remote", REMOTE).ok()
    assert plain.lines[-1] == f"{REMOTE}: a push would work"


def test_the_catalogue_is_long_enough():
    assert len(FAILURES) + len(WARNINGS) >= 25

"""A place to measure in: folders, an sshd on loopback, two roots, and how each tool is called."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import delay
from measure import Sample, run

from usrcli.drills import sshd

HERE = os.path.dirname(os.path.abspath(__file__))
DATASET = "bench/x"
RCLONE = os.path.join(os.path.dirname(sys.executable), "rclone")
USR = os.path.join(os.path.dirname(sys.executable), "usr")
INFER = """\
  infer:
    columns:
    - {name: infer__embedding, type: list<float32>}
    - {name: infer__logits, type: list<float32>}
"""
"""The namespace of the benchmarks' columns, as it stands at the end of a new registry."""


@dataclass(frozen=True)
class Lab:
    """Where everything of one run lies.

    Attributes:
        home: removed at the end.
        ssh_config: how the loopback sshd is reached, as host `bench`.
        port: of that sshd.
        sshd: its process.
        quick: smaller data and fewer rounds.
        dvc: a dvc program to compare with, or None.
        sizes: megabytes of the datasets of `versus`, if they were named.
        patience: seconds that it gives a tool for one step, if they were named.
        write_docs: whether its page goes to docs.
        options: how the run was called.
        extra: more of the environment that commands see.
    """

    home: str
    ssh_config: str
    port: int
    sshd: int
    quick: bool
    dvc: str | None = None
    sizes: tuple[int, ...] = ()
    patience: float | None = None
    write_docs: bool = False
    options: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 3

    def path(self, *parts: str) -> str:
        return os.path.join(self.home, *parts)

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": self.path("user"),
            "XDG_CONFIG_HOME": self.path("user", "config"),
            "USR_REMOTES_PATH": self.path("remotes.yaml"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            "DVC_NO_ANALYTICS": "1",
            **self.extra,
        }

    def run(self, *argv: str, cwd: str | None = None) -> Sample:
        return run(argv, env=self.env, cwd=cwd)

    def shell(self, script: str, *words: str, ssh: Sequence[str] = ()) -> Sample:
        """Run a shell script with `$1`, `$2`, … and `$SSH`: ssh to the loopback, with options."""
        env = {**self.env, "SSH": shlex.join(["ssh", "-F", self.ssh_config, *ssh, "bench"])}
        return run(["sh", "-ec", script, "sh", *words], env=env)

    def make(self, kind: str, folder: str, **options: int | None) -> None:
        """Generate data with datasets.py, in a process of its own."""
        words = [w for k, v in options.items() if v for w in (f"--{k.replace('_', '-')}", str(v))]
        self.run(sys.executable, os.path.join(HERE, "datasets.py"), kind, folder, *words)

    def usr(self, root: str, *words: str, under: Sequence[str] = ()) -> Sample:
        """`usr`, itself run by a program that looks at it where one is named."""
        return self.run(*under, USR, "--root", root, *words)

    def sync(
        self, verb: str, root: str, remote: str, *words: str, under: Sequence[str] = ()
    ) -> Sample:
        """`usr push` or `usr pull`, with the bytes that it counted on the wire."""
        done, moved = self.audited(verb, root, remote, "TRANSFERRED", *words, under=under)
        return replace(done, wire=moved["sent"] + moved["received"])

    def audited(
        self,
        verb: str,
        root: str,
        remote: str,
        state: str,
        *words: str,
        under: Sequence[str] = (),
    ) -> tuple[Sample, dict[str, int]]:
        """The same, which must end in that state, and what its audit says of what moved."""
        audit = self.path("audit.json")
        told = ("-y", "--audit-json-out", audit, *words)
        done = self.usr(root, verb, DATASET, remote, *told, under=under)
        with open(audit, encoding="utf-8") as file:
            data = json.load(file)["data"]
        if data["transfer_state"] != state:
            raise RuntimeError(f"{verb} ended as {data['transfer_state']}\n{done.output}")
        return done, data["moved"]

    def rsync(self, source: str, target: str, *words: str, ssh: Sequence[str] = ()) -> Sample:
        """rsync -a of one folder's content into another; either may begin with `bench:`."""
        shell = shlex.join(["ssh", "-F", self.ssh_config, *ssh])
        done = self.run("rsync", "-a", "--stats", *words, "-e", shell, f"{source}/", f"{target}/")
        counts = re.findall(r"Total bytes (?:sent|received): ([\d,]+)", done.output)
        return replace(done, wire=sum(int(count.replace(",", "")) for count in counts))

    def synced(self, done: Sample, folder: str) -> Sample:
        """A transfer, and then `sync -f` of where it went: durable only now, as ours is at once."""
        return replace(done, seconds=done.seconds + self.run("sync", "-f", folder).seconds)

    def tar_push(self, source: str, target: str, ssh: Sequence[str] = ()) -> Sample:
        script = "tar -C \"$1\" -c . | $SSH \"mkdir -p '$2' && tar -C '$2' -x\""
        return replace(self.shell(script, source, target, ssh=ssh), wire=tar_size(source))

    def floor_push(self, source: str, target: str, ssh: Sequence[str] = ()) -> Sample:
        """What floor.py does: the hashes and the sync of a push over the same ssh, nothing else."""
        program = f"{shlex.quote(sys.executable)} {shlex.quote(os.path.join(HERE, 'floor.py'))}"
        script = f"{program} send \"$1\" | $SSH \"mkdir -p '$2' && {program} take '$2/all'\""
        return self.shell(script, source, target, ssh=ssh)

    def tar_pull(self, source: str, target: str) -> Sample:
        script = 'mkdir -p "$2"; $SSH "tar -C \'$1\' -c ." | tar -C "$2" -x'
        return replace(self.shell(script, source, target), wire=tar_size(source))

    def rclone_push(self, source: str, target: str) -> Sample:
        """rclone copy over the sftp of the loopback ssh, as it comes."""
        ssh = shlex.join(["ssh", "-F", self.ssh_config, "bench"])
        words = ["--sftp-ssh", ssh, "--config", "/dev/null"]
        return self.run(RCLONE, "copy", *words, source, f":sftp:{target}")

    def both_ends(self, act: Callable[[], Sample]) -> Sample:
        """A command, and the processor that the far end took for it as well, sshd included."""
        before = self._far_cpu()
        done = act()
        return replace(done, cpu_s=done.cpu_s + self._far_cpu() - before)

    def _far_cpu(self) -> float:
        """Seconds that ended children of the sshd took, once the last of them has ended."""
        children = f"/proc/{self.sshd}/task/{self.sshd}/children"
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with open(children, encoding="ascii") as file:
                if not file.read():
                    break
            time.sleep(0.01)
        with open(f"/proc/{self.sshd}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def far_away(self, milliseconds: float) -> Iterator[Lab]:
        """The same place, with that delay each way between it and its sshd."""
        with delay.running(self.port, milliseconds, self.path("carried.json")) as link:
            config = self.path(f"ssh_config-{link.port}")
            with open(self.ssh_config, encoding="utf-8") as file:
                lines = file.read().replace(f"Port {self.port}", f"Port {link.port}")
            known = os.path.join(os.path.dirname(self.ssh_config), "known_hosts")
            with open(known, "r+", encoding="utf-8") as file:
                key = file.readline().split(" ", 1)[1]
                file.seek(0, os.SEEK_END)
                file.write(f"[127.0.0.1]:{link.port} {key.strip()}\n")
            with open(config, "w", encoding="utf-8") as file:
                file.write(lines)
            yield replace(self, ssh_config=config, port=link.port)

    def add_remote(self, name: str, root: str, *, command: str = USR) -> None:
        """A remote over the loopback ssh; the far end has a configuration of its own, too."""
        far = f"env XDG_CONFIG_HOME={shlex.quote(self.path('far'))} {command}"
        self.run(
            *(USR, "remotes", "add", name, "--overwrite", "--host", "bench", "--base-dir", root),
            *("--usr-command", far, "--ssh-option=-F", f"--ssh-option={self.ssh_config}"),
        )

    def new_root(self, name: str) -> str:
        """A root without datasets, with whatever had its name removed."""
        root, model = self.path(name), self.path("model")
        if not os.path.isdir(model):
            self.run(USR, "init", model)
            with open(os.path.join(model, "registry.yaml"), "a", encoding="utf-8") as file:
                file.write(INFER)
        remove(root)
        os.makedirs(root)
        shutil.copy(os.path.join(model, "registry.yaml"), root)
        return root

    def forget(self, root: str) -> None:
        """Leave a root's datasets alone, but take all that the store knows of them."""
        remove(os.path.join(root, ".usr"))

    def set_aside(self, path: str) -> None:
        """Take a folder out of the way without deleting it.

        ext4 gives out no inode again for minutes after its file was deleted, and looks at every
        one of them whenever it makes a file: who comes after a deletion of thousands pays for it.
        """
        if os.path.isdir(path):
            os.makedirs(self.path("aside"), exist_ok=True)
            os.rename(path, tempfile.mktemp(dir=self.path("aside")))


def remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


def tar_size(folder: str) -> int:
    script = 'tar -C "$1" -c . | wc -c'
    return int(subprocess.check_output(["sh", "-c", script, "sh", folder]))


def files_of(folder: str) -> Iterator[str]:
    return (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


def folder_size(folder: str) -> int:
    return sum(map(os.path.getsize, files_of(folder)))


@contextlib.contextmanager
def opened(
    *,
    quick: bool,
    where: str | None,
    with_dvc: bool,
    **asked: Any,
) -> Iterator[Lab]:
    """A lab below `where`; gone when the block is left. `asked` is more of what a Lab has."""
    with tempfile.TemporaryDirectory(prefix="usr-bench-", dir=where) as home:
        os.makedirs(os.path.join(home, "user"))
        os.makedirs(os.path.join(home, "sshd"))
        sftp = ["Subsystem sftp internal-sftp"]
        with sshd.running(os.path.join(home, "sshd"), extra=sftp) as server:
            dvc = _find_dvc() if with_dvc else None
            yield Lab(home, server.config, server.port, server.pid, quick, dvc, **asked)


def _find_dvc() -> str | None:
    """dvc in an environment of its own, made once beside ours; None if it cannot be installed."""
    venv = os.path.join(sys.prefix, "dvc")
    program = os.path.join(venv, "bin", "dvc")
    if not os.path.exists(program):
        for words in (
            (sys.executable, "-m", "venv", venv),
            (os.path.join(venv, "bin", "pip"), "install", "-q", "dvc[ssh]"),
        ):
            if subprocess.run(words, capture_output=True, check=False).returncode:
                remove(venv)
                return None
    return program

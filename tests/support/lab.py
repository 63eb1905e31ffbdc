"""The command line at work: two roots, people with keys, and what a command printed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema

from support import datasets
from support.datasets import DATASET
from usrcli import main
from usrstore.trust import keys

USR = [sys.executable, "-m", "usrcli"]


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote where."""

    status: int
    out: str
    err: str

    @property
    def code(self):
        """The stable name of the error."""
        lines = [line for line in self.err.splitlines() if line.startswith("code: ")]
        assert len(lines) <= 1, self.err
        return lines[0].removeprefix("code: ") if lines else None

    @property
    def data(self):
        """The result of --json: one line, and nothing else on standard output."""
        body = json.loads(self.out)
        assert body["usr_output_version"] == 1
        return body["data"]

    @property
    def error(self):
        return json.loads(self.out)["error"]

    @property
    def lines(self):
        return self.out.splitlines()

    def ok(self):
        assert self.status == 0, self
        return self

    def failed(self, code, status):
        """It failed as every failure must: on standard error, with a code, without a traceback."""
        assert (self.code, self.status) == (code, status), self
        assert "Traceback" not in self.err, self.err
        return self


def sample_files():
    """A dataset with every section, and a primary that is a real table."""
    return {
        "records.parquet": datasets.sample_parquet(),
        ".events.log": datasets.events(1, 2),
        "meta.md": b"# sample\n",
        "_snapshots/2024-01-01.parquet": datasets.noise("snapshot", 3000),
        "_derived/infer/part-1.parquet": datasets.noise("part", 2000),
        "_artifacts/note.txt": b"a note\n",
    }


def make_config(path: Path) -> Path:
    """A person's configuration folder, with a signing key in it."""
    private, public = keys.generate()
    folder = path / "usr"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").touch(0o600)
    (folder / "id_ed25519").write_bytes(private)
    (folder / "id_ed25519.pub").write_text(f"{public.line()}\n")
    return path


def fingerprint(config: Path) -> str:
    from usrstore.trust.sshsig import PublicKey

    return PublicKey.parse((config / "usr" / "id_ed25519.pub").read_text()).fingerprint


@dataclass
class Lab:
    """A root `here`, a root `there` that is the folder remote `lab`, and one person.

    Commands run in this process unless it matters.
    """

    home: Path
    config: Path
    capsys: object
    patch: object
    root: Path = field(init=False)
    there: Path = field(init=False)
    folder: Path = field(init=False)
    far: Path = field(init=False)

    def __post_init__(self):
        self.root, self.there = self.home / "here", self.home / "there"
        self.folder, self.far = self.root / DATASET, self.there / DATASET
        for path in (self.root, self.there):
            path.mkdir()
        self.use(self.config)
        remotes = {"remotes": {"lab": {"type": "folder", "base_dir": str(self.there)}}}
        self.remotes = self.home / "remotes.yaml"
        self.remotes.write_text(json.dumps(remotes))
        self.patch.setenv("USR_REMOTES_PATH", str(self.remotes))
        self.patch.setenv("USR_ROOT", str(self.root))
        self.patch.setenv("USR_AUTHOR", "ada")
        for name in (
            "USR_SIGNING_KEY",
            "SSH_AUTH_SOCK",
            "NO_COLOR",
            "USR_SYNC_STRICT_BOOTSTRAP_ID",
        ):
            self.patch.delenv(name, raising=False)
        self.patch.chdir(self.home)

    def use(self, config: Path) -> None:
        """Act as the person whose configuration this is."""
        self.patch.setenv("XDG_CONFIG_HOME", str(config))

    def write(self, files=None) -> None:
        datasets.write(self.folder, sample_files() if files is None else files)

    def read(self):
        return datasets.read(self.folder)

    def usr(self, *words, stdin="") -> Said:
        """Run a command in this process."""
        words = [str(word) for word in words]
        self.capsys.readouterr()
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main.run(words)
        out, err = self.capsys.readouterr()
        assert "failed in a way it should not" not in err, err
        if out and ("--json" in words or "json" in words) and "events" not in words:
            validate(schema_of(words, out), out)
        return Said(status, out, err)

    def spawn(self, *words, **options) -> Said:
        """Run a command in a process of its own."""
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [*USR, *map(str, words)], capture_output=True, timeout=240, check=False, **options
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def raw(self, *words) -> bytes:
        """The bytes that a command writes to standard output."""
        done = subprocess.run(
            [*USR, *(str(word) for word in words)], stdout=subprocess.PIPE, check=True, timeout=240
        )
        return done.stdout

    def audit(self, path):
        """What --audit-json-out wrote."""
        return validate("audit", Path(path).read_text())

    def refs(self, root=None):
        said = self.usr("--root", root or self.root, "show-ref")
        return dict(reversed(line.split()) for line in said.out.splitlines())

    def everything(self):
        """Every file of both roots but the stores' caches, and where the refs stand."""
        return {
            str(root): (
                datasets.read(root / DATASET),
                datasets.outside(root),
                self.refs(root),
            )
            for root in (self.root, self.there)
        }


# ── JSON ────────────────────────────────────────────────────────────────────────────────
SCHEMAS = Path(__file__).parent.parent.parent / "docs" / "schemas"
_GROUPS = {
    ("bench", "transfer"): "bench-transfer",
    ("bundle", "create"): "bundle-create",
    ("bundle", "verify"): "bundle-verify",
    ("bundle", "import"): "pull",
    ("remotes", "list"): "remotes-list",
    ("remotes", "show"): "remotes-show",
    ("remotes", "add"): "remotes-change",
    ("remotes", "remove"): "remotes-change",
    ("remotes", "set"): "remotes-change",
    ("remotes", "wizard"): "remotes-change",
    ("remotes", "status"): "remotes-login",
    ("remotes", "warm-auth"): "remotes-login",
    ("remotes", "doctor"): "remotes-doctor",
    ("op", "log"): "op-log",
    ("op", "show"): "op-show",
    ("namespace", "register"): "namespace-register",
    ("namespace", "list"): "namespace-list",
    ("namespace", "show"): "namespace-show",
    ("events", "tail"): "events-tail",
    ("maintenance", "registry-freeze"): "registry-freeze",
    ("maintenance", "event-log-garden"): "event-log-garden",
    ("maintenance", "events-repair"): "events-repair",
    ("maintenance", "dedupe"): "dedupe",
    ("maintenance", "merge"): "maintenance-merge",
    ("maintenance", "overlay-compact"): "overlay-compact",
    ("maintenance", "overlay-remove"): "overlay-remove",
    ("maintenance", "overlay-refresh-metadata"): "overlay-refresh-metadata",
    ("maintenance", "overlay-project"): "overlay-project",
    ("delete",): "marks",
    ("restore",): "marks",
    ("state", "set"): "marks",
    ("state", "clear"): "marks",
    ("state", "get"): "state-get",
    ("trust", "list"): "trust-list",
    ("trust", "key"): "trust-key",
    ("trust", "add"): "trust-key",
    ("trust", "remove"): "trust-remove",
    ("trust", "show"): "trust-show",
    ("trust", "pin"): "trust-pin",
    ("trust", "unpin"): "trust-pin",
    ("trust", "accept"): "trust-pin",
}


def validate(name: str, text: str):
    """What a JSON output says, once it agrees with its schema; one line, nothing beside it."""
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    body = json.loads(text)
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(body)
    return body.get("data", body.get("error"))


def schema_of(words, text: str) -> str:
    """The schema that the output of a command with --json must agree with."""
    if text.startswith('{"usr_output_version":1,"error"'):
        return "error"
    plain = [word for word in words if not word.startswith("-")]
    while plain[0] not in _NAMES:
        plain = plain[1:]  # the values of --root and the like
    name = _GROUPS.get(tuple(plain[:2])) or _GROUPS.get(tuple(plain[:1]), plain[0])
    if name in ("diff", "pull", "push", "clone") or (name == "status" and len(plain) == 3):
        if text.startswith('{"usr_output_version":1,"data":{"dataset":') and '"tables":' in text:
            return "diff-rows"
        many = text.startswith('{"usr_output_version":1,"data":{"datasets":[')
        return "audit" if many or '"transfer_state"' in text else "diff-local"
    return name


_NAMES = {name for rows in main.COMMANDS.values() for name in rows}

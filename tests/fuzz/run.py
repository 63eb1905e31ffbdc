"""`./dev fuzz [SECONDS] [TARGET…]`: every target in turn under atheris, guided by coverage.

Each target runs in a process of its own, for its share of the time. New inputs that reached
new code go to a scratch folder; `--keep` puts some of them into `tests/fuzz/corpus`,
which plain pytest replays. A crash is shown, and kept in the scratch folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
_KEPT, _KEPT_BYTES = 24, 1024
sys.path.insert(0, str(HERE.parent))


def fuzz(name: str, arguments: list[str]) -> None:
    """One target until libFuzzer has had enough; never returns."""
    import atheris

    with atheris.instrument_imports(include=["usrstore"]):
        from fuzz import targets

    atheris.Setup([sys.argv[0], *arguments], lambda data: targets.run(name, data))
    atheris.Fuzz()


def _command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, __file__, "--one", name, "--", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    from fuzz import seeds, targets

    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=120, help="for all targets [120]")
    parser.add_argument("targets", nargs="*", help="only these")
    parser.add_argument("--keep", action="store_true", help="merge what is new into the corpus")
    asked = parser.parse_args()
    names = asked.targets or list(targets.TARGETS)
    scratch = Path(targets.scratch())
    total, found = 0, []
    for name in names:
        new, old = scratch / name, CORPUS / name
        new.mkdir(parents=True, exist_ok=True)
        old.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds.seeds(name)):
            (new / f"seed-{number}").write_bytes(data)
        done = _command(
            name,
            f"-max_total_time={max(1, asked.seconds // len(names))}",
            f"-max_len={targets.MAX_BYTES}",
            "-rss_limit_mb=1024",
            "-timeout=20",
            "-print_final_stats=1",
            f"-artifact_prefix={scratch}/{name}-",
            str(new),
            str(old),
        )
        executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        count = int(executed.group(1)) if executed else 0
        total += count
        covered = re.findall(r"cov: (\d+)", done.stderr)
        print(
            f"{name:<12}{count:>10} executions, {covered[-1] if covered else 0:>5} edges",
            flush=True,
        )
        if done.returncode:
            found.append(name)
            print(done.stdout[-3000:] + done.stderr[-2000:])
        if asked.keep:
            _merge(new, old)
    print(f"{total} executions of {len(names)} targets; {len(found)} with findings {found or ''}")
    return 1 if found else 0


def _merge(new: Path, old: Path) -> None:
    """A few of the inputs that each reached something new, of all sizes up to a KiB."""
    files = sorted(
        (path for path in new.iterdir() if path.stat().st_size <= _KEPT_BYTES),
        key=lambda path: path.stat().st_size,
    )
    for path in files[:: max(1, len(files) // _KEPT)]:
        data = path.read_bytes()
        (old / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[4:])
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())

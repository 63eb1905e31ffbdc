"""densegen: places motifs into random backgrounds and appends what holds the constraints.

which numbers of the run are there? → draw the others → rows, then their overlay part

A sequence follows from the seed and its number alone, so that a run which was killed between its
rows and their part makes the very same rows again, which are passed over, and then the part.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import usrstore
import usrstore.dataset

NAMESPACE = "densegen"
COLUMNS = "run:string,number:int64,motifs:list<string>,starts:list<int32>,gc:float64"
MOTIFS = {
    "lexA": "CTGTNNNNNNNNACAG",
    "cpxR": "GTAAANNNNNGTAAA",
    "fnr": "TTGATNNNNATCAA",
    "crp": "TGTGANNNNNNTCACA",
    "sigma70-35": "TTGACA",
    "sigma70-10": "TATAAT",
}
FORBIDDEN = ("GAATTC", "GGTCTC")
ATTEMPTS = 1000
STATUS = {
    usrstore.InvalidInputError: 3,
    usrstore.NotFoundError: 4,
    usrstore.ConflictError: 5,
}
_OTHER = str.maketrans("ACGTN", "TGCAN")


class Rules(NamedTuple):
    """What a sequence must hold."""

    length: int
    sites: int
    gc_min: float
    gc_max: float
    longest_run: int
    forbidden: tuple[str, ...]


class Design(NamedTuple):
    """A sequence and what was put where: names, a `-` behind those of the other strand."""

    sequence: str
    motifs: list[str]
    starts: list[int]

    @property
    def gc(self) -> float:
        return sum(letter in "GC" for letter in self.sequence) / len(self.sequence)


def turned(pattern: str) -> str:
    """The other strand, read in its own direction."""
    return pattern.translate(_OTHER)[::-1]


def places(pattern: str, sequence: str) -> list[int]:
    """Where a pattern begins; matches may overlap."""
    letters = pattern.replace("N", "[ACGT]")
    return [found.start() for found in re.finditer(f"(?={letters})", sequence)]


def draw(rng: random.Random, motifs: Mapping[str, str], rules: Rules) -> Design | None:
    """Sites in a random order, at random places that do not overlap, on a random background."""
    names = rng.choices(sorted(motifs), k=rules.sites)
    strands = [rng.random() < 0.5 for _ in names]
    patterns = [turned(motifs[n]) if t else motifs[n] for n, t in zip(names, strands, strict=True)]
    free = rules.length - sum(map(len, patterns))
    if free < 0:
        return None
    cuts = sorted(rng.randint(0, free) for _ in names)  # background letters before each site
    letters = rng.choices("ACGT", k=rules.length)
    starts, used = [], 0
    for cut, pattern in zip(cuts, patterns, strict=True):
        start = cut + used
        for at, letter in enumerate(pattern, start):
            if letter != "N":
                letters[at] = letter
        starts.append(start)
        used += len(pattern)
    shown = [name + ("-" if strand else "") for name, strand in zip(names, strands, strict=True)]
    return Design("".join(letters), shown, starts)


def refused(design: Design, motifs: Mapping[str, str], rules: Rules) -> str | None:
    """The rule that a design breaks."""
    sequence = design.sequence
    if not rules.gc_min <= design.gc <= rules.gc_max:
        return "share of G and C"
    if re.search(rf"(.)\1{{{rules.longest_run}}}", sequence):
        return "a letter that repeats"
    for pattern in rules.forbidden:
        if places(pattern, sequence) or places(turned(pattern), sequence):
            return f"the forbidden pattern {pattern}"
    meant = {
        (start, len(motifs[name.removesuffix("-")]))
        for name, start in zip(design.motifs, design.starts, strict=True)
    }
    for name, pattern in motifs.items():
        for strand in {pattern, turned(pattern)}:
            if any((at, len(strand)) not in meant for at in places(strand, sequence)):
                return f"a second {name}"
    return None


def design(seed: int, number: int, motifs: Mapping[str, str], rules: Rules) -> Design:
    """Sequence `number` of a run: the first drawn that holds the rules.

    Raises:
        InvalidInputError: none of a thousand did.
    """
    rng = random.Random(f"{seed}/{number}")  # noqa: S311  designs, not secrets
    why: Counter[str] = Counter()
    for _ in range(ATTEMPTS):
        made = draw(rng, motifs, rules)
        broken = "sites that are longer than the sequence"
        if made is not None:
            broken = refused(made, motifs, rules) or ""
            if not broken:
                return made
        why[broken] += 1
    rule, count = why.most_common(1)[0]
    raise usrstore.InvalidInputError(
        f"no sequence of {ATTEMPTS} holds the rules; {count} broke: {rule}",
        hint="a longer --length, fewer --sites, or a wider --gc-min and --gc-max",
    )


# ── the run ─────────────────────────────────────────────────────────────────────────────
def missing(table: usrstore.dataset.Dataset, run: str, count: int) -> list[int]:
    """The numbers of a run that have no overlay row yet."""
    there: set[int] = set()
    columns = [f"{NAMESPACE}__run", f"{NAMESPACE}__number"]
    if set(columns) <= set(table.schema.names):
        for batch in table.scan(columns):
            names, numbers = (column.to_pylist() for column in batch.columns)
            there.update(n for name, n in zip(names, numbers, strict=True) if name == run)
    return [number for number in range(count) if number not in there]


def batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def run(words: argparse.Namespace, motifs: Mapping[str, str], rules: Rules) -> int:
    actor = {
        "tool": os.environ.get("USR_ACTOR_TOOL") or "densegen",
        "run_id": os.environ.get("USR_ACTOR_RUN_ID") or words.run,
        "host": os.uname().nodename,
    }
    try:
        table = usrstore.dataset.open(words.root, words.usr, actor)
    except usrstore.NotFoundError:
        if not words.create:
            raise
        table = usrstore.dataset.create(words.root, words.usr, actor, source="densegen")
    table.register(NAMESPACE, COLUMNS, why="designs: which motifs, where")
    todo = missing(table, words.run, words.count)
    for numbers in batches(todo, words.batch):
        designs = {number: design(words.seed, number, motifs, rules) for number in numbers}
        table.add_sequences(
            [{"sequence": made.sequence} for made in designs.values()],
            source=f"densegen {words.run}",
            skip_known=True,
        )
        table.write_overlay_part(list(rows(words.run, designs)), NAMESPACE)
        print(f"densegen: {numbers[-1] + 1} of {words.count}", file=sys.stderr)
    print(f"{table.name}: {len(todo)} new of {words.count} sequences of {words.run}")
    return 0


def rows(name: str, designs: Mapping[int, Design]) -> Iterator[dict[str, Any]]:
    for number, made in designs.items():
        yield {
            "id": usrstore.dataset.row_id(made.sequence),
            "run": name,
            "number": number,
            "motifs": made.motifs,
            "starts": made.starts,
            "gc": made.gc,
        }


# ── the command line ────────────────────────────────────────────────────────────────────
def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Mapping[str, str], Rules]:
    parser = argparse.ArgumentParser(prog="densegen", description=__doc__.splitlines()[0])
    verb = parser.add_subparsers(dest="verb", required=True).add_parser(
        "run", help="make sequences"
    )
    verb.add_argument("--usr", metavar="DATASET", required=True, help="the dataset")
    verb.add_argument("--root", default=os.environ.get("USR_ROOT"), help="or USR_ROOT")
    verb.add_argument("--create", action="store_true", help="make the dataset if there is none")
    verb.add_argument("--count", type=int, default=100, help="sequences of this run")
    verb.add_argument("--length", type=int, default=80)
    verb.add_argument("--sites", type=int, default=3, help="motifs a sequence")
    verb.add_argument("--motifs", metavar="FILE", help="JSON: names and patterns of A C G T N")
    verb.add_argument("--seed", type=int, default=1)
    verb.add_argument("--run", help="the name of the run; by default that of its seed")
    verb.add_argument("--batch", type=int, default=200, help="sequences an append")
    verb.add_argument("--gc-min", type=float, default=0.35)
    verb.add_argument("--gc-max", type=float, default=0.65)
    verb.add_argument("--longest-run", type=int, default=6)
    verb.add_argument("--forbid", nargs="*", default=FORBIDDEN, metavar="PATTERN")
    words = parser.parse_args(argv)
    if not words.root:
        parser.error("no root: give --root DIR, or set USR_ROOT")
    if min(words.length, words.batch, words.longest_run) < 1 or min(words.count, words.sites) < 0:
        parser.error("--length, --batch and --longest-run must be 1 or more, --count, --sites 0")
    words.run = words.run or f"seed-{words.seed}"
    motifs = MOTIFS
    if words.motifs:
        try:
            with open(words.motifs, encoding="utf-8") as file:
                motifs = json.load(file)
        except (OSError, ValueError) as exc:
            parser.error(f"--motifs {words.motifs}: {exc}")
    patterns = [*motifs.values(), *words.forbid] if isinstance(motifs, dict) else [None]
    if not motifs or not all(isinstance(p, str) and re.fullmatch("[ACGTN]+", p) for p in patterns):
        parser.error("motifs are names with patterns of A C G T N, and so is what is forbidden")
    rules = Rules(
        words.length, words.sites, words.gc_min, words.gc_max, words.longest_run,
        tuple(words.forbid),
    )  # fmt: skip
    return words, motifs, rules


def main(argv: Sequence[str] | None = None) -> int:
    words, motifs, rules = parse(sys.argv[1:] if argv is None else argv)
    try:
        return run(words, motifs, rules)
    except usrstore.UsrError as error:
        print(f"error: {error.message}\ncode: {error.code}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 1)


if __name__ == "__main__":
    sys.exit(main())

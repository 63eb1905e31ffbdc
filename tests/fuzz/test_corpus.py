"""What fuzzing found worth keeping, replayed: every input, every target, only declared errors.

`./dev fuzz` looks further; here the saved inputs and small mutations of the good ones are run,
without any instrument.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz import seeds, targets

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.spec("T-8")
@pytest.mark.parametrize("name", targets.TARGETS)
def test_saved_inputs_let_only_declared_errors_out(name):
    files = sorted((CORPUS / name).iterdir())
    assert files
    for path in files:
        targets.run(name, path.read_bytes())
    print(f"{name}: {len(files)} executions")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_good_inputs_are_taken_for_good(name):
    taken = [targets.run(name, data) for data in seeds.seeds(name)]
    assert any(taken), name


@pytest.mark.parametrize("name", targets.TARGETS)
def test_good_inputs_with_a_few_false_bytes_let_only_declared_errors_out(name):
    rng, count = random.Random(name), 0
    for data in seeds.seeds(name):
        for _ in range(60):
            altered = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(altered) + 1)
                altered[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 3))
            targets.run(name, bytes(altered))
            count += 1
    print(f"{name}: {count} executions")


def test_every_target_has_a_corpus_and_all_of_it_is_small():
    assert {path.name for path in CORPUS.iterdir()} == set(targets.TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 1 << 20


def test_a_record_of_collections_has_one_spelling():
    """Found by fuzzing: an empty map where a list belongs was read as an empty list."""
    from usrstore.errors import DecodeError
    from usrstore.odb.docket import Entry

    good = Entry(2).encode()
    assert Entry.decode(good) == Entry(2)
    assert good.endswith(b"\x90\x90")
    with pytest.raises(DecodeError):
        Entry.decode(good[:-1] + b"\x80")

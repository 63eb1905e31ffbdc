"""The base table: seven columns, ids that are hashes, alphabets, and every problem at once."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.dataset import schema
from usrstore.dataset.schema import RowProblems, record_id, sequence_problem
from usrstore.errors import InvalidInputError


def test_the_seven_columns_are_these_in_this_order():
    made = schema.base_schema()
    assert [(field.name, str(field.type)) for field in made] == [
        ("id", "string"),
        ("bio_type", "string"),
        ("sequence", "string"),
        ("alphabet", "string"),
        ("length", "int32"),
        ("source", "string"),
        ("created_at", "timestamp[us, tz=UTC]"),
    ]
    assert all(field.nullable for field in made)
    assert schema.schema_problems(made) == []


def test_an_id_is_the_sha1_of_type_and_trimmed_sequence():
    assert record_id("dna", " ACGT\n") == hashlib.sha1(b"dna|ACGT").hexdigest()
    assert record_id("dna", "acgt") != record_id("dna", "ACGT"), "case is preserved"
    assert record_id("rna", "ACGU") != record_id("dna", "ACGU")


@given(st.text(), st.text(alphabet=" \t\n"))
def test_blanks_around_a_sequence_are_no_part_of_its_id(sequence, blanks):
    assert record_id("protein", blanks + sequence + blanks) == record_id("protein", sequence)


@pytest.mark.parametrize("alphabet", schema.ALPHABETS)
def test_letters_of_an_alphabet_in_both_cases_and_no_others(alphabet):
    bio_type, letters = schema.ALPHABETS[alphabet]
    assert sequence_problem(letters + letters.lower(), bio_type, alphabet) is None
    for stray in set("ABCDEFGHIJKLMNOPQRSTUVWXYZ-* ") - set(letters):
        column, _, reason = sequence_problem(f"{letters}{stray}", bio_type, alphabet)
        assert column == "sequence"
        assert f"letter {len(letters) + 1}" in reason


def test_bio_type_and_alphabet_must_be_known_and_fit():
    assert sequence_problem("ACGT", "tna", "dna_4")[0] == "bio_type"
    assert sequence_problem("ACGT", "dna", "dna_9")[0] == "alphabet"
    assert "not of rna" in sequence_problem("ACGT", "rna", "dna_4")[2]
    assert sequence_problem("", "dna", "dna_4")[0] == "sequence"
    assert sequence_problem(None, "dna", "dna_4")[0] == "sequence"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.remove(2), "missing: sequence"),
        (lambda s: pa.schema([s.field(1), s.field(0), *list(s)[2:]]), "in this order"),
        (lambda s: s.set(4, pa.field("length", pa.int64())), "length is int64, not int32"),
        (lambda s: s.set(6, pa.field("created_at", pa.timestamp("us"))), "timestamp[us], not"),
        (lambda s: s.append(pa.field("score", pa.int8())), "belongs to no namespace"),
        (lambda s: s.append(pa.field("id", pa.string())), "id comes twice"),
    ],
)
def test_what_keeps_a_table_from_being_a_base_table_is_named(change, word):
    assert any(word in problem for problem in schema.schema_problems(change(schema.base_schema())))


def test_columns_of_namespaces_may_follow():
    more = schema.base_schema().append(pa.field("infer__score", pa.float32()))
    assert schema.schema_problems(more) == []


def test_all_problems_are_counted_and_the_first_are_shown():
    problems = RowProblems()
    problems.check("nothing")
    for row in range(1, 31):
        problems.add(row, "sequence", "X" * 100, "no such letter")
    with pytest.raises(InvalidInputError) as caught:
        problems.check("rows.csv")
    lines = caught.value.message.splitlines()
    assert lines[0] == "rows.csv has 30 problems; nothing was changed:"
    assert lines[1].startswith("  row 1, sequence = 'XXX")
    assert lines[-1] == "  … and 10 more"
    assert len(lines) == 22
    assert max(map(len, lines)) < 100

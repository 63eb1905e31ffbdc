"""Namespaces: prefixes, reserved names, and hashes that other tools compute alike."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from usrstore.dataset import namespaces, registry
from usrstore.dataset.namespaces import Column, Namespace, contract_hash, load, make, registry_hash
from usrstore.errors import RegistryError


def with_namespace(*made):
    bodies = {namespace.name: namespace.to_yaml() for namespace in made}
    return registry.text({**registry.EMPTY["namespaces"], **bodies})


def test_a_new_root_has_the_reserved_namespace_as_every_reader_expects_it():
    body = yaml.safe_load(registry.initial())["namespaces"]["usr_state"]
    assert [(c["name"], c["type"]) for c in body["columns"]] == [
        ("usr_state__masked", "bool"),
        ("usr_state__qc_status", "string"),
        ("usr_state__split", "string"),
        ("usr_state__supersedes", "string"),
        ("usr_state__lineage", "list<string>"),
    ]
    assert list(load(registry.initial(), "it")) == ["usr_state"]


def test_columns_get_the_prefix_of_their_namespace_and_keep_their_order():
    made = make("infer", "score:float, infer__at:timestamp[us,UTC],s:struct<a:int8,b:string>")
    assert made.columns == (
        Column("infer__score", "float32"),
        Column("infer__at", "timestamp[us, UTC]"),
        Column("infer__s", "struct<a:int8,b:string>"),
    )


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("usr_state", "a:int8"), ("usr", "a:int8"), ("", "a:int8"), ("a__b", "a:int8"),
        ("a_", "a:int8"), ("1a", "a:int8"), ("a-b", "a:int8"), ("infer", "annot__x:int8"),
        ("infer", "x:int8,infer__x:int8"), ("infer", "infer__:int8"), ("infer", "x:text"),
    ],
)  # fmt: skip
def test_what_is_no_namespace_is_refused(name, columns):
    with pytest.raises(RegistryError):
        make(name, columns)


def test_the_hashes_are_those_of_canonical_yaml():
    infer = Namespace("infer", (Column("infer__b", "int8"), Column("infer__a", "string")), "o", "d")
    data = with_namespace(infer)
    text = yaml.safe_dump(yaml.safe_load(data), sort_keys=True)
    assert registry_hash(data) == hashlib.sha256(text.encode()).hexdigest()
    body = {
        "namespace": "infer",
        "columns": [
            {"name": "infer__b", "type": "int8"},
            {"name": "infer__a", "type": "string"},
        ],
    }
    text = yaml.safe_dump(body, sort_keys=True)
    assert contract_hash(infer) == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_keys_is_no_part_of_a_registry_the_order_of_columns_is():
    one = Namespace("infer", (Column("infer__b", "int8"), Column("infer__a", "string")))
    other = Namespace("infer", one.columns[::-1], "someone", "prose")
    data = with_namespace(one)
    shuffled = yaml.safe_dump(yaml.safe_load(data), sort_keys=False, default_flow_style=True)
    assert registry_hash(shuffled.encode()) == registry_hash(data)
    assert namespaces.canonical(shuffled.encode()) == data
    assert contract_hash(one) != contract_hash(other)
    assert contract_hash(one) == contract_hash(Namespace("infer", one.columns, "x", "y"))


def test_what_is_written_is_read_again():
    infer = Namespace("infer", (Column("infer__b", "int8"),), "ada", "logits")
    assert load(with_namespace(infer), "it")["infer"] == infer


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"infer": {"columns": "x"}}, "needs a list"),
        ({"infer": {"columns": [{"name": "x", "type": "int8"}]}}, "does not begin with infer__"),
        ({"infer": {"columns": [{"name": "infer__x", "type": "int"}]}}, "is no type"),
        ({"infer": {"columns": [{"name": "infer__x", "type": "int8"}] * 2}}, "comes twice"),
        ({"usr_state": {"columns": []}}, "usr_state"),
    ],
)
def test_all_that_is_wrong_with_a_registry_is_named(body, word):
    data = registry.text({**registry.EMPTY["namespaces"], **body})
    with pytest.raises(RegistryError, match=word):
        load(data, "registry.yaml")


def test_a_registry_without_the_reserved_namespace_is_refused():
    with pytest.raises(RegistryError, match="reserved namespace is missing"):
        load(registry.text({}), "registry.yaml")

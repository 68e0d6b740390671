"""What callers may use as names and amounts."""

import pytest

from ledger.errors import InvalidError
from ledger.identifiers import MAX_IDENTIFIER_CHARACTERS, MAX_INTEGER, identifier, quantity


@pytest.mark.parametrize("text", ["A", "A" * MAX_IDENTIFIER_CHARACTERS, "a b", "é€漢𝕬", "1"])
def test_a_name_is_taken_as_it_is(text: str):
    assert identifier(text, "sku") == text


def test_a_name_is_trimmed_before_it_is_measured():
    assert identifier(" " + "A" * MAX_IDENTIFIER_CHARACTERS + "\t", "sku") == "A" * MAX_IDENTIFIER_CHARACTERS


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("", "must not be empty"),
        (" \t", "must not be empty"),
        ("A" * (MAX_IDENTIFIER_CHARACTERS + 1), "must have at most 100 characters"),
        ("a/b", "must not hold '/' or control characters"),
        ("a\x00b", "must not hold '/' or control characters"),
    ],
)
def test_a_name_that_cannot_be_is_refused_under_its_member(text: str, must: str):
    with pytest.raises(InvalidError) as refused:
        identifier(text, "sn")

    assert refused.value.members == {"errors": {"sn": must}}


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("10", 10), (str(MAX_INTEGER), MAX_INTEGER)])
def test_a_quantity_is_a_whole_number_from_one(text: str, number: int):
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["0", "", "-1", "1.0", "x", "１", str(MAX_INTEGER + 1), "1" * 17])
def test_another_quantity_is_refused(text: str):
    with pytest.raises(InvalidError):
        quantity(text)

from __future__ import annotations

import math
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from besom.sweep.space.overrides import to_overrides, to_text

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
WORDS = {"null", "true", "false", "inf", "nan"}
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda key: key not in WORDS)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def parsed(text: str) -> Any:
    (override,) = OverridesParser.create().parse_overrides([f"key={text}"])
    return override.value()


@given(VALUES)
def test_hydra_reads_the_text_as_the_same_value_of_the_same_type(value: Any):
    assert repr(parsed(to_text(value))) == repr(value)


@pytest.mark.parametrize("word", ["null", "True", "FALSE", "inf", "NaN", "", "1e-3", "-5", "a,b", "it's", "é", "a\\"])
def test_text_that_hydra_would_read_as_something_else_is_quoted(word: str):
    assert to_text(word)[0] == "'"
    assert parsed(to_text(word)) == word


def test_a_plain_word_is_not_quoted():
    assert to_overrides({"model": "mlp_classifier", "+trainer.limit": 0.5}) == [
        "model=mlp_classifier",
        "+trainer.limit=0.5",
    ]


def test_nan_stays_nan():
    assert math.isnan(parsed(to_text(math.nan)))

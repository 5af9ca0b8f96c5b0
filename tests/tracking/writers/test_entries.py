from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name
from omegaconf import OmegaConf

from besom.tracking.writers.entries import as_markdown, config_text, tags_about, to_key

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["1e-3", "1_000", "yes", "null", "~", "0x1f", "nan", "1:30", "${oc.env:HOME}", "a: b", "a\nb\n"])
)  # fmt: skip
NODES = st.recursive(SCALARS, lambda node: st.lists(node, max_size=3) | st.dictionaries(st.text(), node, max_size=3))


class Color(Enum):
    RED = 1


@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1), NODES, max_size=4))
def test_a_config_is_read_back_as_it_was(config: dict[str, Any]):
    assert yaml.safe_load(config_text(config)) == config


def test_a_text_that_looks_like_a_number_stays_a_text_and_lists_are_spelled_out_twice():
    layers = [1, 2]
    text = config_text({"a": "1e-3", "b": 1e-5, "first": layers, "second": layers})
    assert text == "a: '1e-3'\nb: 1.0e-05\nfirst:\n- 1\n- 2\nsecond:\n- 1\n- 2\n"


@pytest.mark.parametrize("value", [Color.RED, Path("/data"), b"bytes"])
def test_what_only_omegaconf_can_write_is_written_by_it(value: Any):
    assert config_text({"a": value}) == OmegaConf.to_yaml(OmegaConf.create({"a": value}))


def test_a_description_shows_what_a_failure_says_and_fetches_nothing():
    said = as_markdown('ValueError: <img src="http://evil.example/x.png"> ![x](http://evil.example) **b** | `c`\n# d')
    assert said.startswith("ValueError: &lt;img src=")
    assert "!\\[x\\](" in said
    assert "\\*\\*b\\*\\* \\| \\`c\\` \\# d" in said


def test_what_was_decided_of_a_tables_columns_is_a_tag():
    about = {"columns": ["columns: numbers a; left out b; target y (regression)", "left out: 1 of 9 rows"]}
    assert tags_about(about) == {"besom.columns": "\n".join(about["columns"])}


@given(st.text() | st.text("./a +:@") | st.text("./a", min_size=245, max_size=260))
def test_any_name_becomes_a_key_that_mlflow_takes(name: str):
    key = to_key(name)
    _validate_metric_name(key)
    assert len(key) <= 250
    assert to_key(key) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val//acc", "val/acc"),
        ("loss/", "loss"),
        ("", "_"),
        ("../x", "__/x"),
        ("acc@5", "acc_5"),
        ("val/acc", "val/acc"),
    ],
)
def test_a_key_stays_as_near_to_its_name_as_mlflow_allows(name: str, key: str):
    assert to_key(name) == key

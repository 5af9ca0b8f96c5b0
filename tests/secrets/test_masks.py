from __future__ import annotations

import io
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from besom.errors import TrialFailed
from besom.secrets import masks
from besom.secrets.forms import is_secret
from besom.secrets.masks import (
    hidden,
    hidden_in,
    hidden_override,
    hide_in_output,
    mask,
    masked_override,
    missing_variables,
    without_secrets,
)
from besom.workers.messages import Blame, Failure


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_seen", {})


KEY = "-----BEGIN RSA PRIVATE KEY-----\n+MIIEpAIBAAKCAQEA\n+-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@db/mlflow", "postgresql://me:***@db/mlflow"),
        ('+password = "sesame1"', '+password = "***"'),
        ("+    api_key: str = 'abcdef'", "+    api_key: str = '***'"),
        ('+{"client_secret": "abcdef"}', '+{"client_secret": "***"}'),
        ("+FOO_TOKEN=hunter2hunter2\n+next", "+FOO_TOKEN=***\n+next"),
        ("+aws_secret_access_key: abc/def+ghi1", "+aws_secret_access_key: ***"),
        ('+headers = {"Authorization": "Bearer abc.def-ghi"}', '+headers = {"Authorization": "Bearer ***"}'),
        (f"+run(ghp_{'a' * 36})", "+run(***)"),
        (f"+{KEY}", "+-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----"),
    ],
)
def test_what_is_written_like_a_secret_is_masked(text: str, shown: str):
    assert without_secrets(text, {}) == shown


@pytest.mark.parametrize(
    "text",
    [
        '+tokenizer = "bert-base-uncased"',
        '+pad_token = "<pad>"',
        "+tokens = model(x2)",
        "+tokens = tokens + more_tokens",
        "+max_tokens: 4096",
        "+def read(token: str, key: int) -> None:",
        "+secret = os.environ['SECRET']",
        "+see https://example.org/a:b and me@example.org",
    ],
)
def test_code_that_only_speaks_of_secrets_stays_as_it_is(text: str):
    assert without_secrets(text, {}) == text


def test_values_of_variables_with_secret_names_are_masked_wherever_they_stand():
    environment = {
        "FOO_TOKEN": "hunter2hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2", "USE_AUTH": "true", "HOME": "/home/me",
        "DATABASE": "mysql://me:sesame@db/runs",
    }  # fmt: skip
    text = "a hunter2hunter2 b hunter2 c true d /home/me e sesame"
    assert without_secrets(text, environment) == "a *** b *** c true d /home/me e ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa/ss@wo@rd@db/x", "postgresql://me:***@db/x"),
        ("http://host:5000/path@home", "http://host:5000/path@home"),
        ("http://[::1]:5000/#/x@y", "http://[::1]:5000/#/x@y"),
        ("postgresql://me:${oc.env:PW}@db/x", "postgresql://me:${oc.env:PW}@db/x"),
        ("git+https://0123456789abcdefghij@host/x", "git+https://***@host/x"),
        ("https://h/x?user=me&password=a%2Fb&n=1", "https://h/x?user=me&password=***&n=1"),
        ("https://h/x?token=abc#top", "https://h/x?token=***#top"),
        ("https://h/x?sv=1&sig=ab%3D&X-Amz-Signature=00", "https://h/x?sv=1&sig=***&X-Amz-Signature=***"),
        ("https://h/x?max_tokens=4096&sort_key=a&key=b", "https://h/x?max_tokens=4096&sort_key=a&key=b"),
        ("host=db user=me password=sesame", "host=db user=me password=***"),
        ("Password=sesame;Server=x", "Password=***;Server=x"),
        ("connect(user=me, password=word)", "connect(user=me, password=word)"),
    ],
)
def test_addresses_and_connections_are_told_without_what_opens_them(text: str, shown: str):
    assert mask(text) == shown
    assert mask(shown) == shown


INNOCENT = {
    "token_length": "a long text, or 1", "tokenizer": "bert-base-uncased", "max_tokens": 4096, "key": "abcdef123456",
    "pad_token": "<|endoftext|>", "cls_token": "[CLS]", "token": "first", "token_id": "abc123def",
    "sort_key": "a1b2c3d4", "passes": 3, "password_length": 12, "secret_size": "x1y2z3", "use_auth": True,
    "tokens": ["a1b2c3d4e5"], "keys": ["a1b2c3d4"], "api_key": None, "mask_token": "mask9999",
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), INNOCENT.items())
def test_what_only_sounds_like_a_secret_is_recorded_as_it_is(key: str, value: Any):
    assert hidden_in({"model": {key: value}}) == {"model": {key: value}}


SECRET_KEYS = [
    "api_key", "apiKey", "APIKEY", "x-api-key", "db_password", "passwd", "token", "hf_token", "authToken", "secret",
    "client_secret", "aws_secret_access_key", "access_key", "credentials", "Authorization",
]  # fmt: skip


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_what_a_key_says_is_secret_comes_back_from_a_variable(key: str, monkeypatch: pytest.MonkeyPatch):
    recorded = hidden_in({"service": {key: "hunter2-x"}})
    assert "hunter2" not in str(recorded)
    ((variable, where),) = missing_variables(recorded).items()
    assert where == f"service.{key}"
    monkeypatch.setenv(variable, "hunter2-x")
    assert missing_variables(recorded) == {}
    assert OmegaConf.to_container(OmegaConf.create(recorded), resolve=True) == {"service": {key: "hunter2-x"}}


def test_what_lies_under_such_a_key_is_secret_and_a_number_comes_back_as_one(monkeypatch: pytest.MonkeyPatch):
    config = {"credentials": {"user": "me", "pin": 123456, "many": ["abcdef", "abcdef"], "on": True}, "password": 12}
    recorded = hidden_in(config)
    assert recorded["credentials"]["on"] is True
    assert "me'" not in str(recorded)
    assert "123456" not in str(recorded)
    values = {"CREDENTIALS_USER": "me", "CREDENTIALS_PIN": "123456", "CREDENTIALS_MANY": "abcdef", "PASSWORD": "12"}
    for name, value in values.items():
        monkeypatch.setenv(f"BESOM_SECRET_{name}", value)
    assert OmegaConf.to_container(OmegaConf.create(recorded), resolve=True) == config


def test_what_a_variable_holds_comes_back_from_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2-x")
    assert hidden("data.url", "https://h/hunter2-x/a") == "https://h/${oc.env:SERVICE_TOKEN}/a"


@pytest.mark.parametrize(
    ("override", "recorded", "masked"),
    [
        ("+db.password=sesame", "+db.password=${oc.env:BESOM_SECRET_DB_PASSWORD}", "+db.password=***"),
        ("db={password:'sesame',n:1}", "db={password:${oc.env:BESOM_SECRET_DB_PASSWORD},n:1}", "db={password:***,n:1}"),
        ("model.token_length=3", "model.token_length=3", "model.token_length=3"),
        ("model=mlp", "model=mlp", "model=mlp"),
        ("runs/api_key=a1b2c3,lr=1", "runs/api_key=${oc.env:BESOM_SECRET_RUNS_API_KEY}", ""),
    ],
)
def test_overrides_are_recorded_so_that_they_can_be_given_again(override: str, recorded: str, masked: str):
    assert hidden_override(override).startswith(recorded)
    assert masked_override(override).startswith(masked)


def test_what_a_process_prints_is_without_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2-x")
    stream = io.StringIO()
    hide_in_output(stream)
    print("it is hunter2-x", file=stream)
    print("\u00e9, lr=0.1", file=stream)
    assert stream.getvalue() == "it is ***\n\u00e9, lr=0.1\n"


def test_a_failure_is_told_without_what_its_config_held():
    hidden_in({"service": {"password": "open sesame"}})
    failure = Failure(reason="401 for open sesame", traceback="x\nValueError: 401 for 'open sesame'", blame=Blame.CODE)
    assert failure.without_secrets() == Failure(reason="401 for ***", traceback="x\nValueError: 401 for '***'")


# Whatever a secret looks like, and wherever it stands.

SECRETS = st.text(string.ascii_letters + string.digits + "!#%&*+-./:=?@^_~$()|", min_size=8, max_size=24).map(
    lambda text: f"zQ7{text}9Kz"
)


@given(SECRETS)
def test_a_secret_variable_is_in_no_text_however_it_is_written(secret: str):
    error = TrialFailed(f"refused: {secret!r} at https://me:{secret}@host/x?token={secret} ({secret})")
    text = without_secrets(f"{error}\n{error!r}\n{ {'value': secret} }", {"SERVICE_TOKEN": secret})
    assert secret not in text


@given(st.sampled_from(SECRET_KEYS), SECRETS, st.lists(st.sampled_from(["a", "data", "b"]), max_size=3))
def test_a_secret_of_a_config_is_neither_in_its_record_nor_in_a_text_that_follows(
    key: str, secret: str, path: list[str]
):
    config: Any = {key: secret, "n": 1}
    for part in path:
        config = {part: [config], "x": 1}
    assert secret not in str(hidden_in(config))
    assert secret not in without_secrets(f"it was {secret}, or {secret!r}")
    assert secret not in hidden_override(f"{'.'.join([*path, key])}={secret}")


@given(SECRETS.filter(lambda text: "://" not in text))
def test_the_password_of_an_address_is_in_no_record(secret: str):
    address = f"postgresql://me:{secret}@db/x"
    assert secret not in mask(address)
    assert secret not in str(hidden_in({"uri": address}))


@given(st.dictionaries(st.sampled_from(["lr", "key", "tokenizer", "path"]), st.text(max_size=12) | st.integers()))
def test_whatever_is_recorded_twice_stays_as_it_is(config: dict[str, Any]):
    once = hidden_in(config)
    assert hidden_in(once) == once


def test_an_empty_or_missing_value_is_no_secret():
    assert not any(is_secret("password", value) for value in ("", "???", None, True, "${oc.env:X}"))

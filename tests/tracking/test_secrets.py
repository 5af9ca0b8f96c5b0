from __future__ import annotations

import pytest

from besom.tracking.secrets import without_secrets

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

"""Conversion to MLflow's entities: names, values, tags and data sets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from besom.config.model_inputs import CONFIG as CONFIG
from besom.secrets.masks import all_without_secrets, without_secrets
from besom.tracking.tags import Tag, short

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

_MAX_KEY = 250
_MAX_VALUE = 6000  # MLflow truncates a longer param; the artifact config.yaml has it whole
_TAGS = (Tag.DEVICE, Tag.THREADS, Tag.PARAMETERS, Tag.BUNDLE, Tag.OUTPUT, Tag.LOOP)
# One each: twenty tags that nobody filters by would hide the others.
_JSON_TAGS = (Tag.CUDA, Tag.DETERMINISM, Tag.LOOP_BECAUSE, Tag.TUNED)


@cache
def to_key(name: str) -> str:
    """Return a name as MLflow accepts it for a param or a metric: `+trainer.limit` loses its plus, `acc@5` is `acc_5`.

    As a path it is relative and normalized: `val//acc` is `val/acc`, `loss/` is `loss`, an empty name is `_`.
    """
    parts = re.sub(r"[^\w/. :-]", "_", name.lstrip("+"))[:_MAX_KEY].split("/")
    key = "/".join("_" * len(part) if part in (".", "..") else part for part in parts if part)
    return re.sub(r"^\.\.", "__", key) or "_"


def as_markdown(text: str) -> str:
    """Escape a text for Markdown, the format of MLflow's descriptions."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(text.split()))


def metrics_at(metrics: Mapping[str, float], *, step: int, time_s: float) -> list[Metric]:
    """Return metrics of one step; `time_s` is in seconds since 1970."""
    from mlflow.entities import Metric

    return [Metric(to_key(name), value, int(time_s * 1000), step) for name, value in metrics.items()]


def params_of(values: Iterable[tuple[str, Any]]) -> list[Param]:
    """Return params; of several with one name, the last counts."""
    from mlflow.entities import Param

    flat = {to_key(name): str(value) for name, value in values}
    return [Param(name, value[:_MAX_VALUE]) for name, value in all_without_secrets(flat).items()]


def run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    """Return tags as MLflow's entities, secrets masked."""
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in all_without_secrets(tags).items()]


def tags_about(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags for what a worker reported about a trial once it was built."""
    built = {tag: str(about[name]) for tag in _TAGS if (name := short(tag)) in about}
    built |= {tag: json.dumps(about[name]) for tag in _JSON_TAGS if (name := short(tag)) in about}
    if "columns" in about:
        built[Tag.COLUMNS] = "\n".join(about["columns"])
    versions = {f"{Tag.VERSION}.{name}": version for name, version in about.get("versions", {}).items()}
    return {**built, **versions}


def config_text(config: Mapping[str, Any]) -> str:
    """Return a config as OmegaConf's YAML, in which a string that looks like a number stays a string."""
    import yaml

    dumper = _config_dumper()
    try:
        if dumper is None:
            return OmegaConf.to_yaml(OmegaConf.create(dict(config)))
        return yaml.dump(config, Dumper=dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    except yaml.YAMLError:  # for example an enum or a path, which the fast dumper does not support
        return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


@cache
def _config_dumper() -> Any:
    """Return OmegaConf's dumper, on libyaml if available, in a tenth of the time; None if it cannot be imported."""
    import yaml

    try:
        from omegaconf._utils import get_omega_conf_dumper
    except ImportError:
        return None

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, get_omega_conf_dumper().str_representer)
    return Dumper


def dataset(about: Mapping[str, Any]) -> DatasetInput:
    """Return the data set that a worker reported for a trial."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = without_secrets(about["data"])
    data = Dataset(
        name=name,
        digest=about["digest"][:32],  # MLflow's column holds 36 characters
        source_type="local",
        source=json.dumps({"besom": name}),
        profile=json.dumps(about["sizes"]),
    )
    return DatasetInput(dataset=data, tags=[InputTag(key="mlflow.data.context", value="training")])

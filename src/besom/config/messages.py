"""The errors of Hydra, OmegaConf and YAML about a config as one line: where, what, the remedy."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, Node
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from besom.errors import BesomError, ConfigError, closest, first_line, one_of

_GRAMMAR = "quote it for the shell; the grammar: https://hydra.cc/docs/advanced/override_grammar/basic"
# Hydra and OmegaConf name Python types and their own; these wordings name what the user can do.
_WORDINGS = (
    (r"Value '\{.*\}' of type 'dict' could not be converted.*", "it is one value and holds no keys"),
    (r"Value '(.*)' of type '\w+' could not be converted to Integer", r"'\1' is not a whole number"),
    (r"Value '(.*)' of type '\w+' could not be converted to Float", r"'\1' is not a number"),
    (r"Value '(.*)' is not a valid bool.*", r"'\1' is neither true nor false"),
    (r"field '.*' is not Optional", "it cannot be null; give it a value"),
    (r"Invalid value assigned: \w+ is not a ListConfig,.* list,? or tuple", "a list is needed; write it as [1,2]"),
    (r"Cannot set '.*' because '(.*)' is None", r"\1 is null, and has no such part; set it whole"),
    (r"Invalid type assigned: \w+ is not a subclass of \w+.*", "it holds keys, not a value; set one of them"),
    (r"Merge error: \w+ is not a subclass of \w+\. value: ?(.*)", r"'\1' stands where KEY: VALUE lines belong"),
    (
        r"Could not override '(\S+)'\. No match in the defaults list|Invalid Defaults List override '(\S+): .*'",
        r"defaults: there is no group \1\2 to override; mend its name, or take the line out",
    ),
    (
        r"Cannot assign \w+ to Dict.*|Cannot merge DictConfig with \w+|Cannot merge incompatible container types",
        "it holds KEY: VALUE lines, not a value or a list",
    ),
    (r"\w+ \(DictConfig\) does not support deletion", "it cannot be deleted; give it a value"),
    (r"missing EQUAL at '(.*)'", "it has no '='; write KEY=VALUE"),
    (r"ValueError while evaluating '.*': empty choice is not legal", "nothing to choose from; name at least one value"),
    (r"Sweep parameters '.*' requires --multirun", "one run takes one value; add --multirun, or use besom sweep"),
    (r"Ambiguous value for argument '.*'", "one run takes one value; write a list as [1,2], or add --multirun"),
    (
        r"(no viable alternative at|extraneous|mismatched) input ('.*?').*",
        r"not a value that Hydra can read, from \2 on",
    ),
    (r"\S+@(\w+) appears more than once in the final defaults list", r"\1 is chosen twice; \1=NAME chooses another"),
    (r"Multiple values for \S+?@(\w+)\..*", r"\1 takes one choice; to compare several, use besom sweep"),
    (
        r"Error resolving interpolation '(.*)', possible interpolation keys: (.*)",
        r"'\1' refers to no group that is chosen before it; there are \2",
    ),
    (r"Could not load '(.*)'", r"there is no config '\1'"),
    (r"Cannot find primary config '(.*)'\..*", r"there is no config \1.yaml; --info searchpath shows where it may be"),
    (r"primary config '(.*)' must be a DictConfig, got .*", r"\1.yaml: lines of KEY: VALUE are needed"),
    (
        r"ValueError raised while resolving interpolation: HydraConfig was not set",
        "what ${hydra:…} refers to is known in a running job only",
    ),
    (r"Cannot convert '\w+' to string: .*", "it is one value, and holds no others"),
    (
        r"Expected header format: KEY VALUE, got '(.*)'",
        r"the header '# \1' is none that Hydra can read; write such as # @package _global_",
    ),
    (r"LexerNoViableAltException: .*", "not a value that Hydra can read"),
    (r"Duplicate _self_ defined in (.*)", r"\1.yaml: defaults: _self_ is there twice; take one out"),
    (
        r"In (.*): Override '(.*) : (.*)' is defined before '(.*): (.*)'",
        r"\1.yaml: defaults: override \2: \3 stands before \4 \5; overrides come last, before _self_ alone",
    ),
    (
        r"Config group override must be a string or a list\. Got \w+",
        "a group takes the name of one of its configs; write such as data=digits",
    ),
    (
        r"Backslash \('\\'\) in Defaults List config paths is not supported \('(.*)'\)",  # from 1.4 on
        r"defaults: '\1' has a backslash; write the name of a config, with / between folders",
    ),
    (r"mapping values are not allowed here", "a colon too many, or a line that is indented too far"),
)


@overload
def explain(error: BesomError | yaml.YAMLError | OmegaConfBaseException | HydraException) -> str: ...
@overload
def explain(error: BaseException) -> str | None: ...
def explain(error: BaseException) -> str | None:
    """Return the line to print for an error that the user can fix, or None for any other."""
    match error:
        case BesomError():
            return str(error)
        case yaml.YAMLError():
            return _yaml(error)
        case OverrideParseException():
            problem = _problem(error)
            line = _reworded(problem)
            unread = line == problem or "can read" in line
            return f"{error.override}: {line}" + (f"; {_GRAMMAR}" if unread else "")
        case MissingConfigException(missing_cfg_file=missing, options=[*options]):
            group, _, name = str(missing).rpartition("/")
            return f"{group}={name}: there is no such config; {one_of(name, options)}"
        case OmegaConfBaseException():
            return _omegaconf(error)
        case HydraException():
            return _hydra(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"{error.filename or 'what is printed'}: cannot be written ({error.strerror}); make room on the disk"
    return None


def _problem(error: OverrideParseException) -> str:
    """Return the line that describes the error of an override; those before it only name the override."""
    lines = str(error).splitlines()
    ahead = (f"Error parsing override '{error.override}'", "Error when parsing index: ")  # the latter from 1.4 on
    return next((line for line in lines if not line.startswith(ahead)), lines[0])


@contextmanager
def composing(source: str) -> Iterator[None]:
    """Turn unexpected exceptions of composing into ConfigError naming the source; Hydra's own errors pass."""
    try:
        yield
    except (BesomError, HydraException, OmegaConfBaseException, yaml.YAMLError):
        raise
    except Exception as error:
        raise ConfigError(f"{source}: {unforeseen(error)}") from error


def unforeseen(error: Exception) -> str:
    """Return the line for an exception that Hydra did not expect while composing."""
    match error:
        case RecursionError():
            return "its defaults lead back to itself, or it is nested too deeply; take that line out"
        case UnicodeDecodeError():
            return "it, or a file in its defaults, is not UTF-8; save it as UTF-8"
    line = _reworded(first_line(error))
    if (override := _written(error)) is not None:
        line = f"{override}: {line}"
    return line if ";" in line else f"{line}; mend the config or the override"


def _written(error: BaseException) -> str | None:
    """Return the override as written that Hydra was processing when it raised a built-in exception."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [one for frame in frames if isinstance(one := frame.f_locals.get("override"), Override)]
    return found[-1].input_line if found else None


def _yaml(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        where = f"{mark.name}: line {mark.line + 1}, column {mark.column + 1}"
        return f"{where}: {_reworded(error.problem or str(error.context))}; mend the YAML"
    return f"{getattr(error, 'name', 'a config')}: {first_line(error)}; mend the YAML"


def _hydra(error: HydraException) -> str:
    cause = error.__cause__
    if not str(error).strip() and isinstance(cause, OmegaConfBaseException):
        return _omegaconf(cause)
    first = first_line(error)
    # An invalid override, with OmegaConf's error as the cause.
    override = re.match(r"(?:Could not override|Error merging override) '?(.*?)'?\.?$", first)
    if override and isinstance(cause, OmegaConfBaseException):
        written = re.search(r"use \+(.*)", str(error))
        return _omegaconf(cause, written[1] if written else override[1])
    # An invalid file: "In 'experiment/line': …", from 1.4 on without the quotes in places.
    if _reworded(first) == _bare(first) and (file := re.match(r"In '?([^' ]+)'?: (.*)", first)):
        inner = error.__context__
        line = _omegaconf(inner) if isinstance(inner, OmegaConfBaseException) else _reworded(file[2])
        return f"{file[1]}.yaml: {line}"
    # The override, if it is quoted in the message.
    written, line = re.search(r"'(\S+=.*)'", first), _reworded(first)
    return f"{written[1]}: {line}" if written and line != first else line


def _omegaconf(error: OmegaConfBaseException, written: str | None = None) -> str:
    """Return the line for an error of OmegaConf; `written` is the override that caused it."""
    key = str(error.full_key or error.key or _place(error) or "the config as a whole")
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: it has no value yet; add {key}=VALUE"
    if isinstance(error, InterpolationResolutionError):
        return f"{key}: {_reworded(first_line(error))}; mend the ${{…}}"
    siblings = error.parent_node
    if isinstance(error, (ConfigKeyError, AttributeError)) and isinstance(siblings, DictConfig):
        parent, _, wrong = key.rpartition(".")
        names = [str(name) for name in siblings if not str(name).startswith("_") and name != "hydra"]
        close = closest(wrong, names)
        prefix = f"{parent}." if parent else ""
        remedy = f"did you mean {prefix}{close}?" if close else one_of(wrong, names)
        line = f"there is no key {key}; {remedy}"
        return f"{written}: {line} (+{written} adds it)" if written else line
    return f"{written or key}: {_reworded(first_line(error))}"


# What OmegaConf was at, by the names of its functions and of what they call the node.
_AT_WORK = {"_map_merge": "dest", "_dereference_node_impl": "self"}


def _place(error: BaseException) -> str:
    """Return the key at which a merge or an interpolation broke off, for those of OmegaConf's errors that have none."""
    cause: BaseException | None = error
    while cause is not None:  # from 2.4 on, OmegaConf raises its error anew, from the one that it met at work
        frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__) if frame.f_code.co_name in _AT_WORK]
        for frame in reversed(frames):
            node = frame.f_locals.get(_AT_WORK[frame.f_code.co_name])
            if isinstance(node, Node):
                return str(node._get_full_key(frame.f_locals.get("key")))
        cause = cause.__cause__ or cause.__context__
    return ""


def _bare(text: str) -> str:
    return text.strip().rstrip(".")


def _reworded(text: str) -> str:
    text = _bare(text)
    for pattern, wording in _WORDINGS:
        if match := re.fullmatch(pattern, text):
            return match.expand(wording)
    return text

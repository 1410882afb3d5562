"""What ``logs --details`` shows before each line: the labels and variables that the log options name, and a tag.

    --log-opt labels=team,tier --log-opt env=REGION --log-opt tag={{.Name}}   →   REGION=eu,tag=web,team=shop

dockerd works these out when a container starts and stores them with each line; here they belong to the container alone, so they are
made when somebody reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote_plus

from engine.errors import InvalidArgument
from engine.model.container import ContainerSpec

_FIELD: Final = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_TAG: Final[Mapping[str, Callable[[ContainerSpec], str]]] = {  # docs.docker.com/engine/logging/log_tags
    "ID": lambda spec: spec.id[:12],
    "FullID": lambda spec: spec.id,
    "Name": lambda spec: spec.name,
    "FullName": lambda spec: f"/{spec.name}",
    "Command": lambda spec: " ".join(spec.args),
    "ImageName": lambda spec: spec.image,
    "ImageID": lambda spec: spec.image_id.removeprefix("sha256:")[:12],
    "ImageFullID": lambda spec: spec.image_id,
    "DaemonName": lambda _spec: "docker",
}


def check_tag(template: str) -> str:
    """The template itself; InvalidArgument for one that needs more than the fields of a container."""
    unknown = [name for name in _FIELD.findall(template) if name not in _TAG]
    if unknown or "{{" in _FIELD.sub("", template):
        raise InvalidArgument(f"invalid log tag {template!r}: use {', '.join('{{.' + name + '}}' for name in _TAG)}")
    return template


def details(spec: ContainerSpec) -> str:
    """``name=value`` pairs by name, joined by commas, escaped as in a URL's query; "" when none apply."""
    policy = spec.log
    variables = dict(variable.split("=", 1) for variable in spec.env if "=" in variable)
    found = {name: spec.labels[name] for name in policy.labels if name in spec.labels}
    found |= {name: variables[name] for name in policy.env if name in variables}
    if policy.tag:
        found["tag"] = _FIELD.sub(lambda match: _TAG[match[1]](spec), policy.tag)
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(found.items()))

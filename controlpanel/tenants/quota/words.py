"""Limits as people type them at ./manage.py, and figures as they read them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from controlpanel.base import units
from controlpanel.tenants.quota.resources import BY_NAME, CPU, RESOURCES, Resource, Use

_OPTIONS: Final[tuple[tuple[str, str, str, str], ...]] = (  # option, resource, its value, what it limits
    ("cpus", "cpu", "N", "CPUs of all containers together, e.g. 1.5"),
    ("memory", "memory", "BYTES", "of all containers together, e.g. 2g"),
    ("swap", "swap", "BYTES", "of all containers together, beside the memory"),
    ("pids", "pids", "N", "processes of all containers together"),
    ("disk", "disk", "BYTES", "of containers' layers and volumes together, as their sizes are declared, e.g. 20g"),
    ("containers", "containers", "N", "how many containers there may be"),
    ("volumes", "volumes", "N", "how many volumes there may be"),
    ("networks", "networks", "N", "how many networks there may be beside bridge and none"),
    ("published", "ports", "N", "how many ports may be published at once"),
    ("images", "images", "BYTES", "of its images' layers, each once, without those of public images"),
    ("logs", "logs", "BYTES", "of kept output of all containers together; the oldest goes"),
    ("builds", "builds", "N", "how many builds may run at once"),
    ("build-minutes", "build-minutes", "N", "that builds may take in a day, UTC"),
    ("members", "members", "N", "how many members there may be"),
    ("tokens", "tokens", "N", "how many tokens there may be"),
    ("projects", "projects", "N", "how many projects there may be"),
)


def add_options(parser: ArgumentParser, *, of_project: bool = False) -> None:
    for option, name, value, text in _OPTIONS:
        if BY_NAME[name].of_project or not of_project:
            parser.add_argument(f"--{option}", metavar=value, help=f"{text}; 0 is unlimited")


def limits_in(options: dict[str, Any]) -> dict[str, int]:
    """Column → limit, of what was typed."""
    given = ((BY_NAME[name], options.get(option.replace("-", "_"))) for option, name, _value, _text in _OPTIONS)
    return {resource.column: _reader(resource)(text) for resource, text in given if text is not None}


def _reader(resource: Resource) -> Callable[[str], int]:
    if resource.name == CPU:
        return units.parse_nano_cpus
    return units.parse_bytes if resource.unit == "bytes" else units.parse_count


def figure(resource: Resource, count: int) -> str:
    """``1.5`` CPUs, ``512 MiB``, ``3``."""
    if resource.name == CPU:
        return f"{count / 1e9:g}"
    return units.show_bytes(count) if resource.unit == "bytes" else str(count)


def lines(uses: Iterable[Use]) -> Iterator[str]:
    """A table for a terminal."""
    yield f"{'RESOURCE':<15}{'USED':<12}{'LIMIT':<12}STATE"
    for use in uses:
        used = "?" if use.used is None else figure(use.resource, use.used)
        limit = figure(use.resource, use.limit) if use.limit else "unlimited"
        yield f"{use.resource.name:<15}{used:<12}{limit:<12}{use.state}".rstrip()


assert {name for _option, name, _value, _text in _OPTIONS} == {resource.name for resource in RESOURCES}

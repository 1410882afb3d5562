"""Image names: ``[HOST[:PORT]/]PATH[:TAG][@DIGEST]`` (distribution reference grammar)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import InvalidArgument

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?$",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{64})")
_IMPLIED = ("docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/", "library/")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name with tag or digest. ``docker.io/library/busybox`` is kept as ``busybox``, as docker shows it."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Without tag and digest the tag is ``latest``. Raises InvalidArgument with moby's sentence."""
        found = _REFERENCE.fullmatch(text)
        if not found or len(found["name"]) > 255 or _IMAGE_ID.fullmatch(text):
            if (path := _path(text)) != path.lower():
                raise InvalidArgument(f"invalid reference format: repository name ({path}) must be lowercase")
            raise InvalidArgument("invalid reference format")
        name = found["name"]
        for prefix in _IMPLIED:
            if name.startswith(prefix):
                name = name[len(prefix) :]
                break
        tag, digest = found["tag"] or "", found["digest"] or ""
        return cls(name, tag or ("" if digest else "latest"), digest)

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _path(text: str) -> str:
    """The repository without host and tag, as a registry would see it: of Docker's own images below library/."""
    first, slash, rest = text.partition("@")[0].partition("/")
    if not slash:
        return f"library/{first.partition(':')[0]}"
    path = rest if "." in first or ":" in first or first == "localhost" else f"{first}/{rest}"
    return path.partition(":")[0]


def image_id_prefix(text: str) -> str | None:
    """The hex digits when ``text`` could be an image id or the start of one (``sha256:`` optional), else None."""
    digits = text.removeprefix("sha256:")
    return digits if re.fullmatch(r"[0-9a-f]{1,64}", digits) else None

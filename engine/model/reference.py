"""Image names: ``[HOST[:PORT]/]PATH[:TAG][@DIGEST]``, by the grammar and the habits of distribution/reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument

DEFAULT_DOMAIN: Final = "docker.io"
DIGEST_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}  # hex digits
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_MAX_NAME: Final = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name with tag or digest, or both. ``docker.io/library/busybox`` is kept as ``busybox``, as docker shows it."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Without tag and digest the tag is ``latest``. Raises InvalidArgument with moby's sentence."""
        if _IMAGE_ID.fullmatch(text):
            if text.startswith("sha256:"):
                raise InvalidArgument("invalid reference format")
            raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        domain, rest = _split(text)
        path = rest.partition("@")[0].partition(":")[0]
        if path != path.lower():
            raise InvalidArgument(f"invalid reference format: repository name ({path}) must be lowercase")
        found = _REFERENCE.fullmatch(f"{domain}/{rest}")
        if not found:
            raise InvalidArgument("invalid reference format")
        if len(found["path"]) > _MAX_NAME:
            raise InvalidArgument(f"invalid reference format: repository name must not be more than {_MAX_NAME} characters")
        tag, digest = found["tag"] or "", found["digest"] or ""
        if digest:
            check_digest(digest)
        return cls(_familiar(found["domain"], found["path"]), tag or ("" if digest else "latest"), digest)

    @property
    def domain(self) -> str:
        """Of the registry: ``docker.io`` for a name without one."""
        return _split(self.name)[0]

    @property
    def path(self) -> str:
        """The repository as its registry knows it: ``library/busybox``."""
        return _split(self.name)[1]

    @property
    def key(self) -> str:
        """What it is looked up by: the digest alone when there is one, whatever the tag beside it says."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def check_digest(digest: str) -> str:
    """The digest itself. InvalidArgument in go-digest's words unless it is one of an algorithm that we know, in lower case."""
    algorithm, _colon, digits = digest.partition(":")
    length = DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidArgument("unsupported digest algorithm")
    if len(digits) != length:
        raise InvalidArgument("invalid checksum digest length")
    if not re.fullmatch(r"[0-9a-f]+", digits):
        raise InvalidArgument("invalid checksum digest format")
    return digest


def _split(text: str) -> tuple[str, str]:
    """(domain, the rest) of a familiar name: what stands before the first slash is a domain when it looks like one."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    elif first == "localhost" or "." in first or ":" in first or first != first.lower():
        domain = first
    else:
        domain, rest = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def _familiar(domain: str, path: str) -> str:
    if domain != DEFAULT_DOMAIN:
        return f"{domain}/{path}"
    first, _slash, last = path.rpartition("/")
    return last if f"{first}/" == _OFFICIAL else path


def image_id_prefix(text: str) -> str | None:
    """The hex digits when ``text`` could be an image id or the start of one (``sha256:`` optional), else None."""
    digits = text.removeprefix("sha256:")
    return digits if re.fullmatch(r"[0-9a-f]{1,64}", digits) else None

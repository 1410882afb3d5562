"""Lines of a pull's and a push's progress, and the last sentences of what failed, as moby says them."""

from __future__ import annotations

from typing import Any, Final

from engine.errors import EngineError, NotFound, PermissionDenied, Unauthenticated
from engine.model.reference import Reference

Line = dict[str, Any]
_SHORT: Final = 12  # digits of a digest


def short(digest: str) -> str:
    return digest.partition(":")[2][:_SHORT]


def status(text: str, short_id: str = "") -> Line:
    """A line without figures: those of a layer have an empty ``progressDetail``."""
    return {"status": text, "progressDetail": {}, "id": short_id} if short_id else {"status": text}


def retrying(seconds: float, short_id: str) -> Line:
    whole = max(1, round(seconds))
    return status(f"Retrying in {whole} second{'s' if whole > 1 else ''}", short_id)


def of_registry(error: EngineError) -> EngineError:
    """401 is the panel's own question, who are you: a client that hears it asks its user for a password of the wrong place."""
    return PermissionDenied(error.message, **error.detail) if isinstance(error, Unauthenticated) else error


def of_pull(error: EngineError, reference: Reference) -> EngineError:
    """What a registry's refusal means to who pulls this."""
    error = of_registry(error)
    code = str(error.detail.get("registry_code") or "")
    if code == "DENIED":
        said = f"pull access denied for {reference.name}, repository does not exist or may require 'docker login': {error.message}"
    elif code == "MANIFEST_UNKNOWN":
        said = f"manifest for {reference} not found: {error.message}"
    elif code == "NAME_UNKNOWN":
        said = f"repository {reference.name} not found: {error.message}"
    else:
        return error
    return NotFound(said, **error.detail)

"""Static files as an installation serves them: hashed, compressed, kept for ever; and nothing but them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from controlpanel.base import static


async def _get(path: str, *, method: str = "GET", accept: str = "") -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"method": method, "path": path, "headers": [(b"accept-encoding", accept.encode())]}
    await static.application(scope, None, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


@pytest.fixture
def installed(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """As ``collectstatic`` leaves it."""
    source = tmp_path / "source"
    (source / "js").mkdir(parents=True)
    (source / "js" / "page.js").write_text("export const one = 1;\n")
    (source / "js" / "rows.js").write_text('import { one } from "./page.js";\nconsole.log(one);\n')
    settings.STATICFILES_DIRS = [source]
    settings.STATIC_ROOT = tmp_path / "root"
    settings.HASHED_STATIC = True
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": "controlpanel.base.static.HashedFiles"}}
    call_command("collectstatic", interactive=False, verbosity=0)
    static._collected.cache_clear()
    yield settings.STATIC_ROOT
    static._collected.cache_clear()


def _hashed(root: Path, stem: str) -> str:
    return next(path.name for path in (root / "js").glob(f"{stem}.*.js"))


async def test_a_hashed_file_is_kept_for_ever(installed: Path) -> None:
    status, headers, body = await _get(f"/static/js/{_hashed(installed, 'page')}", accept="gzip, br")
    assert status == 200
    assert "immutable" in headers["cache-control"]
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert gzip.decompress(body) == b"export const one = 1;\n"


async def test_a_module_imports_the_hashed_name(installed: Path) -> None:
    """Under two names it would be two modules, and a page would have two websockets."""
    _status, _headers, body = await _get(f"/static/js/{_hashed(installed, 'rows')}")
    assert f'"./{_hashed(installed, "page")}"' in body.decode()


async def test_head_has_the_length_and_no_body(installed: Path) -> None:
    status, headers, body = await _get("/static/js/page.js", method="HEAD")
    assert (status, headers["content-length"], body) == (200, "22", b"")


@pytest.mark.parametrize("path", ["/static/../settings.py", "/static/", "/static/js", "/static/js/absent.js", "/static//etc/passwd"])
async def test_nothing_else_is_served(installed: Path, path: str) -> None:
    assert (await _get(path))[0] == 404


@pytest.mark.parametrize("path", ["/static/../settings.py", "/static/", "/static/css", "/static//etc/passwd"])
async def test_nothing_else_is_served_in_a_checkout_either(settings: Any, path: str) -> None:
    settings.HASHED_STATIC = False
    assert (await _get(path))[0] == 404


async def test_a_checkout_serves_its_sources(settings: Any) -> None:
    settings.HASHED_STATIC = False
    status, headers, _body = await _get("/static/css/slipway.css")
    assert (status, headers["cache-control"]) == (200, "no-cache")

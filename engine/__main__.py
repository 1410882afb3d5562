"""``python3 -m engine``: with whatever python3 there is. The few libraries that it lacks are in an environment that
``./manage.py`` made: beside the checkout, or of the installed platform; then this runs again in there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from engine.config import EngineConfig

NEEDED = ("isal", "zstandard", "pyroute2")


def main() -> int:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _run_again_with_libraries()
        print(f"engine: python package {', '.join(missing)} is missing: sudo ./manage.py up installs what is needed", file=sys.stderr)
        return 1
    from engine import cli

    return cli.main()


def _run_again_with_libraries() -> None:
    """Does not return when there is such an environment, and whoever asks may use it."""
    checkout = Path(__file__).resolve().parents[1]
    for python in (checkout / ".venv" / "bin" / "python", EngineConfig.from_environment().data / "app/current/venv/bin/python"):
        if os.access(python, os.X_OK) and python.parent != Path(sys.executable).parent:
            os.execve(python, [str(python), "-m", "engine", *sys.argv[1:]], {**os.environ, "PYTHONPATH": str(checkout)})


if __name__ == "__main__":
    sys.exit(main())

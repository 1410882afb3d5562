"""What the operator says reaches whoever acts on it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.config import REGISTRY_VARIABLES, RegistryConfig


def test_processes_that_are_given_these_variables_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds pull in a process that gets them alone (engine.files.desk)."""
    for name in REGISTRY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    said = {
        "SLIPWAY_REGISTRY_MIRRORS": "https://mirror.test", "SLIPWAY_INSECURE_REGISTRIES": "a.test", "SLIPWAY_REGISTRIES_ALLOWED": "b.test",
        "SLIPWAY_REGISTRY_SILENCE": "7", "SLIPWAY_HTTP": "0.0.0.0:8000", "SLIPWAY_TLS": "0.0.0.0:2376",
        "HTTPS_PROXY": "c.test", "http_proxy": "d.test", "NO_PROXY": "e.test, f.test",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    config = RegistryConfig.from_environment()
    assert all(getattr(config, field) != getattr(RegistryConfig(), field) for field in RegistryConfig.__slots__), "each has been said"
    kept = {name: os.environ[name] for name in REGISTRY_VARIABLES if name in os.environ}
    program = "from engine.config import RegistryConfig; print(RegistryConfig.from_environment())"
    there = subprocess.run([sys.executable, "-c", program], env=kept, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(config)

"""Run as a program: the registry in a process of its own, to be killed. Prints HOST:PORT and serves until then."""

from __future__ import annotations

import os
import time

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlpanel.settings"
    import django

    django.setup()
    from tests.controlpanel.registry.conftest import serving

    with serving() as where:
        print(where, flush=True)
        time.sleep(600)

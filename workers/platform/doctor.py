"""``doctor``: what this kernel and this machine can do for containers, each missing thing with the reason and the fix."""

from __future__ import annotations

import os
import shutil

from engine.kernel import probe
from workers.platform import apt, checks
from workers.platform.places import Places
from workers.platform.say import line


def doctor(places: Places) -> int:
    """Exit code 1 when something is missing that containers can't do without."""
    unfit = False
    for finding in probe.probe(checks.existing(places.data)):
        if finding.reason == probe.NOT_TRIED:
            line(f"untried  {finding.name}: only root may")
        elif finding.ok:
            line(f"ok       {finding.name}{': ' + finding.reason if finding.reason else ''}")
        else:
            unfit = unfit or finding.required
            line(f"{'MISSING' if finding.required else 'absent ':<7}  {finding.name}: {finding.reason}. {finding.fix}")
    for path, package in sorted(apt.UP.items()):
        if os.path.exists(path):
            line(f"ok       {package}")
        else:
            line(f"absent   {package}: {path} is not there. `sudo ./manage.py up` installs it")
    free = shutil.disk_usage(checks.existing(places.data)).free
    line(
        f"ok       disk: {free >> 20} MiB free below {places.data}"
        if free > 1 << 30
        else f"absent   disk: {free >> 20} MiB free below {places.data}. Make room"
    )
    if os.geteuid() != 0:
        line("note     `sudo ./manage.py doctor` tries the rest")
    return 1 if unfit else 0

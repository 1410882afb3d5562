"""``service install|remove``: systemd units, so that platform and containers are back after a reboot.

Two units. The keeper has its own, because systemd ends what is in a unit's cgroup when the unit stops, and containers must
outlive a restart of the platform; KillMode=mixed of the platform's unit signals the supervisor alone first. The containers'
cgroups are outside of systemd's tree anyway (it leaves them be). Both are beside the containers' cgroup, and weigh six times as much
when processors are short: see engine.kernel.scheduling.

    slipway-keeper.service   foster, keeper, launcher, logger, netd, agent
    slipway.service          `manage.py up` of the installed release: redis, web, workers
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from engine import disk
from engine.config import DATA_DEFAULT
from workers.platform.places import Places
from workers.platform.say import Refusal, step

_UNITS: Final = Path("/etc/systemd/system")

_KEEPER: Final = """\
[Unit]
Description=Slipway: keeper of the containers ({data})
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile={environment}
WorkingDirectory={current}
ExecStart={python} {manage} keeper start
ExecStop={python} {manage} keeper stop
KillMode=process
Slice=-.slice
CPUWeight=600
TimeoutStartSec=120
TimeoutStopSec=120
OOMScoreAdjust=-900
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""

_PLATFORM: Final = """\
[Unit]
Description=Slipway ({data})
Wants={keeper}
After={keeper} network-online.target
Wants=network-online.target

[Service]
Type=exec
EnvironmentFile={environment}
WorkingDirectory={current}
ExecStart={python} {manage} up
KillMode=mixed
Slice=-.slice
CPUWeight=600
TimeoutStopSec=60
Restart=on-failure
RestartSec=2
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"""


def names(places: Places) -> tuple[str, str]:
    """Of the platform's unit and the keeper's; another instance than the default one carries its folder's name."""
    suffix = "" if str(places.data) == DATA_DEFAULT else "-" + str(places.data).strip("/").replace("/", "-")
    return f"slipway{suffix}.service", f"slipway-keeper{suffix}.service"


def install(places: Places) -> int:
    _require_systemd()
    platform, keeper = names(places)
    environment = places.etc / "service.env"
    variables = {**places.variables, **places.own()}
    disk.write_atomic(environment, "".join(f"{name}={value}\n" for name, value in sorted(variables.items())).encode(), sync=True)
    current = places.current
    words = {
        "data": places.data,
        "environment": environment,
        "current": current,
        "python": current / "venv" / "bin" / "python",
        "manage": current / "manage.py",
        "keeper": keeper,
    }
    for name, template in ((keeper, _KEEPER), (platform, _PLATFORM)):
        disk.write_atomic(_UNITS / name, template.format(**words).encode(), mode=0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", keeper, platform)
    step(f"{platform} and {keeper} are enabled: they start at the next boot, or now by `systemctl start {platform}`")
    return 0


def remove(places: Places) -> int:
    """Disables and forgets the units. What runs goes on until `down`."""
    present = [name for name in names(places) if (_UNITS / name).exists()]
    for name in present:
        _systemctl("disable", name)
        (_UNITS / name).unlink()
        step(f"{name} is removed")
    if present:
        _systemctl("daemon-reload")
    (places.etc / "service.env").unlink(missing_ok=True)
    return 0


def _require_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise Refusal("this machine was not booted with systemd: let its own init system run `manage.py up`")


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"systemctl {' '.join(words)} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")

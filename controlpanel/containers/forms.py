"""Starting a container from a page. A field has the name that REST has for it, and what is asked is REST's ``ContainerIn``: options
have one reader. What that refuses is shown beside the field that it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from controlpanel.containers import request
from controlpanel.containers.creation import ContainerIn, to_docker
from controlpanel.containers.form_fields import (
    DevicesField,
    EndpointsField,
    LinesField,
    PairsField,
    PortsField,
    RatesField,
    SeccompField,
    SizeField,
    TmpfsField,
    UlimitsField,
    WordsField,
    dress,
    said,
)
from controlpanel.containers.references import References
from controlpanel.containers.resource_fields import ResourceFields
from controlpanel.hosts.machine import Machine
from engine.errors import EngineError

_HEALTH: Final = {
    "health": "shell",
    "health_interval": "interval_s",
    "health_timeout": "timeout_s",
    "health_start_period": "start_period_s",
    "health_start_interval": "start_interval_s",
    "health_retries": "retries",
}
_LOG: Final = {"log_driver": "driver", "log_options": "options"}
# Whose the refusals are that come after ours, from the tenant's limits and from the host: by their rule, and by their words (engine.spec)
_RULES: Final = {
    "quota.memory": "memory",
    "quota.cpu": "cpus",
    "quota.pids": "pids_limit",
    "quota.ports": "ports",
    "policy.privileged": "privileged",
    "ceiling.privileged": "privileged",
    "policy.capabilities": "cap_add",
    "ceiling.capabilities": "cap_add",
    "policy.seccomp": "seccomp",
    "policy.ports": "ports",
    "policy.addresses": "ports",
    "ceiling.addresses": "ports",
    "Devices": "devices",
    "DeviceCgroupRules": "device_rules",
    "OomScoreAdj": "oom_score_adj",
    "seccomp": "seccomp",
    "ulimit.rtprio": "ulimits",
}
_SENTENCES: Final = (
    ("No such image", "image"),
    ("The container name", "name"),
    ("Invalid container name", "name"),
    ("joining network namespace", "network"),
    ("could not get container for", "links"),
    ("port is already allocated", "ports"),
    ("ulimit ", "ulimits"),
    ("sysctl ", "sysctls"),
    ("invalid CapAdd", "cap_add"),
    ("invalid CapDrop", "cap_drop"),
    ("seccomp", "seccomp"),
    ("oom score adj", "oom_score_adj"),
    ("unable to find group", "group_add"),
    ("uids and gids", "group_add"),
    ("invalid cgroup-parent", "cgroup_parent"),
    ("invalid host name", "hostname"),
    ("invalid volume specification", "volumes"),
    ("local volume name", "volumes"),
    ("bind mounts of", "volumes"),
    ("rules about devices", "device_rules"),
    ("device /", "devices"),
    ("cannot mount volume", "volumes"),
    ("--storage-opt", "layer_size"),
    ("host's network", "network"),
    ("cannot be mounted", "tmpfs"),
    ("destination can't be", "tmpfs"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that are folded away together; ``filled`` of them say something."""

    title: Any
    fields: list[forms.BoundField]
    filled: int
    failed: bool


class RunForm(ResourceFields):
    """``docker run -d``: the few fields that most containers need, and in groups all others."""

    image = said(forms.CharField, _("Image"), "", "image", max_length=400)
    name = said(forms.CharField, _("Name"), "--name", max_length=200, hint=_("Empty: a name is made up."))
    command = said(WordsField, _("Command"), "", "command", hint=_("Empty: what the image says."))
    env = said(PairsField, _("Variables"), "-e", "lines", like="NAME=value", hint=_("One a line."))
    network = said(forms.ChoiceField, _("Network"), "--network", "network")
    ports = said(
        PortsField,
        _("Ports"),
        "-p",
        "lines",
        like="8080:80",
        hint=_("Of the host, and of the container. One a line; also 127.0.0.1:5353:53/udp."),
    )
    tty = said(forms.BooleanField, _("Terminal (-t)"), "-it", "switch")
    auto_remove = said(forms.BooleanField, _("Remove when it ends (--rm)"), "--rm", "switch")

    entrypoint = said(WordsField, _("Entrypoint"), "--entrypoint", "entrypoint", hint=_("Empty: what the image says."))
    working_dir = said(forms.CharField, _("Working folder"), "--workdir", like="/srv")
    user = said(forms.CharField, _("User"), "--user", like="1000:1000")
    group_add = said(LinesField, _("More groups"), "--group-add", "lines", like="audio")
    stop_signal = said(forms.CharField, _("Stop signal"), "--stop-signal", like="SIGTERM")
    stop_timeout_s = said(forms.IntegerField, _("Seconds until SIGKILL"), "--stop-timeout", like="10", hint=_("Negative: never."))
    init = said(forms.BooleanField, _("Init as process 1 (--init)"), "--init", "switch")
    open_stdin = said(forms.BooleanField, _("Standard input stays open (-i)"), "-i", "switch")

    health = said(
        forms.CharField, _("Health check"), "--health-cmd",
        hint=_("A shell command in the container; 0 says that all is well. Empty: the image's."),
    )  # fmt: skip
    health_interval = said(forms.FloatField, _("Seconds between checks"), "--health-interval", "seconds", like="30", min_value=0)
    health_timeout = said(forms.FloatField, _("Seconds a check may take"), "--health-timeout", "seconds", like="30", min_value=0)
    health_retries = said(forms.IntegerField, _("Failures until unhealthy"), "--health-retries", like="3", min_value=0)
    health_start_period = said(
        forms.FloatField, _("Start period, seconds"), "--health-start-period", "seconds", like="0", min_value=0,
        hint=_("Failures do not count meanwhile."),
    )  # fmt: skip
    health_start_interval = said(
        forms.FloatField, _("Seconds between checks at the start"), "--health-start-interval", "seconds", like="5", min_value=0
    )
    restart_when_unhealthy = said(forms.BooleanField, _("Restart when unhealthy"), "-l slipway.restart-unhealthy=true", "switch")

    shm_size = said(SizeField, _("Shared memory (/dev/shm)"), "--shm-size", "size", like="64m")
    layer_size = said(
        SizeField, _("Disk, at most"), "--storage-opt size", "option", like="10g", hint=_("What it may write beside its volumes.")
    )
    pids_limit = said(forms.IntegerField, _("Processes, at most"), "--pids-limit", like="100", min_value=0)
    cpu_shares = said(
        forms.IntegerField, _("CPU weight"), "--cpu-shares", like="1024", min_value=0,
        hint=_("1024 is everybody's; counts when CPUs are short."),
    )  # fmt: skip
    memory_swappiness = said(
        forms.IntegerField, _("Swappiness"), "--memory-swappiness", like="60", hint=_("0 to 100; cgroup version 1 alone.")
    )
    oom_score_adj = said(
        forms.IntegerField, _("OOM score"), "--oom-score-adj", like="0", hint=_("0 to 1000: how gladly it is killed when memory is short.")
    )
    ulimits = said(UlimitsField, _("Limits of a process"), "--ulimit", "lines", like="nofile=1024:4096")
    oom_kill_disable = said(forms.BooleanField, _("Out of memory it waits (cgroup version 1)"), "--oom-kill-disable", "switch")

    blkio_weight_device = said(RatesField, _("Weight by device"), "--blkio-weight-device", "lines", like="/dev/sda:200")
    blkio_read_bps = said(RatesField, _("Bytes read a second"), "--device-read-bps", "lines", like="/dev/sda:10m")
    blkio_write_bps = said(RatesField, _("Bytes written a second"), "--device-write-bps", "lines", like="/dev/sda:10m")
    blkio_read_iops = said(RatesField, _("Reads a second"), "--device-read-iops", "lines", like="/dev/sda:1000")
    blkio_write_iops = said(RatesField, _("Writes a second"), "--device-write-iops", "lines", like="/dev/sda:1000")

    volumes = said(LinesField, _("Volumes"), "-v", "lines", like="data:/var/lib/data")
    volumes_from = said(LinesField, _("Volumes of another container"), "--volumes-from", "lines", like="web:ro")
    tmpfs = said(TmpfsField, _("File systems in memory"), "--tmpfs", "lines", like="/tmp:size=64m,mode=1777")
    read_only = said(forms.BooleanField, _("Read-only file system"), "--read-only", "switch")

    privileged = said(forms.BooleanField, _("Privileged"), "--privileged", "switch")
    cap_add = said(LinesField, _("Capabilities added"), "--cap-add", "lines", like="NET_ADMIN")
    cap_drop = said(LinesField, _("Capabilities dropped"), "--cap-drop", "lines", like="ALL")
    sysctls = said(PairsField, _("Kernel settings"), "--sysctl", "lines", like="net.core.somaxconn=1024")
    seccomp = said(
        SeccompField, _("Seccomp profile"), "--security-opt", "seccomp", like='{"defaultAction": "SCMP_ACT_ALLOW", …}',
        hint=_("JSON in Docker's form, laid over the platform's own; or unconfined, where it is granted."),
    )  # fmt: skip
    devices = said(DevicesField, _("Devices"), "--device", "lines", like="/dev/fuse", hint=_("Those that the operator granted."))
    device_rules = said(LinesField, _("Device rules"), "--device-cgroup-rule", "lines", like="c 10:229 rwm")
    no_new_privileges = said(forms.BooleanField, _("No new privileges"), "--security-opt no-new-privileges", "switch")

    networks = said(EndpointsField, _("More networks"), "--network", "lines", like="backend")
    aliases = said(LinesField, _("Other names in the network"), "--network-alias", "lines", like="db", hint=_("In networks of your own."))
    ip_address = said(
        forms.CharField, _("Address"), "--ip", like="172.28.0.7", hint=_("In a network of your own with a subnet that you chose.")
    )
    ipv6_address = said(forms.CharField, _("IPv6 address"), "--ip6", like="fd00:7::7", hint=_("The same of IPv6."))
    mac_address = said(forms.CharField, _("MAC address"), "--mac-address", like="02:42:ac:1c:00:07")
    links = said(LinesField, _("Links"), "--link", "lines", like="db:store", hint=_("Names by which it alone knows others."))
    expose = said(LinesField, _("Ports that are exposed"), "--expose", "lines", like="9000/udp")
    publish_all = said(forms.BooleanField, _("Publish all exposed ports (-P)"), "-P", "switch")

    hostname = said(forms.CharField, _("Host name"), "--hostname", like="web-1")
    domainname = said(forms.CharField, _("Domain name"), "--domainname", like="example.org")
    extra_hosts = said(LinesField, _("More hosts"), "--add-host", "lines", like="db:10.0.0.7")
    dns = said(LinesField, _("DNS servers"), "--dns", "lines", like="10.0.0.53")
    dns_search = said(LinesField, _("DNS search domains"), "--dns-search", "lines", like="example.org")
    dns_options = said(LinesField, _("DNS options"), "--dns-option", "lines", like="ndots:2")

    ipc_mode = said(forms.ChoiceField, _("IPC"), "--ipc")
    pid_mode = said(forms.ChoiceField, _("Process numbers"), "--pid")
    uts_mode = said(forms.ChoiceField, _("Host name of"), "--uts")
    cgroup_parent = said(forms.CharField, _("Parent cgroup"), "--cgroup-parent", like="batch", hint=_("Below the tenant's own."))

    log_driver = said(
        forms.ChoiceField, _("Log driver"), "--log-driver",
        choices=[("json-file", "json-file"), ("local", "local"), ("none", _("none: only attached clients see the output"))],
    )  # fmt: skip
    log_options = said(PairsField, _("Log options"), "--log-opt", "lines", like="max-size=10m")

    labels = said(PairsField, _("Labels"), "-l", "lines", like="team=shop")
    annotations = said(PairsField, _("Annotations"), "--annotation", "lines", like="owner=anna")

    BASIC: Final = (
        "image", "name", "command", "env", "network", "ports", "volumes", "memory", "cpus", "restart_policy", "restart_max_retries", "tty",
        "auto_remove",
    )  # fmt: skip
    GROUPS: Final = (
        (_("Process"), "entrypoint working_dir user group_add stop_signal stop_timeout_s init open_stdin"),
        (
            _("Health"),
            "health health_interval health_timeout health_retries health_start_period health_start_interval restart_when_unhealthy",
        ),
        (
            _("Memory and CPU"),
            "memory_reservation memory_swap shm_size pids_limit cpu_shares cpuset_cpus cpuset_mems cpu_period_us cpu_quota_us "
            "memory_swappiness oom_score_adj ulimits oom_kill_disable",
        ),
        (
            _("Disk"),
            "blkio_weight blkio_weight_device blkio_read_bps blkio_write_bps blkio_read_iops blkio_write_iops tmpfs volumes_from "
            "read_only layer_size",
        ),
        (_("Privileges and devices"), "privileged cap_add cap_drop sysctls seccomp devices device_rules no_new_privileges"),
        (_("Network"), "networks aliases ip_address ipv6_address mac_address links expose publish_all"),
        (_("Names and addresses"), "hostname domainname extra_hosts dns dns_search dns_options"),
        (_("Shared with other containers"), "ipc_mode pid_mode uts_mode cgroup_parent"),
        (_("Log"), "log_driver log_options"),
        (_("Labels"), "labels annotations"),
    )

    def __init__(self, *args: Any, containers: list[str], networks: Sequence[str] = (), **kwargs: Any) -> None:
        """``containers``: names of those whose namespaces may be shared; ``networks``: names of the tenant's own."""
        super().__init__(*args, **kwargs)
        dress(self)
        self.fields["image"].required = True
        self.fields["image"].widget.attrs |= {"list": "images", "autofocus": True}
        others = [(f"container:{name}", _("%(name)s’s") % {"name": name}) for name in containers]
        own = [("", _("its own")), *others]
        self.fields["network"].choices = [  # type: ignore[attr-defined]
            ("bridge", _("bridge: the tenant's own")), *((name, name) for name in networks), ("none", _("none")), *others,
        ]  # fmt: skip
        self.fields["ipc_mode"].choices = [  # type: ignore[attr-defined]
            own[0], ("shareable", _("its own, and others may share it")), ("none", _("none")), *others,
        ]  # fmt: skip
        for name in ("pid_mode", "uts_mode"):
            self.fields[name].choices = own  # type: ignore[attr-defined]

    @property
    def basic(self) -> list[forms.BoundField]:
        return [self[name] for name in self.BASIC]

    @property
    def groups(self) -> list[Group]:
        found = []
        for title, names in self.GROUPS:
            fields = [self[name] for name in names.split()]
            filled = sum(bool(self.data.get(field.name)) and not _is_first_choice(field) for field in fields)
            found.append(Group(title, fields, filled, any(field.errors for field in fields)))
        return found

    def to_docker(self, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The body of ``POST /containers/create`` that REST makes of the same words; ``without`` some fields."""
        filled = {name: value for name, value in self.cleaned_data.items() if name not in without}
        given = {name: value for name, value in filled.items() if value is not None and value is not False and value not in ("", [], {})}
        words = {name: value for name, value in given.items() if name in ContainerIn.model_fields}
        words["image"] = self.cleaned_data["image"]
        for member, names in (("health", _HEALTH), ("log", _LOG)):
            if inner := {key: given[name] for name, key in names.items() if name in given}:
                words[member] = inner
        if words.get("tty"):
            words["open_stdin"] = True  # as -it has it
        return to_docker(ContainerIn.model_validate(words))

    def blame(self, refusal: EngineError, machine: Machine, references: References | None = None) -> None:
        """Puts a refusal beside its field, and whatever else is wrong beside its own; what no field is to blame for, above all."""
        guilty: set[str] = set()
        while (said_of := self._refusal(frozenset(guilty), machine, references)) is not None:
            name = self._cause(said_of.message, frozenset(guilty), machine, references)
            if name is None:
                break
            self.add_error(name, said_of.message)
            guilty.add(name)
        if not guilty:
            by_words = next((field for words, field in _SENTENCES if words in refusal.message), None)
            field = _RULES.get(str(refusal.detail.get("rule")), by_words)
            self.add_error(field if field and self.cleaned_data.get(field) else None, refusal.message)

    def _refusal(self, without: frozenset[str], machine: Machine, references: References | None) -> EngineError | None:
        try:
            body = self.to_docker(without)
            request.read(
                body, container_id="0" * 64, tenant="", name="", image_id="", image_config={"config": {"Cmd": ["sh"]}}, machine=machine,
                references=references,
            )  # fmt: skip
        except EngineError as error:
            return error
        return None

    def _cause(self, message: str, without: frozenset[str], machine: Machine, references: References | None) -> str | None:
        """The field without which all is well, or else without which this sentence does not come. The rarest first: it was meant less."""
        filled = [name for name in reversed(self.fields) if self.cleaned_data.get(name) and name not in without]
        others = {name: self._refusal(without | {name}, machine, references) for name in filled}
        well = (name for name, refusal in others.items() if refusal is None)
        changed = (name for name, refusal in others.items() if refusal is not None and refusal.message != message)
        return next(well, None) or next(changed, None)


def _is_first_choice(field: forms.BoundField) -> bool:
    choices = getattr(field.field, "choices", None)
    return bool(choices) and field.value() == choices[0][0]

"""What options of an NFS volume mean, which are refused, and what a grant has in it. Pure."""

from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.model.nfs import Export, parse_export, read
from engine.model.volume import VolumeSpec, check_volume


def options(o: str = "", device: str = ":/srv/a", kind: str = "nfs") -> dict[str, str]:
    return {"type": kind, "device": device, "o": f"addr=10.0.0.5,{o}" if o else "addr=10.0.0.5"}


@pytest.mark.parametrize(
    ("o", "versions", "settings"),
    [
        ("", ("4.2", "4.1", "4.0", "3"), ("soft", "timeo=100", "retrans=2")),
        ("vers=4", ("4.2", "4.1", "4.0"), ("soft", "timeo=100", "retrans=2")),
        ("nfsvers=4.1,async,tcp,nosuid", ("4.1",), ("soft", "timeo=100", "retrans=2")),
        ("vers=3,nolock,softerr,timeo=600,retrans=5", ("3",), ("nolock", "softerr", "timeo=600", "retrans=5")),
        ("vers=4,rsize=65536,sec=sys,noac", ("4.2", "4.1", "4.0"), ("soft", "rsize=65536", "sec=sys", "noac", "timeo=100", "retrans=2")),
    ],
)
def test_versions_and_settings(o: str, versions: tuple[str, ...], settings: tuple[str, ...]) -> None:
    share = read(options(o))
    assert (share.versions, share.settings, share.servers, share.path, share.port) == (versions, settings, ("10.0.0.5",), "/srv/a", 2049)


def test_of_two_that_gainsay_each_other_the_later_holds() -> None:
    assert read(options("ro")).read_only and not read(options("ro,rw")).read_only and not read(options("rw")).read_only
    assert read(options("noexec")).no_exec and not read(options("noexec,exec")).no_exec


def test_the_device() -> None:
    named = options(device="[FD00::5]:/srv//a/./b/")
    share = read({**named, "o": "addr=fd00::5"})
    assert (share.path, share.servers, str(share)) == ("/srv/a/b", ("fd00::5", "FD00::5"), "[fd00::5]:/srv/a/b")
    assert read(options(device=":/")).path == "/" and read(options(device=":/a.")).path == "/a."


@pytest.mark.parametrize(
    "o",
    [
        "hard", "context=x", "fsc", "fsc=x", "clientaddr=10.0.0.9", "nosharecache", "nconnect=16", "proto=udp", "proto=rdma", "vers=2",
        "vers=4.3", "timeo=1", "timeo=601", "retrans=99", "rsize=1", "port=0", "port=99999", "sec=krb5", "suid", "dev", "source=x:/y",
        "addr=10.0.0.6", "mountport=9", "lookupcache=maybe", "timeo=", "rsize=1k", "remount", "bind", "lookupcache",
    ],
)  # fmt: skip
def test_all_other_options_are_refused(o: str) -> None:
    with pytest.raises(InvalidArgument):
        read(options(o))


@pytest.mark.parametrize("device", ["/srv", ":srv", "a/b:/srv", ":/srv/../etc", ":/a\nb", ":/a\0b", ":/" + "a" * 200, "", "[x]:/srv"])
def test_devices_that_are_none(device: str) -> None:
    with pytest.raises(InvalidArgument):
        read(options(device=device))


def test_a_volume_is_checked_with_moby_s_rules_before() -> None:
    def check(options: dict[str, str]) -> None:
        check_volume(VolumeSpec(tenant="demo", name="shared", options=options))

    for kind in ("nfs", "nfs4"):
        check(options(kind=kind))
    for wrong, sentence in (
        ({"type": "nfs", "o": "addr=x"}, 'missing required option: "device"'),
        ({"type": "nfs", "device": ":/x"}, 'missing required option: an NFS volume names its server once, with "o=addr=SERVER"'),
        ({**options(), "size": "1g"}, "how much a volume on an NFS server may hold is that server's to say"),
        (options("hard"), "hard is not allowed"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            check(wrong)
        assert caught.value.message.startswith(f"create shared: {sentence}")


@pytest.mark.parametrize(
    ("words", "export"),
    [
        ("Files.example.org:/srv/a", Export(server="files.example.org", path="/srv/a")),
        ("10.0.0.5:/:ro", Export(server="10.0.0.5", path="/", read_only=True)),
        ("[fd00::5]:/srv/a/:ro,port=20049", Export(server="fd00::5", path="/srv/a", read_only=True, port=20049)),
        ("nas:/a:b:port=1", Export(server="nas", path="/a:b", port=1)),
    ],
)
def test_a_grant(words: str, export: Export) -> None:
    assert parse_export(words) == export == parse_export(str(export))


@pytest.mark.parametrize("words", ["", "nas", "nas:srv", ":/srv", "nas:/a/../b", "na s:/srv", "nas:/srv:port=0", "-x:/srv"])
def test_grants_that_are_none(words: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_export(words)


@pytest.mark.parametrize(
    ("o", "device", "inside"),
    [
        ("addr=nas", ":/srv/a", True),
        ("addr=10.0.0.5", ":/srv/a/deeper", True),
        ("addr=NAS", "10.0.0.5:/srv/a", True),
        ("addr=nas,mountaddr=10.0.0.5", ":/srv/a", True),
        ("addr=nas,mountaddr=10.0.0.6", ":/srv/a", False),
        ("addr=nas,mounthost=other", ":/srv/a", False),
        ("addr=nas", "other:/srv/a", False),
        ("addr=other", "nas:/srv/a", False),
        ("addr=nas", ":/srv/ab", False),
        ("addr=nas", ":/srv", False),
        ("addr=nas", ":/", False),
    ],
)
def test_what_a_grant_has_in_it(o: str, device: str, *, inside: bool) -> None:
    export = Export(server="nas", address="10.0.0.5", path="/srv/a")
    assert export.has(read({"type": "nfs", "o": o, "device": device})) is inside
    assert Export(server="nas", address="10.0.0.5", path="/").has(read({"type": "nfs", "o": "addr=nas", "device": ":/srv"}))
    assert export.below(read({"type": "nfs", "o": "addr=nas", "device": ":/srv/a/b/c"})) == "b/c"

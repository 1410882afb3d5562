from __future__ import annotations

import dataclasses
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.images import layers, streams
from engine.images.limits import DEFAULT
from engine.images.unpack import Unpacked, inherit, unpack
from tests.engine.images.archives import Member, device, fifo, file, folder, hard_link, symlink, tar

pytestmark = pytest.mark.requires("root")

Unpack = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Unpack:
    """Unpacks members into a new folder of its own."""

    def run(*members: Member, name: str = "diff", raw: bytes | None = None) -> Path:
        root = tmp_path / name
        root.mkdir()
        result(raw if raw is not None else tar(*members), root)
        return root

    return run


def result(data: bytes, root: Path) -> Unpacked:
    return unpack(streams.chunks(io.BytesIO(data)), root, DEFAULT)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# -- what has to be kept -----------------------------------------------------------------------------


@pytest.mark.guest
@pytest.mark.usefixtures("umask")
def test_owner_mode_and_time_are_kept_also_of_folders_that_were_filled_later(put: Unpack) -> None:
    root = put(
        folder("d", mode=0o2750, uid=7, gid=8, mtime=1000), file("d/su", b"x", mode=0o4755, uid=0, gid=8, mtime=2000),
        symlink("d/l", "/nowhere", uid=9, gid=9, mtime=3000), folder("./", mode=0o701, mtime=4000),
    )  # fmt: skip
    d, su, link = root / "d", root / "d/su", (root / "d/l").lstat()
    assert (mode(d), d.stat().st_uid, d.stat().st_gid, d.stat().st_mtime) == (0o2750, 7, 8, 1000)
    assert (mode(su), su.stat().st_uid, su.stat().st_gid, su.stat().st_mtime) == (0o4755, 0, 8, 2000)
    assert (link.st_uid, link.st_gid, link.st_mtime) == (9, 9, 3000)
    assert (mode(root), root.stat().st_mtime) == (0o701, 4000)


@pytest.mark.guest
def test_devices_fifos_and_hard_links_are_made_as_a_root_filesystem_needs_them(put: Unpack) -> None:
    root = put(
        device("dev/null", 1, 3, mode=0o666), device("dev/loop", 7, 200, kind=tarfile.BLKTYPE, gid=6), fifo("run/pipe"),
        file("a", b"one"), hard_link("b", "a"), hard_link("/sub/c", "/b"), symlink("s", "a"), hard_link("t", "s"),
    )  # fmt: skip
    null, loop = (root / "dev/null").stat(), (root / "dev/loop").stat()
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3) and mode(root / "dev/null") == 0o666
    assert stat.S_ISBLK(loop.st_mode) and loop.st_rdev == os.makedev(7, 200) and loop.st_gid == 6
    assert stat.S_ISFIFO((root / "run/pipe").stat().st_mode)
    assert (root / "a").stat().st_nlink == 3 and (root / "sub/c").read_bytes() == b"one"
    assert os.readlink(root / "t") == "a"


@pytest.mark.guest
def test_file_capabilities_and_user_xattrs_are_kept_others_are_not_an_images_to_set(put: Unpack) -> None:
    info, data = file("ping", b"x")
    version_2 = b"\x01\0\0\x02" + b"\0\x20\0\0" + bytes(12)
    version_3 = b"\x01\0\0\x03" + b"\0\x20\0\0" + bytes(12) + (100_000).to_bytes(4, "little")
    forbidden = {"trusted.overlay.redirect": "/etc", "security.selinux": "x", "user.overlay.opaque": "y", "trusted.note": "x"}
    info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in {"user.note": "n", **forbidden}.items()}
    other, _none = file("ping3", b"x")
    root = put((info, data), (other, data), raw=_with_capability(tar((info, data), (other, data)), version_2, version_3))
    assert os.getxattr(root / "ping", "security.capability") == version_2
    assert os.getxattr(root / "ping3", "security.capability") == version_3
    assert {*os.listxattr(root / "ping")} == {"user.note", "security.capability"}


def _with_capability(data: bytes, *values: bytes) -> bytes:
    """tarfile writes pax values as text only: the records are put in as bytes."""
    out = b""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member, value in zip(archive, values, strict=True):
            records = b"".join(_record(name.encode(), text.encode()) for name, text in member.pax_headers.items())
            records += _record(b"SCHILY.xattr.security.capability", value)
            head = tarfile.TarInfo("pax")
            head.type, head.size = tarfile.XHDTYPE, len(records)
            content = archive.extractfile(member)
            assert content is not None
            body = content.read()
            plain = tarfile.TarInfo(member.name)
            plain.size = len(body)
            for info, payload in ((head, records), (plain, body)):
                out += info.tobuf(tarfile.USTAR_FORMAT) + payload + bytes(-len(payload) % 512)
    return out + bytes(1024)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_what_gnu_tar_packs_of_a_system_folder_comes_out_the_same(tmp_path: Path, form: str) -> None:
    source, root = tmp_path / "source", tmp_path / "diff"
    source.mkdir()
    root.mkdir()
    subprocess.run(["cp", "-a", "/etc/alternatives", *Path("/usr/share/doc").glob("[a-c]*"), source], check=True)
    (source / "holes").write_bytes(b"start")
    os.truncate(source / "holes", 3_000_000)
    data = subprocess.run(["tar", f"--format={form}", "-S", "-C", source, "-c", "."], capture_output=True, check=True).stdout
    unpacked = result(data, root)
    rounding = 1 if form == "pax" else 1_000_000_000
    assert {name: _look(path, rounding) for name, path in _walk(root)} == {name: _look(path, rounding) for name, path in _walk(source)}
    assert (root / "holes").read_bytes() == (source / "holes").read_bytes()
    assert (root / "holes").stat().st_blocks < 100
    assert not unpacked.implied and unpacked.entries > 50


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    for folder_, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder_) / name
            yield str(path.relative_to(root)), path


def _look(path: Path, rounding: int) -> tuple[object, ...]:
    seen = path.lstat()
    content: object = None
    if path.is_symlink():
        content = os.readlink(path)
    elif path.is_file():
        content = path.read_bytes()
    return (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns // rounding, content)


# -- duplicates and clashes --------------------------------------------------------------------------


def test_of_two_entries_with_one_name_the_last_wins_whatever_their_kinds(put: Unpack) -> None:
    root = put(
        file("a", b"first"), file("a", b"last"), folder("b"), file("b/x"), file("b", b"file now"), symlink("c", "/etc"), folder("c"),
        file("c/inside"), file("d"), symlink("d", "a"), fifo("e"), file("e", b"e"), file("f", b"f"), hard_link("a", "f"),
        hard_link("f", "f"), folder("g", mode=0o700), file("g/kept"), folder("g", mode=0o711),
    )  # fmt: skip
    assert (root / "a").read_bytes() == b"f" and (root / "b").read_bytes() == b"file now"
    assert not (root / "c").is_symlink() and (root / "c/inside").exists()
    assert os.readlink(root / "d") == "a" and (root / "e").read_bytes() == b"e"
    assert mode(root / "g") == 0o711 and (root / "g/kept").exists()


def test_a_link_that_is_replaced_no_longer_leads_anywhere(put: Unpack) -> None:
    root = put(folder("real"), symlink("way", "real"), file("way/one"), folder("way"), file("way/two"))
    assert sorted(os.listdir(root / "real")) == ["one"] and sorted(os.listdir(root / "way")) == ["two"]


def test_a_dangling_link_on_the_way_is_followed_below_the_root(put: Unpack) -> None:
    root = put(symlink("var/run", "/run"), file("var/run/pid", b"1"), symlink("up", "../../../../deep/er"), file("up/x", b"2"))
    assert (root / "run/pid").read_bytes() == b"1" and (root / "deep/er/x").read_bytes() == b"2"
    assert os.readlink(root / "var/run") == "/run"


# -- nothing outside ---------------------------------------------------------------------------------

ESCAPES: dict[str, tuple[Member, ...]] = {
    "../evil": (file("../evil"),),
    "a/../../evil": (file("a/../../evil"),),
    "/../evil": (folder("/../evil"),),
    "link": (hard_link("link", "../outside"),),
    "deep/link": (hard_link("deep/link", "/../outside"),),
    "thief": (hard_link("thief", "/etc/shadow"),),
    "thief2": (symlink("way", "../../../../../etc"), hard_link("thief2", "way/shadow")),
    "thief3": (folder("dir"), hard_link("thief3", "dir")),
    "a/.wh...": (file("a/.wh..."),),
    ".wh.": (file(".wh."),),
    "x/y": (file("x"), file("x/y")),
    "empty": (symlink("empty", ""),),
    "bad": (device("bad", 5000, 1),),
    "rich": (file("rich", uid=65536),),
    "poor": (file("poor", gid=1 << 31),),
}


@pytest.mark.guest
@pytest.mark.parametrize("name", ESCAPES)
def test_entries_that_would_leave_the_tree_or_make_no_sense_are_named_in_the_error(tmp_path: Path, name: str) -> None:
    root = tmp_path / "around" / "diff"
    root.mkdir(parents=True)
    (root.parent / "outside").write_text("secret")
    with pytest.raises(InvalidArgument) as error:
        result(tar(*ESCAPES[name]), root)
    assert name in error.value.message or (name == "x/y" and "'x'" in error.value.message)
    assert sorted(os.listdir(root.parent)) == ["diff", "outside"]
    assert (root.parent / "outside").stat().st_nlink == 1


def test_ids_beyond_a_tenants_range_get_mobys_sentence(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(InvalidArgument, match="failed to register layer: container ID 65536 cannot be mapped to a host ID"):
        result(tar(file("f", uid=65536)), tmp_path / "d")


def test_links_lead_only_inside_and_absolute_names_start_at_the_root(put: Unpack, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = put(
        folder("etc"), symlink("out", str(outside)), symlink("up", "../outside"), symlink("etc/passwd", "/etc/passwd"),
        file("out/one", b"1"), file("up/two", b"2"), file("etc/passwd", b"mine"), file("/abs", b"3"), symlink("loop", "loop"),
        symlink("text", "../../../etc/shadow"),
    )  # fmt: skip
    assert list(outside.iterdir()) == []
    assert (root / f"{outside}/one".lstrip("/")).read_bytes() == b"1" and (root / "outside/two").read_bytes() == b"2"
    assert (root / "etc/passwd").read_bytes() == b"mine" and not (root / "etc/passwd").is_symlink()
    assert (root / "abs").read_bytes() == b"3" and os.readlink(root / "text") == "../../../etc/shadow"


def test_links_in_a_circle_on_the_way_are_an_error(tmp_path: Path) -> None:
    for number, members in enumerate(((symlink("a", "b"), symlink("b", "a"), file("a/x")), (symlink("a", "a/b"), file("a/x")))):
        root = tmp_path / str(number)
        root.mkdir()
        with pytest.raises(InvalidArgument):
            result(tar(*members), root)


def test_a_name_of_a_thousand_folders_is_made_and_one_too_long_for_the_kernel_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "diff"
    root.mkdir()
    unpacked = result(tar(file("d/" * 1000 + "f", b"deep")), root)
    assert len(unpacked.implied) == 1000
    with pytest.raises(InvalidArgument, match="File name too long"):
        result(tar(file("d/" * 2500 + "f")), root)
    subprocess.run(["rm", "-rf", root], check=True)


def test_limits_of_entries_are_kept(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(InvalidArgument, match="more than 2 entries"):
        unpack(
            streams.chunks(io.BytesIO(tar(file("1"), file("2"), file("3")))), tmp_path / "d", dataclasses.replace(DEFAULT, layer_entries=2)
        )


# -- layers on top of each other ---------------------------------------------------------------------


@pytest.mark.requires("overlay")
def test_whiteouts_hide_lower_layers_only_wherever_they_stand_in_the_archive(put: Unpack, tmp_path: Path) -> None:
    base = put(
        file("gone"), file("kept"), folder("dir"), file("dir/old"), folder("all"), file("all/old"), folder("again"), file("again/old"),
        file("both", b"old"),
        name="base",
    )  # fmt: skip
    changes = [
        file(".wh.gone"), file("dir/.wh.old"), file("all/new"), file("all/.wh..wh..opq"), file("again/new"), file(".wh.again"),
        file(".wh.both"), file("both", b"new"), file(".wh..wh.plnk"), file(".wh.never"),
    ]  # fmt: skip
    for name, order in (("forward", changes), ("backward", changes[::-1])):
        with overlay(tmp_path, [put(*order, name=name), base]) as merged:
            assert sorted(os.listdir(merged)) == ["again", "all", "both", "dir", "kept"], name
            assert os.listdir(merged / "all") == os.listdir(merged / "again") == ["new"], name
            assert os.listdir(merged / "dir") == [] and (merged / "both").read_bytes() == b"new", name


def test_a_folder_that_a_layer_only_implies_looks_as_below(put: Unpack, tmp_path: Path) -> None:
    base = put(folder("tmp", mode=0o1777, uid=3, mtime=77), folder("srv", mode=0o700), name="base")
    middle = put(file("other"), name="middle")
    top = tmp_path / "top"
    top.mkdir()
    unpacked = result(tar(file("tmp/new"), file("srv/x"), file("srv/.wh..wh..opq"), file("own/x")), top)
    inherit(top, unpacked.implied, [middle, base])
    assert (mode(top / "tmp"), (top / "tmp").stat().st_uid, (top / "tmp").stat().st_mtime) == (0o1777, 3, 77)
    assert mode(top / "srv") == mode(top / "own") == 0o755  # replaced, not changed


def overlay(tmp_path: Path, lowers: list[Path]) -> _Overlay:
    return _Overlay(tmp_path / "merged", lowers)


class _Overlay:
    def __init__(self, at: Path, lowers: list[Path]) -> None:
        self._at, self._lowers = at, lowers

    def __enter__(self) -> Path:
        self._at.mkdir(exist_ok=True)
        options = "lowerdir=" + ":".join(str(lower) for lower in self._lowers)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self._at], check=True)
        return self._at

    def __exit__(self, *_error: object) -> None:
        subprocess.run(["umount", self._at], check=True)


def test_chain_ids_follow_the_image_spec() -> None:
    a, b, c = (f"sha256:{letter * 64}" for letter in "abc")
    first, second, third = layers.chain_ids([a, b, c])
    assert first == "a" * 64
    assert second == layers.chain_ids([f"sha256:{first}", b])[1] and third == layers.chain_ids([f"sha256:{second}", c])[1]
    assert layers.chain_ids([]) == []

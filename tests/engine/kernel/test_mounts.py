from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from engine.kernel import capabilities, mounts, namespaces, syscalls
from engine.kernel.mounts import Options, parse_options
from engine.kernel.syscalls import MS

pytestmark = pytest.mark.guest

START = 1_879_048_192


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], Options(0, 0, "")),
        (["nosuid", "nodev", "size=1m", "mode=755"], Options(MS.NOSUID | MS.NODEV, 0, "size=1m,mode=755")),
        (["ro", "rw", "noexec", "exec"], Options(0, 0, "")),
        (["rbind", "rprivate"], Options(MS.BIND | MS.REC, MS.PRIVATE | MS.REC, "")),
        (["", "defaults"], Options(0, 0, "")),
    ],
)
def test_mount_options_are_flags_propagation_and_the_rest(words: list[str], options: Options) -> None:
    assert parse_options(words) == options


def in_child(act) -> None:  # type: ignore[no-untyped-def]
    """In a mount namespace that goes with its process; the child's traceback is pytest's captured output."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            capabilities.keep_on_setfsuid()
            mounts.private_namespace()
            act()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.requires("root", "overlay", "userns", kernel="5.19")
@pytest.mark.parametrize("layers", [1, 300])
def test_an_overlay_through_an_id_mapped_clone_belongs_to_the_tenant(tmp_path: Path, layers: int) -> None:
    store, seen = tmp_path / "store", tmp_path / "seen"
    for name in ("upper", "work", *(f"l{number}" for number in range(layers))):
        (store / name).mkdir(parents=True)
    (store / "l0" / "file").write_text("from below")
    seen.mkdir()
    store.chmod(0o700)

    def act() -> None:
        userns = namespaces.user_namespace([(0, START, 65536)], [(0, START, 65536)])
        clone = mounts.idmapped_clone(str(store), userns)
        mounts.attach(clone, str(seen))
        assert os.stat(seen).st_uid == START

        def opened(name: str) -> int:
            return os.open(seen / name, os.O_PATH)

        with mounts.files_owned_by(START, START):
            root = mounts.overlay([opened(f"l{number}") for number in range(layers)], opened("upper"), opened("work"))
        os.fchdir(root)
        assert os.stat("file").st_uid == START
        assert Path("file").read_text() == "from below"
        with mounts.files_owned_by(START, START):
            Path("new").write_text("above")
        assert os.stat("new").st_uid == START

    in_child(act)
    assert os.stat(store / "upper" / "new").st_uid == 0, "on disk it has the container's own id"
    assert list((store / "upper").iterdir()) == [store / "upper" / "new"]


@pytest.mark.requires("root", "overlay")
def test_more_layers_than_the_kernel_takes_are_an_error_not_fewer_layers(tmp_path: Path) -> None:
    for name in ("upper", "work", *(f"l{number}" for number in range(501))):
        (tmp_path / name).mkdir()

    def act() -> None:
        with pytest.raises(OSError):
            fds = [os.open(tmp_path / f"l{number}", os.O_PATH) for number in range(501)]
            mounts.overlay(fds, os.open(tmp_path / "upper", os.O_PATH), os.open(tmp_path / "work", os.O_PATH))

    in_child(act)


@pytest.mark.requires("root")
def test_masks_hide_files_and_folders_and_pass_over_missing_ones(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("secret")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").touch()

    def act() -> None:
        mounts.mask([str(tmp_path / name) for name in ("file", "missing", "one", "file/below", "two")])
        assert (tmp_path / "file").read_text() == ""
        for name in ("one", "two"):
            assert list((tmp_path / name).iterdir()) == []
            with pytest.raises(OSError):
                (tmp_path / name / "x").touch()

    in_child(act)
    assert (tmp_path / "file").read_text() == "secret"


@pytest.mark.requires("root")
def test_a_private_namespace_shows_nothing_to_the_outside(tmp_path: Path) -> None:
    def act() -> None:
        syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
        (tmp_path / "inside").touch()

    in_child(act)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requires("root")
def test_what_a_killed_launcher_left_attached_goes() -> None:
    def act() -> None:
        place = f"/tmp/slipway-{secrets.token_hex(8)}"
        Path(place).mkdir()
        syscalls.mount("tmpfs", place, "tmpfs")
        mounts.clear_places()
        assert not os.path.exists(place)

    in_child(act)

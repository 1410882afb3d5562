from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import disk
from engine.config import PUBLIC_TENANT
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.images import demo
from engine.images.store import ImageStore
from tests.engine.images.archives import docker_archive, file, image_config, tar
from tests.engine.images.conftest import leftovers

pytestmark = pytest.mark.requires("root")

BASE, ONE, TWO = (tar(file(name, name.encode())) for name in ("base", "one", "two"))
Load = Callable[..., list[str]]
Remove = Callable[..., dict[str, list[str]]]
CONTAINER = "c0ffee" * 10 + "0123"


@pytest.fixture
def remove(store: ImageStore) -> Remove:
    def run(name: str, tenant: str = "alice", *, force: bool = False, used: bool = False, running: bool = False) -> dict[str, list[str]]:
        containers = [CONTAINER] if used or running else []
        done = store.remove(
            tenant, name, force=force, in_use=lambda _image: containers, running=lambda _image: containers if running else []
        )
        assert set(done.pop("images")) <= set(done["deleted"]) or not done["deleted"]
        return done

    return run


# -- finding -----------------------------------------------------------------------------------------


@pytest.mark.guest
def test_an_image_is_found_by_name_id_and_unique_start_of_its_id(store: ImageStore, load: Load) -> None:
    [one] = load(docker_archive([ONE], ["app:1"]))
    [two] = load(docker_archive([TWO], ["docker.io/library/app"]))
    for name in ("app:1", "docker.io/library/app:1", one, one[7:], one[7:19], one[:20]):
        assert store.resolve("alice", name).id == one
    assert store.resolve("alice", "app").id == two
    common = next(length for length in range(1, 64) if one[7 : 7 + length] != two[7 : 7 + length]) - 1
    if common:
        with pytest.raises(NotFound):
            store.resolve("alice", one[7 : 7 + common])


@pytest.mark.parametrize(("name", "sentence"), [
    ("app", "No such image: app:latest"), ("app:9", "No such image: app:9"), ("host:5000/a/b", "No such image: host:5000/a/b:latest"),
    ("f" * 64, f"No such image: {'f' * 64}"), ("abc", "No such image: abc:latest"), ("sha256:" + "0" * 64, "No such image: sha256:0000"),
])  # fmt: skip
def test_an_unknown_image_is_told_in_dockers_words(store: ImageStore, name: str, sentence: str) -> None:
    with pytest.raises(NotFound, match=sentence):
        store.resolve("alice", name)


def test_what_is_no_name_is_invalid(store: ImageStore) -> None:
    for name in ("", "UPPER", "a b", "../x", "a:b:c"):
        with pytest.raises(InvalidArgument):
            store.resolve("alice", name)


def test_tenants_see_their_own_and_public_images_only(store: ImageStore, load: Load) -> None:
    [own] = load(docker_archive([BASE, ONE], ["app"]))
    [public] = load(docker_archive([BASE], ["base"]), tenant=PUBLIC_TENANT)
    assert {record.id: names for record, names in store.list("alice")} == {own: ["app:latest"], public: ["base:latest"]}
    assert [record.id for record, _names in store.list("bob")] == [public]
    for name in ("app", own, own[7:19]):
        with pytest.raises(NotFound):
            store.resolve("bob", name)
        with pytest.raises(NotFound):
            store.tag("bob", name, "mine")
    assert store.refs("bob") == {} and store.is_public(public) and not store.is_public(own)


def test_an_own_name_comes_before_the_public_one(store: ImageStore, load: Load) -> None:
    [public] = load(docker_archive([BASE], ["busybox"]), tenant=PUBLIC_TENANT)
    [own] = load(docker_archive([ONE], ["busybox"]))
    assert store.resolve("alice", "busybox").id == own and store.resolve("bob", "busybox").id == public
    assert {record.id: names for record, names in store.list("alice")} == {own: ["busybox:latest"], public: []}


def test_a_tag_moves_and_never_names_a_digest(store: ImageStore, load: Load) -> None:
    [one] = load(docker_archive([ONE], ["app:1"]))
    [two] = load(docker_archive([TWO], ["app:2"]))
    assert store.tag("alice", one, "docker.io/library/live") == "live:latest"
    store.tag("alice", two, "live")
    assert store.refs("alice") == {"app:1": one, "app:2": two, "live:latest": two}
    with pytest.raises(InvalidArgument, match="digest reference"):
        store.tag("alice", one, "app@sha256:" + "0" * 64)
    with pytest.raises(InvalidArgument, match="must be lowercase"):
        store.tag("alice", one, "App")


# -- removing ----------------------------------------------------------------------------------------


@pytest.mark.guest
def test_the_last_name_takes_the_image_and_its_own_layers_along(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([BASE, ONE], ["app:1"]))
    load(docker_archive([BASE, TWO], ["app:2"]))
    top = store.get(one).chain_ids[1]
    assert remove("app:1") == {"untagged": ["app:1"], "deleted": [one, f"sha256:{top}"]}
    assert len(list(store.config.layers.iterdir())) == 2 and len(list(store.config.blobs.iterdir())) == 3
    remove("app:2")
    assert leftovers(store) == []
    _wait_for_empty(store.config.trash)


def test_one_of_two_names_only_goes_itself(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["app:1", "app:2"]))
    assert remove("app:1", used=True) == {"untagged": ["app:1"], "deleted": []}
    assert store.refs("alice") == {"app:2": one}


def test_by_id_with_two_names_it_takes_force(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["a", "b"]))
    sentence = rf"^conflict: unable to delete {one[7:19]} \(must be forced\) - image is referenced in multiple repositories$"
    with pytest.raises(FailedPrecondition, match=sentence):
        remove(one[7:19])
    assert remove(one, force=True)["untagged"] == ["a:latest", "b:latest"]
    assert leftovers(store) == []


def test_an_image_that_a_stopped_container_uses_takes_force(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["app"]))
    with pytest.raises(FailedPrecondition) as by_name:
        remove("app", used=True)
    assert by_name.value.message == (
        'conflict: unable to remove repository reference "app" (must force) - '
        f"container c0ffeec0ffee is using its referenced image {one[7:19]}"
    )
    with pytest.raises(FailedPrecondition) as by_id:
        remove(one, used=True)
    assert by_id.value.message == (
        f"conflict: unable to delete {one[7:19]} (must be forced) - image is being used by stopped container c0ffeec0ffee"
    )
    assert store.refs("alice") == {"app:latest": one}
    assert remove("app", used=True, force=True)["deleted"][0] == one


def test_an_image_that_a_running_container_uses_stays_also_when_forced(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["app"]))
    with pytest.raises(FailedPrecondition) as error:
        remove(one, running=True, force=True)
    assert error.value.message == (
        f"conflict: unable to delete {one[7:19]} (cannot be forced) - image is being used by running container c0ffeec0ffee"
    )
    assert remove("app", running=True, force=True) == {"untagged": ["app:latest"], "deleted": []}
    assert store.resolve("alice", one).id == one  # without a name, as dockerd leaves it


def test_bytes_that_a_container_of_anybody_needs_stay_until_it_is_gone(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["app"]), tenant=PUBLIC_TENANT)
    spec = store.config.container(CONTAINER) / "spec.json"
    spec.parent.mkdir(parents=True)
    disk.write_json(spec, {"id": CONTAINER, "tenant": "bob", "image_id": one})
    assert remove("app", tenant=PUBLIC_TENANT)["deleted"][0] == one
    assert (store.config.engine / store.lower_dirs(store.get(one))[0] / "one").exists()
    with pytest.raises(NotFound):
        store.resolve("bob", "app")
    spec.unlink()
    store.recover()
    assert leftovers(store) == []


def test_another_tenant_keeps_what_it_brought_itself_and_nobody_hears_of_it(store: ImageStore, load: Load, remove: Remove) -> None:
    archive = docker_archive([ONE], ["app"])
    [one] = load(archive)
    load(archive, tenant="bob")
    alone = remove("app")
    assert alone["deleted"] == [one, f"sha256:{store.get(one).chain_ids[0]}"]
    assert store.resolve("bob", "app").id == one
    assert remove("app", tenant="bob") == alone
    assert leftovers(store) == []


def test_a_public_image_is_the_operators_to_remove_a_tenants_own_name_for_it_is_not(store: ImageStore, load: Load, remove: Remove) -> None:
    [one] = load(docker_archive([ONE], ["busybox"]), tenant=PUBLIC_TENANT)
    for name in ("busybox", one, one[7:19]):
        with pytest.raises(PermissionDenied, match="only the host's operator can remove it"):
            remove(name, force=True)
    store.tag("alice", "busybox", "mine")
    assert remove("mine") == {"untagged": ["mine:latest"], "deleted": []}
    assert store.resolve("alice", "busybox").id == one


def test_the_end_of_a_tenant_takes_its_images_along(store: ImageStore, load: Load) -> None:
    load(docker_archive([BASE, ONE], ["app"]))
    [kept] = load(docker_archive([BASE], ["base"]), tenant="bob")
    store.forget_tenant("alice")
    assert store.list("alice") == [] and store.resolve("bob", "base").id == kept
    assert len(list(store.config.layers.iterdir())) == 1
    store.forget_tenant("alice")


# -- the demo image and writable layers --------------------------------------------------------------


@pytest.mark.guest
def test_the_demo_image_is_public_the_same_every_time_and_runs(store: ImageStore) -> None:
    image_id = demo.load(store)
    assert demo.load(store) == image_id
    record = store.resolve("anybody", "busybox")
    assert record.id == image_id and record.config["config"]["Cmd"] == ["sh"]
    root = store.config.engine / store.lower_dirs(record)[0]
    assert (root / "bin/sh").is_symlink() and (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    passwd = (root / "etc/passwd").read_text().splitlines()
    assert passwd[0] == "root:x:0:0:root:/root:/bin/sh" and "nobody:x:65534:65534:nobody:/home:/bin/false" in passwd


def _wait_for_empty(trash: Path) -> None:
    deadline = time.monotonic() + 30
    while any(trash.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("tenant", ["../../../tmp/x", "..", "", "a/b", "demo\n"])
def test_no_path_is_made_of_what_is_no_tenant(store: ImageStore, tenant: str) -> None:
    with pytest.raises(InvalidArgument):
        store.refs(tenant)


def test_a_name_of_ones_own_for_a_public_image_goes_though_a_container_uses_it(store: ImageStore, load: Load, remove: Remove) -> None:
    [image_id] = load(docker_archive([ONE], ["app:1"]), PUBLIC_TENANT)
    store.tag("alice", "app:1", "mine:1")
    assert remove("mine:1", running=True) == {"untagged": ["mine:1"], "deleted": []}
    assert store.resolve("alice", "app:1").id == image_id
    assert store.refs_of.read("alice").images == set()


# -- what is made from what --------------------------------------------------------------------------


def _child(parent: str, *layers: bytes, names: list[str] | None = None) -> bytes:
    """An archive of an image that was committed from ``parent``."""
    config = json.loads(image_config(layers))
    data = json.dumps({**config, "parent": parent}).encode()
    files = {f"{number}.tar": layer for number, layer in enumerate(layers)}
    manifest = [{"Config": "c.json", "RepoTags": names, "Layers": list(files)}]
    return tar(
        *(file(name, content) for name, content in {**files, "c.json": data, "manifest.json": json.dumps(manifest).encode()}.items())
    )


def test_an_image_that_others_were_made_from_stays_also_when_forced(load: Load, remove: Remove, store: ImageStore) -> None:
    [base] = load(docker_archive([BASE], ["base:1"]))
    load(_child(base, BASE, ONE, names=["child:1"]))
    sentence = rf"unable to delete {base[7:19]} \(cannot be forced\) - image has dependent child images"
    for force in (False, True):
        with pytest.raises(FailedPrecondition, match=sentence):
            remove(base[7:19], force=force)
    assert remove("base:1") == {"untagged": ["base:1"], "deleted": []}  # its name goes, as dockerd does it
    assert store.resolve("alice", base).id == base


def test_what_an_image_was_made_from_goes_with_it_unless_something_needs_it(load: Load, remove: Remove, store: ImageStore) -> None:
    [base] = load(docker_archive([BASE], None))
    [middle] = load(_child(base, BASE, ONE))
    [top] = load(_child(middle, BASE, ONE, TWO, names=["top:1"]))
    done = remove("top:1")
    assert done["untagged"] == ["top:1"] and [each for each in done["deleted"] if each in (base, middle, top)] == [top, middle, base]
    assert store.list("alice") == []
    [base] = load(docker_archive([BASE], ["base:1"]))
    load(_child(base, BASE, ONE, names=["child:1"]))
    remove("child:1")
    assert store.resolve("alice", "base:1").id == base  # it has a name


def test_without_pruning_what_an_image_was_made_from_stays(store: ImageStore, load: Load) -> None:
    [base] = load(docker_archive([BASE], None))
    load(_child(base, BASE, ONE, names=["child:1"]))
    store.remove("alice", "child:1", prune=False, in_use=lambda _image: [])
    assert [record.id for record, _names in store.list("alice")] == [base]


def test_digests_of_a_repository_go_with_its_last_tag(load: Load, remove: Remove, store: ImageStore) -> None:
    [one] = load(docker_archive([ONE], ["app:1"]))
    with store.lock():
        holding = store.refs_of.read("alice")
        holding.names[f"app@sha256:{'ab' * 32}"] = one
        store.refs_of.write("alice", holding)
    done = remove("app:1")
    assert done["untagged"] == ["app:1", f"app@sha256:{'ab' * 32}"] and done["deleted"][0] == one
    assert store.list("alice") == []


def test_pruning_takes_what_nothing_needs(store: ImageStore, load: Load) -> None:
    [nameless] = load(docker_archive([BASE, ONE], None))
    [named_] = load(docker_archive([BASE, TWO], ["app:1", "app:2"]))
    [used] = load(docker_archive([ONE, TWO], ["used:1"]))
    in_use: Callable[[str], list[str]] = lambda image_id: [CONTAINER] if image_id == used else []  # noqa: E731
    everything = [nameless, named_, used]
    done = store.prune("alice", everything, named=False, in_use=in_use)
    assert (done["untagged"], done["images"]) == ({}, [nameless]) and done["bytes"] == len(b"one")
    assert nameless in done["deleted"]
    done = store.prune("alice", everything, named=True, in_use=in_use)
    assert done["untagged"] == {"app:1": named_, "app:2": named_} and done["images"] == [named_]
    assert [record.id for record, _names in store.list("alice")] == [used]
    assert store.prune("bob", everything, named=True, in_use=in_use)["images"] == []


def test_pruning_takes_a_digest_along_with_its_tag(store: ImageStore, load: Load) -> None:
    [one] = load(docker_archive([ONE], ["app:1"]))
    with store.lock():
        holding = store.refs_of.read("alice")
        holding.names[f"app@sha256:{'ab' * 32}"] = one
        store.refs_of.write("alice", holding)
    done = store.prune("alice", [one], named=True, in_use=lambda _image: [])
    assert done["untagged"] == {"app:1": one, f"app@sha256:{'ab' * 32}": one} and done["images"] == [one]

"""What one can ask of a container from its pages: every option of a run, new limits, files in and out, a new name, an image of it."""

from __future__ import annotations

import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.support.platform import Platform
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]

# a field of the form → what is written into it
RARE = {
    "entrypoint": "sh -c", "working_dir": "/tmp", "user": "65534:65534", "group_add": "10\n20", "stop_signal": "SIGINT",
    "stop_timeout_s": "3", "health": "test -e /", "health_interval": "1.5", "health_timeout": "2", "health_retries": "4",
    "health_start_period": "5", "health_start_interval": "1", "memory_reservation": "32 MiB", "memory_swap": "96m", "shm_size": "1m",
    "layer_size": "16777216",
    "pids_limit": "40", "cpu_shares": "512", "cpuset_cpus": "0", "cpuset_mems": "0", "oom_score_adj": "5",
    "ulimits": "nofile=64:128\ncore=0", "blkio_weight": "300", "tmpfs": "/tmp:size=1m,mode=1777\n/run", "cap_add": "NET_ADMIN",
    "cap_drop": "MKNOD\nCHOWN", "sysctls": "net.core.somaxconn=99", "hostname": "box", "domainname": "example.org",
    "extra_hosts": "db:10.0.0.7", "dns": "10.0.0.53", "dns_search": "example.org", "dns_options": "ndots:2", "cgroup_parent": "batch",
    "log_options": "max-size=1m\nmax-file=3", "labels": "a=b c\nd=", "annotations": "note=x y",
}  # fmt: skip
CHOSEN = {"restart_policy": "on-failure", "ipc_mode": "shareable", "log_driver": "local"}
TICKED = ("init", "open_stdin", "read_only", "no_new_privileges", "restart_when_unhealthy")


def made(platform: Platform, name: str) -> dict[str, Any]:
    """Everything that ``docker inspect`` says was asked for, without what the client says of itself and how it sorts and spells."""
    found = json.loads(platform.docker("inspect", name).stdout)[0]
    config, host = found["Config"], {key: value or None for key, value in found["HostConfig"].items()}
    for own in ("AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"):
        config.pop(own)
    host.pop("ConsoleSize")
    config["Env"].sort()
    host["Ulimits"] = sorted((each["Name"], each["Soft"], each["Hard"]) for each in host["Ulimits"] or ())
    for member in ("CapAdd", "CapDrop"):
        host[member] = sorted(each.removeprefix("CAP_") for each in host[member] or ())
    args = [*(config.pop("Entrypoint") or ()), *(config.pop("Cmd") or ())]  # the client's --entrypoint takes one word
    return {"args": args, "config": config, "host": host}


def open_groups(page: Page) -> None:
    for summary in page.locator("details.form-group > summary").all():
        summary.click()


def test_every_option_of_the_form_is_one_of_docker_run(anna: Visitor, platform: Platform) -> None:
    platform.manage("tenant", "policy", "demo", "--allow", "capabilities=NET_ADMIN")
    page = anna.goto("containers/run")
    open_groups(page)
    page.locator("[name=image]").fill("busybox:latest")
    page.locator("[name=name]").fill("spoken")
    page.locator("[name=command]").fill("'while :; do sleep 1; done'")
    page.locator("[name=memory]").fill("64m")
    page.locator("[name=restart_max_retries]").fill("3")
    for name, words in RARE.items():
        page.locator(f"[name={name}]").fill(words)
    for name, word in CHOSEN.items():
        page.locator(f"[name={name}]").select_option(word)
    for name in TICKED:
        page.locator(f"[name={name}]").check()
    expect(page.locator("details.form-group", has_text="Privileges").locator("[data-filled]")).to_have_text(re.compile("^4"))
    line = page.locator("#command").inner_text()
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/containers/spoken/logs")
    by_form = made(platform, "spoken")
    assert by_form["host"]["Ulimits"] and by_form["config"]["Healthcheck"]["Interval"] == 1_500_000_000
    platform.docker("rm", "-f", "spoken")
    platform.docker(*shlex.split(line)[1:])
    assert made(platform, "spoken") == by_form
    platform.manage("tenant", "policy", "demo", "--deny", "capabilities")


def test_refusals_stand_beside_their_fields_and_what_was_typed_is_kept(anna: Visitor) -> None:
    page = anna.goto("containers/run")
    open_groups(page)
    page.locator("[name=image]").fill("busybox")
    page.locator("[name=ulimits]").fill("nofile=many")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#id_ulimits_error")).to_have_text("“nofile=many” is not nofile=1024:4096.")
    expect(page.locator("[name=ulimits]")).to_be_focused()  # its group is open, the others are folded again
    expect(page.locator("[name=dns]")).to_be_hidden()

    open_groups(page)
    page.locator("details.form-group", has_text="Memory and CPU").locator("summary").click()
    page.locator("[name=ulimits]").fill("nofile=1")
    page.locator("[name=dns]").fill("nowhere")
    page.locator("[name=memory_swap]").fill("1m")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#id_dns_error")).to_contain_text("bad nameserver address nowhere")
    expect(page.locator("#id_memory_swap_error")).to_contain_text("You should always set the Memory limit")
    expect(page.get_by_role("alert")).to_have_text("2 fields need another look.")

    page.locator("[name=dns]").fill("")
    page.locator("[name=memory_swap]").fill("")
    page.locator("details.form-group", has_text="Privileges").locator("summary").click()
    page.locator("[name=cap_add]").fill("FLY")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#id_cap_add_error")).to_contain_text("FLY")  # the engine's own words
    page.locator("[name=cap_add]").fill("NET_ADMIN")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#id_cap_add_error")).to_contain_text("rule policy.capabilities (an operator of the platform can allow it)")
    expect(page.locator("[name=ulimits]")).to_have_value("nofile=1")
    anna.complaints.clear()  # the browser logs the 400 of the answers


def test_limits_change_while_it_runs_and_the_line_does_the_same(anna: Visitor, platform: Platform) -> None:
    platform.docker("run", "-d", "--name", "spoken", "-m", "32m", "busybox", "sleep", "600")
    page = anna.goto("containers/spoken/limits")
    expect(page.locator("#command")).to_have_text("docker update spoken")
    page.locator("[name=memory]").fill("80m")
    page.locator("[name=pids_limit]").fill("50")
    page.locator("[name=restart_policy]").select_option("on-failure")
    page.locator("[name=restart_max_retries]").fill("2")
    line = page.locator("#command").inner_text()
    assert line.split()[2:] == [
        "--memory", "80m", "--pids-limit", "50", "--restart", "on-failure:2", "--memory-swap", str(160 << 20), "spoken",
    ]  # fmt: skip
    page.get_by_role("button", name="Change limits").click()
    expect(page.get_by_text("spoken has its new limits")).to_be_visible()
    expect(page.locator("[name=restart_policy]")).to_have_value("on-failure")
    changed = made(platform, "spoken")
    platform.docker("rm", "-f", "spoken")
    platform.docker("run", "-d", "--name", "spoken", "-m", "32m", "busybox", "sleep", "600")
    platform.docker(*shlex.split(line)[1:])
    after = made(platform, "spoken")
    assert after["host"] == changed["host"]


def test_files_go_in_and_come_out_again(anna: Visitor, platform: Platform, tmp_path: Path) -> None:
    platform.docker("run", "-d", "--name", "spoken", "--network", "none", "busybox", "sleep", "600")
    first, second, bundle = tmp_path / "a b.conf", tmp_path / "b.bin", tmp_path / "c.tar"
    first.write_bytes(b"answer = 42\n")
    second.write_bytes(bytes(range(256)) * 10_000)
    with tarfile.open(bundle, "w") as archive:
        archive.add(first, "inner/a")
    page = anna.goto("containers/spoken/files")
    page.locator("#files").set_input_files([first, second])
    expect(page.locator("#in-command")).to_have_text("docker cp 'a b.conf' spoken:/tmp && docker cp b.bin spoken:/tmp")
    page.get_by_role("button", name="Copy them in").click()
    expect(page.locator("#sent li")).to_have_text(["a b.conf copied", "b.bin copied"])
    page.locator("#files").set_input_files(bundle)
    page.get_by_label("They are tars").check()
    page.get_by_role("button", name="Copy them in").click()
    expect(page.locator("#sent li")).to_have_text(["c.tar copied"])
    assert platform.docker("exec", "spoken", "cat", "/tmp/a b.conf", "/tmp/inner/a").stdout == "answer = 42\n" * 2
    page.locator("#folder").fill("/nowhere")
    page.get_by_role("button", name="Copy them in").click()
    expect(page.locator("#sent li")).to_contain_text("/nowhere")
    anna.complaints.clear()  # the browser logs the 404 of the answer

    page.get_by_label("Path").fill("/tmp/b.bin")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("cell", name="2.4 MiB")).to_be_visible()
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download the file").click()
    assert coming.value.suggested_filename == "b.bin"
    assert coming.value.path().read_bytes() == second.read_bytes()
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download as a tar").click()
    with tarfile.open(coming.value.path()) as archive:
        assert archive.getnames() == ["b.bin"]
    page.get_by_label("Path").fill("/tmp/nothing")
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#path-error")).to_contain_text("/tmp/nothing")
    anna.complaints.clear()


def test_a_container_gets_another_name_and_becomes_an_image(anna: Visitor, platform: Platform) -> None:
    platform.docker("run", "-d", "--name", "spoken", "busybox", "sleep", "600")
    page = anna.goto("containers/spoken/")
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Make an image of it").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name of the image").fill("team/spoken:1")
    dialog.get_by_label("Changes").fill('CMD ["true"]\nENV A=1')
    dialog.get_by_label("Hold").uncheck()
    expect(page.locator("#commit-command")).to_have_text(
        """docker commit --change 'CMD ["true"]' --change 'ENV A=1' --pause=false spoken team/spoken:1"""
    )
    dialog.get_by_role("button", name="Make the image").click()
    expect(page.locator(".toast")).to_contain_text("team/spoken:1 was made")
    image = json.loads(platform.docker("image", "inspect", "team/spoken:1").stdout)[0]["Config"]
    assert image["Cmd"] == ["true"] and "A=1" in image["Env"]
    platform.docker("rmi", "team/spoken:1")

    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("demo")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("alert")).to_contain_text("already in use")  # and what was typed is there still
    anna.complaints.clear()  # the browser logs the 409 of the answer
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_label("New name")).to_have_value("demo")
    page.get_by_label("New name").fill("walked")
    expect(page.locator("#rename-command")).to_have_text("docker rename spoken walked")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    page.wait_for_url("**/containers/walked/")
    expect(page.locator("#state .word")).to_have_text("running")


def test_what_happens_while_the_page_connects_is_shown(anna: Visitor, platform: Platform) -> None:
    """The page was read, the container stops, and only then its websocket stands: no row will tell of it."""
    platform.docker("run", "-d", "--name", "walked", "busybox", "sleep", "600")

    def late(socket: WebSocketRoute) -> None:
        platform.docker("stop", "-t", "0", "walked")
        socket.connect_to_server()

    anna.page.route_web_socket(re.compile("/ws/t/demo/$"), late)
    for path, place in (("containers/walked/", "#state"), ("containers/", "#list")):
        platform.docker("start", "walked")
        page = anna.goto(path)
        expect(page.locator(place)).to_contain_text("exited (137)")


def test_a_container_that_ran_out_of_memory_says_so_and_health_has_its_history(anna: Visitor, platform: Platform) -> None:
    platform.docker(
        "run", "-d", "--name", "spoken", "--health-cmd", "echo not yet; exit 1", "--health-interval", "1s", "busybox", "sleep", "600"
    )
    page = anna.goto("containers/spoken/")
    expect(page.locator("#health")).to_contain_text("not yet")
    expect(page.locator("#health")).to_contain_text("failed (1)")
    platform.docker(
        "run", "-d", "--name", "walked", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "x=a; while :; do x=$x$x; done"
    )
    page = anna.goto("containers/walked/")
    expect(page.locator("#state")).to_contain_text("killed: out of memory")


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh-hans")])
def test_axe_finds_nothing_and_a_small_screen_scrolls_one_way(anna: Visitor, platform: Platform, theme: str, language: str) -> None:
    platform.docker("run", "-d", "--name", "spoken", "busybox", "sleep", "600")
    anna.dress(theme, language)
    for path in ("containers/run", "containers/spoken/limits", "containers/spoken/files", "containers/spoken/files?path=/etc/passwd"):
        page = anna.goto(path)
        if path.endswith("run"):
            open_groups(page)
            page.locator("[name=ulimits]").fill("nofile=many")
            page.locator("[name=image]").fill("busybox")
            page.locator("#run .btn-primary").click()
            expect(page.locator("#id_ulimits_error")).to_be_visible()
            open_groups(page)
        anna.examine(path)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.set_viewport_size({"width": 1280, "height": 800})
    page = anna.goto("containers/spoken/")
    for dialog in ("rename", "commit"):
        page.locator("#actions details > summary").click()
        page.locator(f"[data-dialog={dialog}]").click()
        anna.examine(dialog)
        page.keyboard.press("Escape")
    anna.complaints.clear()  # the browser logs the 400 of the form's answer

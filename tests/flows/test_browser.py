"""The panel as people see it: Chromium against a whole platform. Every page in both themes and languages is clean for axe.

Nothing waits for a fixed time: each step ends when the page shows what was asked, or fails after ``visitor.SHOWN_MS``.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.platform import Platform
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]

CHATTY = "sh -c 'trap exit TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 1 & wait $!; done'"
PAGES = ("", "containers/", "containers/run", "images/", "operations/", "settings/", "settings/members", "settings/roles")
TABS = ("", "logs", "terminal", "stats", "inspect")


def shown_state(page: Page, word: str) -> None:
    expect(page.locator("#state .word")).to_have_text(re.compile(word))


def test_a_container_is_run_watched_stopped_and_removed(anna: Visitor) -> None:
    page = anna.goto("containers/run")
    page.get_by_label("Image", exact=True).fill("busybox")
    page.get_by_label("Name", exact=True).fill("walked")
    page.get_by_label("Command", exact=True).fill(CHATTY)
    expect(page.locator("#command")).to_have_text(f"docker run -d --name walked busybox {CHATTY}")
    page.get_by_role("button", name="Run", exact=True).click()

    page.wait_for_url("**/containers/walked/logs")
    lines = page.locator("#log .log-line")
    expect(lines.nth(2)).to_contain_text("line 3")  # it grows while we look
    shown_state(page, "running")

    page.keyboard.press("/")
    page.keyboard.type("line [12]$")
    expect(page.locator("#log .log-line:visible")).to_have_count(2)
    assert "q=line" in page.url

    page.get_by_role("link", name="Stats").click()
    expect(page.locator("#charts")).to_have_attribute("data-samples", re.compile(r"^([3-9]|\d\d+)$"))  # it moves
    expect(page.locator('#charts .now[data-now="memory"]')).to_have_text(re.compile(r"(KiB|MiB)"))

    page.get_by_role("button", name="Stop").click()
    shown_state(page, r"exited \(")  # without reload
    expect(page.locator(".toast")).to_contain_text("walked")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("#log-state")).to_contain_text("has ended")

    page.get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("code")).to_have_text("docker rm -f walked")
    dialog.get_by_role("button", name="Remove").click()
    page.wait_for_url("**/t/demo/containers/")
    expect(page.get_by_role("link", name="walked", exact=True)).to_have_count(0)


def test_a_list_follows_the_command_line(anna: Visitor, platform: Platform) -> None:
    page = anna.goto("containers/")
    row = page.locator('tr[data-name="spoken"]')
    expect(row).to_have_count(0)
    platform.docker("run", "-d", "--name", "spoken", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    expect(row.locator(".word")).to_have_text("running")
    expect(row.locator(".cell-cpu")).to_have_text(re.compile("%"))
    row.get_by_role("button", name="Stop").click()
    expect(row.locator(".word")).to_have_text("exited (3)")
    expect(page.locator(".toast")).to_contain_text("spoken has stopped")
    row.get_by_role("button", name="Start").click()
    expect(row.locator(".word")).to_have_text("running")
    page.get_by_role("searchbox").fill("nothing like this")
    expect(page.get_by_text("No container matches")).to_be_visible()
    assert "q=nothing" in page.url
    page.get_by_role("link", name="Clear filter").click()
    expect(row).to_be_visible()
    page.get_by_role("link", name="Name").click()
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    platform.docker("rm", "-f", "spoken")
    expect(row).to_have_count(0)


def test_a_refusal_is_shown_in_the_engines_words_and_the_form_is_kept(anna: Visitor) -> None:
    page = anna.goto("containers/run")
    page.get_by_label("Image", exact=True).fill("nowhere:1")
    page.get_by_label("Command", exact=True).fill("echo it\\'s")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#id_image_error")).to_have_text("No such image: nowhere:1")
    expect(page.get_by_label("Image", exact=True)).to_be_focused()
    expect(page.get_by_label("Command", exact=True)).to_have_value("echo it\\'s")
    anna.complaints.clear()  # the browser logs the 404 of the answer


def test_a_refused_button_leaves_the_engines_words_on_the_page(anna: Visitor, platform: Platform) -> None:
    platform.docker("create", "--name", "spoken", "busybox", "no-such-command")
    page = anna.goto("containers/")
    row = page.locator('tr[data-name="spoken"]')
    row.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text('exec: "no-such-command": executable file not found in $PATH')
    expect(row.locator(".word")).to_have_text("not started")
    expect(row.locator(".why")).to_have_text("command not found")
    anna.complaints.clear()  # the browser logs the 400 of the answer


def made(platform: Platform, name: str) -> dict[str, Any]:
    """What ``docker inspect`` says was asked for."""
    found = json.loads(platform.docker("inspect", name).stdout)[0]
    config = {
        key: found["Config"][key]
        for key in ("Cmd", "Entrypoint", "Env", "Image", "Labels", "OpenStdin", "StdinOnce", "Tty", "User", "WorkingDir")
    }
    wanted = ("AutoRemove", "CapAdd", "CapDrop", "ExtraHosts", "Memory", "NanoCpus", "NetworkMode", "PidsLimit", "ReadonlyRootfs", "Tmpfs")
    config["Env"] = sorted(config["Env"])  # the client sends variables in an order of its own, now this, now that
    return config | {key: found["HostConfig"].get(key) or None for key in wanted}


def test_the_line_under_the_form_makes_the_same_container(anna: Visitor, platform: Platform) -> None:
    page = anna.goto("containers/run")
    page.get_by_label("Image", exact=True).fill("busybox:latest")
    page.get_by_label("Name", exact=True).fill("spoken")
    page.get_by_label("Command", exact=True).fill("""sh -c "echo \\"it's\\" \\$HOME; sleep 60" 'a  b' c\\ d""")
    page.get_by_label("Variables").fill("A=1 2\nB='x'")
    page.get_by_label("Network", exact=True).select_option("none")
    page.get_by_label("Memory limit", exact=True).fill("64 MiB")
    page.get_by_label("CPU limit").fill("0.5")
    page.get_by_label("Terminal (-t)").check()
    line = page.locator("#command").inner_text()
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/containers/spoken/logs")
    by_form = made(platform, "spoken")
    platform.docker("rm", "-f", "spoken")
    platform.docker(*shlex.split(line)[1:])
    assert made(platform, "spoken") == by_form


def test_the_command_of_a_container_makes_the_same_container(anna: Visitor, platform: Platform) -> None:
    platform.docker(
        "run", "-d", "--name", "spoken", "-m", "32m", "--cpus", "0.25", "--pids-limit", "30", "--read-only", "--tmpfs", "/tmp:size=1m",
        "--cap-drop", "ALL", "--cap-add", "CHOWN", "-u", "65534", "-w", "/tmp", "-e", "A=b 'c'", "-l", "x=y z", "--add-host", "h:10.0.0.1",
        "--entrypoint", "sh", "busybox", "-c", "sleep 60",
    )  # fmt: skip
    asked = made(platform, "spoken")
    line = anna.goto("containers/spoken/").locator(".command code").first.inner_text()
    platform.docker("rm", "-f", "spoken")
    platform.docker(*shlex.split(line)[1:])
    assert made(platform, "spoken") == asked


def test_language_and_theme_are_kept(anna: Visitor) -> None:
    page = anna.goto("containers/")
    page.get_by_title("Language").click()
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.get_by_role("heading", level=1)).to_contain_text("容器")
    assert page.url.endswith("/t/demo/containers/")  # the page is kept
    page.get_by_title("主题").click()
    page.get_by_role("button", name="深色").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")


def test_a_small_screen_has_the_menu_below_and_scrolls_one_way_only(anna: Visitor, platform: Platform) -> None:
    platform.docker("run", "-d", "--name", "spoken", "busybox", "top", "-b")
    anna.page.set_viewport_size({"width": 390, "height": 844})
    for path in (*PAGES, *(f"containers/spoken/{tab}" for tab in TABS)):
        page = anna.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.locator("svg.icon:empty").count() == 0, "an icon that no asset file draws"
        box = page.get_by_role("link", name="Overview", exact=True).first.bounding_box()
        assert box and box["y"] > 700, path


def test_keys_go_where_they_say(anna: Visitor) -> None:
    page = anna.goto("")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**/images/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("dialog").get_by_label("single keys work").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile("/images/"))


def test_a_stranger_finds_nothing(stranger: Visitor, platform: Platform) -> None:
    for path in (*PAGES, "containers/demo/", "containers/demo/logs"):
        assert stranger.go(f"/t/demo/{path}").status == 404, path
    page = stranger.goto("containers/", tenant="other")
    expect(page.get_by_text("Containers that you run appear here.")).to_be_visible()
    assert "demo" not in page.locator("#main").inner_text()


def test_a_shell_in_the_browser_takes_keys_follows_the_window_and_ends_with_the_page(anna: Visitor, platform: Platform) -> None:
    platform.docker("run", "-d", "--name", "spoken", "--network", "none", "busybox", "sleep", "600")
    page = anna.goto("containers/spoken/terminal")
    state, screen = page.locator("#terminal-state"), page.locator("#terminal")
    expect(state).to_contain_text("The shell runs")
    page.keyboard.type("echo a$((40+2))b; stty size\n")
    expect(screen).to_contain_text("a42b")
    before = re.search(r"(\d+) (\d+)", screen.inner_text().partition("a42b")[2].partition("stty size")[0])
    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.type("clear; stty size; echo sm''all\n")
    expect(screen).to_contain_text("small")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert before is None or before[0] not in screen.inner_text()
    page.keyboard.type("exit 3\n")
    expect(state).to_contain_text("Exit code: 3")
    page.get_by_role("button", name="New shell").click()
    expect(state).to_contain_text("The shell runs")
    page.locator("#terminal-user").fill("nobody-here")
    page.get_by_role("button", name="New shell").click()
    expect(state).to_contain_text("unable to find user nobody-here")
    anna.goto("containers/spoken/")
    expect(page.locator("#state .word")).to_have_text("running")
    assert "sh" not in platform.docker("exec", "spoken", "ps", "-o", "comm").stdout.split(), "no shell outlives its page"


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh-hans")])
def test_axe_finds_nothing(anna: Visitor, platform: Platform, theme: str, language: str) -> None:
    platform.docker("run", "-d", "--name", "spoken", "busybox", "sh", "-c", "while :; do echo tick; sleep 1; done", check=False)
    platform.docker("create", "--name", "walked", "busybox", "true", check=False)
    anna.dress(theme, language)
    paths = [f"/t/demo/{path}" for path in (*PAGES, *(f"containers/spoken/{tab}" for tab in TABS))]
    for path in (*paths, "/t/nowhere/", "/api/v1/docs"):
        anna.go(path)
        anna.page.wait_for_timeout(300)  # the charts' and the log's first bytes: axe looks at what is there
        anna.examine(path)

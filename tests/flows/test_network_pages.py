"""Networks and ports on the pages: a network made and filled, a container moved, its ports changed while it runs, the form's own line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.flows.test_container_pages import made, open_groups
from tests.flows.test_networks import SITE, fetch
from tests.support.platform import Platform, free_port
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]


@pytest.fixture(autouse=True)
def nothing_is_left(platform: Platform) -> Iterator[None]:
    yield
    platform.docker("rm", "-f", "spoken", "walked", check=False)
    platform.docker("network", "prune", "-f")


def networks_of(platform: Platform, name: str) -> set[str]:
    return set(platform.docker("inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}", name).stdout.split())


def test_a_network_is_made_filled_and_removed(anna: Visitor, platform: Platform) -> None:
    platform.docker("run", "-d", "--name", "spoken", "busybox", "sleep", "600")
    page = anna.goto("networks/new")
    page.locator("[name=name]").fill("shelf")
    page.locator("[name=subnet]").fill("10.233.78.0/24")
    page.locator("[name=gateway]").fill("10.9.9.9")
    page.locator("[name=labels]").fill("team=shop")
    page.locator("[name=ipv6]").check()
    page.locator("[name=ipv6_subnet]").fill("fd00:78::/64")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator("#id_gateway_error")).to_contain_text("doesn't contain this address")
    anna.complaints.clear()  # the browser logs the 400 of the form's answer
    page.locator("[name=gateway]").fill("10.233.78.1")
    line = page.locator("#command").inner_text()
    page.get_by_role("button", name="Create", exact=True).click()
    page.wait_for_url("**/networks/view/shelf")
    by_form = platform.docker("network", "inspect", "-f", "{{json .IPAM.Config}} {{json .Labels}} {{.Internal}}", "shelf").stdout
    expect(page.locator("#facts")).to_contain_text("fd00:78::1")

    page.locator("[name=container]").select_option("spoken")
    page.locator("[name=aliases]").fill("friend")
    page.locator("[name=ip_address]").fill("10.233.78.7")
    page.locator("[name=ipv6_address]").fill("fd00:78::7")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#members")).to_contain_text("10.233.78.7/24")
    expect(page.locator("#members")).to_contain_text("fd00:78::7/64")
    assert networks_of(platform, "spoken") == {"bridge", "shelf"}
    expect(page.locator("#members")).to_contain_text("friend")
    page.get_by_role("button", name="Disconnect spoken").click()
    expect(page.locator("#members")).to_contain_text("No container is in this network.")
    assert networks_of(platform, "spoken") == {"bridge"}

    page.locator(".slipway-head [data-dialog]").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    page.wait_for_url("**/networks/")
    expect(page.locator("#networks")).not_to_contain_text("shelf")
    platform.docker(*shlex.split(line)[1:])  # what the form said of itself makes the same network
    assert platform.docker("network", "inspect", "-f", "{{json .IPAM.Config}} {{json .Labels}} {{.Internal}}", "shelf").stdout == by_form
    expect(page.locator("#networks")).to_contain_text("shelf")  # the list follows


def test_a_containers_ports_change_from_its_page_while_it_runs(anna: Visitor, platform: Platform) -> None:
    first, second = free_port(), free_port()
    platform.docker("network", "create", "shelf")
    platform.docker("run", "-d", "--name", "spoken", "-p", f"{first}:80", "busybox", "sh", "-c", SITE.format(words="hi", port=80))
    page = anna.goto("containers/spoken/network")
    expect(page.locator("#ports")).to_contain_text(str(first))
    page.locator("#change-ports textarea").fill("80:80:80:80")
    page.get_by_role("button", name="Change ports").click()
    expect(page.locator("#id_ports_error")).to_be_visible()
    anna.complaints.clear()
    platform.docker("rename", "spoken", "speaking")  # the page asks for its parts again
    platform.docker("rename", "speaking", "spoken")
    page.wait_for_timeout(1500)
    page.goto(page.url)
    page.wait_for_url("**/containers/spoken/network")
    page.locator("#change-ports textarea").fill(f"{second}:80")
    page.get_by_role("button", name="Change ports").click()
    expect(page.locator("#ports")).to_contain_text(str(second))
    assert fetch(f"http://127.0.0.1:{second}/") == "hi" and fetch(f"http://127.0.0.1:{first}/", within_s=0.5) == ""
    page.locator("#connect [name=network]").select_option("shelf")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#networks")).to_contain_text("shelf")
    page.get_by_role("button", name="Disconnect bridge").click()
    expect(page.locator("#networks")).not_to_contain_text("bridge")
    assert networks_of(platform, "spoken") == {"shelf"}


def test_networks_and_ports_of_the_run_form_are_those_of_its_line(anna: Visitor, platform: Platform) -> None:
    port = free_port()
    platform.docker("network", "create", "--subnet", "10.233.79.0/24", "shelf")
    platform.docker("network", "create", "drawer")
    page = anna.goto("containers/run?network=shelf")
    open_groups(page)
    written = {
        "image": "busybox:latest", "name": "spoken", "command": "sleep 600", "ports": f"{port}:80\n127.0.0.1::81/udp", "networks": "drawer",
        "aliases": "friend", "ip_address": "10.233.79.9", "expose": "99",
        "hostname": "box",
    }  # fmt: skip
    for name, words in written.items():
        page.locator(f"[name={name}]").fill(words)
    page.locator("[name=publish_all]").check()
    line = page.locator("#command").inner_text()
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/containers/spoken/logs")
    by_form = made(platform, "spoken"), networks_of(platform, "spoken")
    assert by_form[1] == {"shelf", "drawer"} and by_form[0]["host"]["PublishAllPorts"]
    assert platform.docker("port", "spoken", "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"
    page.goto(page.url.replace("/logs", "/"))
    same = page.locator(".command code", has_text="docker run").first.inner_text()
    platform.docker("rm", "-f", "spoken")
    platform.docker(*shlex.split(line)[1:])
    assert (made(platform, "spoken"), networks_of(platform, "spoken")) == by_form
    platform.docker("rm", "-f", "spoken")
    platform.docker(*shlex.split(same)[1:])  # what the overview says of it
    assert networks_of(platform, "spoken") == by_form[1]
    assert platform.docker("port", "spoken", "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh-hans")])
def test_axe_finds_nothing_and_a_small_screen_scrolls_one_way(anna: Visitor, platform: Platform, theme: str, language: str) -> None:
    platform.docker("network", "create", "--internal", "shelf", check=False)
    platform.docker("run", "-d", "--name", "spoken", "--network", "shelf", "-p", "80", "busybox", "sleep", "600")
    platform.docker("create", "--name", "walked", "busybox", "true")
    platform.docker("network", "create", "drawer", check=False)
    anna.dress(theme, language)
    for path in ("networks/", "networks/new", "networks/view/shelf", "networks/view/bridge", "networks/prune", "containers/spoken/network"):
        page = anna.goto(path)
        anna.examine(path)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.set_viewport_size({"width": 1280, "height": 800})

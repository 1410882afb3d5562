"""Volumes as people see them: made, looked into, a file changed, a snapshot and the return to it, a copy, what nothing needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.platform import Platform
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "chromium", "loop"),
    pytest.mark.timeout(240),
]


def test_a_volume_from_its_making_to_its_end(anna: Visitor, platform: Platform, tmp_path: Path) -> None:
    page = anna.goto("volumes/")
    expect(page.get_by_text("Data that outlives its containers lies in volumes.")).to_be_visible()
    page.get_by_label("Name").fill("walked")
    page.get_by_label("Limit").fill("10m")
    expect(page.locator("#create-command")).to_have_text("docker volume create -o size=10m walked")
    page.get_by_role("button", name="Make a volume").click()
    row = page.locator("tr[data-volume=walked]")
    expect(row).to_contain_text("10 MiB")  # without reload
    anna.examine("list of volumes")

    words = "mkdir /w/conf; echo one > /w/conf/app; chown 7:8 /w/conf/app"
    platform.docker("run", "--name", "walked", "-v", "walked:/w", "busybox", "sh", "-c", words)
    expect(row.get_by_role("link", name="walked").nth(1)).to_be_visible()  # who uses it
    row.get_by_role("link", name="walked").first.click()
    page.wait_for_url("**/volumes/view/walked")
    page.get_by_label("Name of a new snapshot").fill("before")
    page.get_by_role("button", name="Take a snapshot").click()
    expect(page.get_by_role("row", name="before")).to_be_visible()
    anna.examine("one volume")

    page.get_by_role("link", name="Files").click()
    page.get_by_role("link", name="conf").click()
    anna.examine("files of a volume")
    page.get_by_role("link", name="app").click()
    expect(page.get_by_label("Text of the file")).to_have_value("one\n")
    anna.examine("a file of a volume")
    page.get_by_label("Text of the file").fill("two\n")
    page.get_by_role("button", name="Save the file").click()
    expect(page.get_by_text("The file was saved")).to_be_visible()
    expect(page.get_by_text("7:8")).to_be_visible()
    read = ("run", "--rm", "-v", "walked:/w", "busybox", "cat", "/w/conf/app")
    assert platform.docker(*read).stdout == "two\n"

    (tmp_path / "more.txt").write_text("more")
    page = anna.goto("volumes/files/walked?path=/conf")
    page.get_by_label("Files", exact=True).set_input_files(tmp_path / "more.txt")
    page.get_by_role("button", name="Copy them in").click()
    expect(page.get_by_role("link", name="more.txt")).to_be_visible()
    page.get_by_role("link", name="more.txt").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("link", name="more.txt")).to_have_count(0)
    page = anna.goto("volumes/files/walked?path=/../../../etc")
    expect(page.get_by_role("alert")).to_contain_text("Could not find the file /etc in volume walked")

    page = anna.goto("volumes/view/walked")
    page.get_by_role("button", name="Return to it").click()
    expect(page.get_by_text("It is as it was in the snapshot")).to_be_visible()
    assert platform.docker(*read).stdout == "one\n"
    page.get_by_label("A copy under another name").fill("walked2")
    page.get_by_role("button", name="Copy", exact=True).last.click()
    expect(page.locator("tr[data-volume=walked2]")).to_be_visible()
    page = anna.goto("volumes/view/walked2")
    page.get_by_label("New name").fill("spoken")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator("tr[data-volume=spoken]")).to_be_visible()

    platform.docker("rm", "walked")
    page = anna.goto("volumes/prune?all=1")
    expect(page.get_by_role("row")).to_have_count(3)
    anna.examine("prune of volumes")
    page.get_by_role("button", name="Remove these").click()
    expect(page.get_by_text("Data that outlives its containers lies in volumes.")).to_be_visible()
    anna.speak("zh-hans")
    page = anna.goto("volumes/")
    expect(page.get_by_role("heading", name="存储卷").first).to_be_visible()
    assert anna.complaints == []

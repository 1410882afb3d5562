from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.runtime import users

pytestmark = pytest.mark.guest

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:nan:0::
bob:x:1000:1001:Bob,,,:/home/bob:/bin/sh

7:x:77:78::/seven:
short:x:5:6
"""
GROUP = """\
root:x:0:
wheel:x:10:root,bob
bobs:x:1001:
audio:x:29:bob
users:x:100:bobby
broken
"""


@pytest.mark.parametrize(
    ("words", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0, 10), "/root"),
        ("root", 0, 0, (0, 10), "/root"),
        ("0", 0, 0, (0, 10), "/root"),
        ("bob", 1000, 1001, (1001, 10, 29), "/home/bob"),
        ("1000", 1000, 1001, (1001, 10, 29), "/home/bob"),
        ("bob:wheel", 1000, 10, (10,), "/home/bob"),
        ("bob:4711", 1000, 4711, (4711,), "/home/bob"),
        ("4711", 4711, 0, (0,), ""),
        ("4711:audio", 4711, 29, (29,), ""),
        ("7", 77, 78, (78,), "/seven"),  # a name of digits
        ("short", 5, 6, (6,), ""),
        (":wheel", 0, 10, (10,), "/root"),
    ],
)
def test_words_become_ids(words: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    assert users.resolve(words, passwd=PASSWD, group=GROUP) == users.User(uid, gid, groups, home)


def test_an_image_without_databases_takes_numbers() -> None:
    assert users.resolve("", passwd="", group="") == users.User(0, 0, (0,), "")
    assert users.resolve("5:6", passwd="", group="") == users.User(5, 6, (6,), "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("alice", "unable to find user alice: no matching entries in passwd file"),
        ("bob:alice", "unable to find group alice: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("0:4294967295", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_what_is_not_there_is_mobys_sentence(words: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        users.resolve(words, passwd=PASSWD, group=GROUP)
    assert caught.value.message == sentence


def test_home_by_id() -> None:
    assert users.home_of(1000, PASSWD) == "/home/bob"
    assert users.home_of(4711, PASSWD) == ""

"""The OpenAPI document says what the routers do."""

from __future__ import annotations

from collections import Counter

from ninja import Schema

import controlpanel.api  # noqa: F401  all routers


def test_no_two_schemas_share_a_name() -> None:
    """The document knows them by it: the second one would say what the first one's endpoints take."""

    def below(kind: type[Schema]) -> list[type[Schema]]:
        return [each for child in kind.__subclasses__() for each in (child, *below(child))]

    names = Counter(kind.__name__ for kind in {*below(Schema)} if kind.__module__.startswith("controlpanel."))
    assert [name for name, count in names.items() if count > 1] == []

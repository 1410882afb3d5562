from __future__ import annotations

import pytest
from django.core.management import call_command


def test_every_change_of_a_model_has_its_migration(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        call_command("makemigrations", check_changes=True, dry_run=True)
    except SystemExit:
        pytest.fail(capsys.readouterr().out, pytrace=False)

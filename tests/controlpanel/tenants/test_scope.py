"""``objects`` of every tenant's row yields nothing until somebody says for whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import models

from controlpanel.images.models import Image
from controlpanel.tenants.actor import Actor, Door
from controlpanel.tenants.models import Membership, TenantQuerySet

SCOPED = [model for model in apps.get_models() if isinstance(model.__dict__.get("objects"), TenantQuerySet)]


def test_every_model_with_a_tenant_is_scoped() -> None:
    with_tenant = {
        model
        for model in apps.get_models()
        if any(isinstance(field, models.ForeignKey) and field.name == "tenant" for field in model._meta.concrete_fields)
    }
    assert {model.__name__ for model in with_tenant - set(SCOPED)} == {
        "Token",
        "Certificate",
    }  # reached by their hash, or through their tenant


@pytest.mark.parametrize("model", SCOPED)
def test_there_is_no_way_around_the_scope_on_objects(model: Any) -> None:
    assert not hasattr(model.objects, "all") and not hasattr(model.objects, "filter")


def test_an_actor_sees_own_rows_and_what_is_public(people: Any, image: Any) -> None:
    mine = Image.everywhere.create(tenant=people.acme, image_id="sha256:1", config={}, size_bytes=1)
    others = Image.everywhere.create(tenant=people.umbrella, image_id="sha256:2", config={}, size_bytes=1)
    alice = people.actor(people.alice)
    assert set(Image.objects.for_actor(alice)) == {mine, image}
    assert set(Image.objects.for_member(people.charlie)) == {others, image}
    assert set(Membership.objects.for_actor(alice)) == set(people.acme.memberships.all())
    assert not Image.objects.for_actor(Actor(door=Door.PANEL, operator=True)).exists()

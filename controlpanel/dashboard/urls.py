"""Every page of the panel, below / and /t/<tenant>/."""

from __future__ import annotations

from django.urls import include, path

from controlpanel.builds import views as builds
from controlpanel.dashboard import (
    audit,
    images,
    invitations,
    keys,
    members,
    platform,
    policy,
    registries,
    roles,
    terminal,
    views,
    volumes,
)
from controlpanel.dashboard.consumers import PageConsumer
from controlpanel.files import views as files
from controlpanel.metrics import views as metrics
from controlpanel.networks import views as networks

urlpatterns = [
    path("", views.home, name="home"),
    path("accounts/language/", views.speak, name="set_language"),
    path("accounts/", include("controlpanel.accounts.urls")),
    path("invitation/<str:secret>/", invitations.invitation, name="invitation"),
    path("t/<str:tenant>/", views.overview),
    path("t/<str:tenant>/containers/<str:name>/inspect", views.inspect),
    path("t/<str:tenant>/containers/<str:name>/stats", metrics.stats),
    path("t/<str:tenant>/containers/<str:name>/terminal", terminal.terminal),
    path("t/<str:tenant>/containers/<str:name>/changes", files.changes),
    path("t/<str:tenant>/containers/<str:name>/files", files.files),
    path("t/<str:tenant>/containers/<str:name>/commit", files.commit),
    path("t/<str:tenant>/containers/<str:name>/network", networks.of_container),
    path("t/<str:tenant>/containers/<str:name>/ports", networks.change_ports),
    path("t/<str:tenant>/containers/<str:name>/rules", networks.limit_container),
    path("t/<str:tenant>/containers/<str:name>/bandwidth", networks.shape_container),
    path("t/<str:tenant>/networks/rules/<str:name>", networks.limit_network),
    path("t/<str:tenant>/networks/", networks.listing),
    path("t/<str:tenant>/networks/new", networks.new),
    path("t/<str:tenant>/networks/prune", networks.prune),
    path("t/<str:tenant>/networks/remove", networks.remove),
    path("t/<str:tenant>/networks/connect", networks.connect),
    path("t/<str:tenant>/networks/disconnect", networks.disconnect),
    path("t/<str:tenant>/networks/view/<str:name>", networks.one),
    path("t/<str:tenant>/compare", files.compare),
    path("t/<str:tenant>/containers/", include("controlpanel.containers.urls")),
    path("t/<str:tenant>/images/", images.listing),
    path("t/<str:tenant>/images/prune", images.prune),
    path("t/<str:tenant>/images/registry", registries.registry),
    path("t/<str:tenant>/images/remove", images.remove),
    path("t/<str:tenant>/images/tag", images.tag),
    path("t/<str:tenant>/images/view/<path:name>", images.one),
    path("t/<str:tenant>/volumes/", volumes.listing),
    path("t/<str:tenant>/volumes/prune", volumes.prune),
    path("t/<str:tenant>/volumes/create", volumes.create),
    path("t/<str:tenant>/volumes/view/<str:name>", volumes.one),
    path("t/<str:tenant>/volumes/files/<str:name>", volumes.files),
    path("t/<str:tenant>/volumes/save/<str:name>", volumes.save),
    path("t/<str:tenant>/volumes/remove/<str:name>", volumes.remove),
    *(
        path(f"t/<str:tenant>/volumes/{verb}/<str:name>", volumes.change, {"verb": verb})
        for verb in ("rename", "clone", "resize", "take", "restore", "drop")
    ),
    path("t/<str:tenant>/builds/", builds.listing),
    path("t/<str:tenant>/builds/new", builds.form),
    path("t/<str:tenant>/builds/prune", builds.prune),
    path("t/<str:tenant>/builds/<str:build_id>", builds.one),
    path("t/<str:tenant>/builds/<str:build_id>/cancel", builds.cancel),
    path("t/<str:tenant>/operations/", views.operations),
    path("t/<str:tenant>/audit/", audit.of_tenant),
    path("t/<str:tenant>/audit/export", audit.export_tenant),
    path("platform/", platform.tenants, name="platform"),
    path("platform/policy/<str:tenant>", policy.policy, name="policy"),
    path("platform/visit/end", platform.end_visit, name="visit-end"),
    path("platform/visit/<str:tenant>", platform.visit, name="visit"),
    path("platform/audit/", audit.of_platform, name="platform-audit"),
    path("platform/audit/export", audit.export_platform),
    path("t/<str:tenant>/settings/", views.settings),
    path("t/<str:tenant>/settings/members", members.members),
    path("t/<str:tenant>/settings/members/add", members.add),
    path("t/<str:tenant>/settings/members/remove", members.remove),
    path("t/<str:tenant>/settings/roles", roles.listing),
    path("t/<str:tenant>/settings/roles/create", roles.create),
    path("t/<str:tenant>/settings/roles/change", roles.change),
    path("t/<str:tenant>/settings/roles/remove", roles.remove),
    path("t/<str:tenant>/settings/groups/create", roles.create_group),
    path("t/<str:tenant>/settings/groups/add", roles.add_to_group),
    path("t/<str:tenant>/settings/groups/drop", roles.take_from_group),
    path("t/<str:tenant>/settings/groups/remove", roles.remove_group),
    path("t/<str:tenant>/settings/grants", roles.grant),
    path("t/<str:tenant>/settings/grants/<int:number>/revoke", roles.revoke),
    path("t/<str:tenant>/settings/invitations", members.invite),
    path("t/<str:tenant>/settings/invitations/<int:number>/revoke", members.revoke),
    path("t/<str:tenant>/settings/tokens", keys.make_token),
    path("t/<str:tenant>/settings/tokens/<int:token_id>/revoke", keys.revoke_token),
    path("t/<str:tenant>/settings/certificates", keys.make_certificate),
    path("t/<str:tenant>/settings/certificates/<int:certificate_id>/revoke", keys.revoke_certificate),
]

websocket_urlpatterns = [
    path("ws/t/<str:tenant>/", PageConsumer.as_asgi()),
    path("ws/t/<str:tenant>/containers/<str:container>/terminal/", terminal.TerminalConsumer.as_asgi()),
]

"""Every page of the panel, below / and /t/<tenant>/."""

from __future__ import annotations

from django.contrib.auth import views as auth
from django.urls import include, path

from controlpanel.builds import views as builds
from controlpanel.dashboard import images, registries, terminal, views
from controlpanel.dashboard.consumers import PageConsumer
from controlpanel.files import views as files

urlpatterns = [
    path("", views.home, name="home"),
    path("accounts/language/", views.speak, name="set_language"),
    path("accounts/login/", auth.LoginView.as_view(template_name="accounts/login.html", redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path("t/<str:tenant>/", views.overview),
    path("t/<str:tenant>/containers/<str:name>/inspect", views.inspect),
    path("t/<str:tenant>/containers/<str:name>/terminal", terminal.terminal),
    path("t/<str:tenant>/containers/<str:name>/changes", files.changes),
    path("t/<str:tenant>/containers/<str:name>/files", files.files),
    path("t/<str:tenant>/containers/<str:name>/commit", files.commit),
    path("t/<str:tenant>/compare", files.compare),
    path("t/<str:tenant>/containers/", include("controlpanel.containers.urls")),
    path("t/<str:tenant>/images/", images.listing),
    path("t/<str:tenant>/images/prune", images.prune),
    path("t/<str:tenant>/images/registry", registries.registry),
    path("t/<str:tenant>/images/remove", images.remove),
    path("t/<str:tenant>/images/tag", images.tag),
    path("t/<str:tenant>/images/view/<path:name>", images.one),
    path("t/<str:tenant>/builds/", builds.listing),
    path("t/<str:tenant>/builds/new", builds.form),
    path("t/<str:tenant>/builds/prune", builds.prune),
    path("t/<str:tenant>/builds/<str:build_id>", builds.one),
    path("t/<str:tenant>/builds/<str:build_id>/cancel", builds.cancel),
    path("t/<str:tenant>/operations/", views.operations),
    path("t/<str:tenant>/settings/", views.settings),
    path("t/<str:tenant>/settings/members", views.add_member),
    path("t/<str:tenant>/settings/members/remove", views.remove_member),
    path("t/<str:tenant>/settings/tokens", views.make_token),
    path("t/<str:tenant>/settings/tokens/<int:token_id>/revoke", views.revoke_token),
]

websocket_urlpatterns = [
    path("ws/t/<str:tenant>/", PageConsumer.as_asgi()),
    path("ws/t/<str:tenant>/containers/<str:container>/terminal/", terminal.TerminalConsumer.as_asgi()),
]

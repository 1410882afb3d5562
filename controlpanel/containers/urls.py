"""Pages below /t/<tenant>/containers/. ``run`` and ``prune`` are matched before containers of these names."""

from __future__ import annotations

from django.urls import path

from controlpanel.containers import lifecycle_views, resource_views, views

urlpatterns = [
    path("", views.listing),
    path("run", views.run),
    path("prune", lifecycle_views.prune),
    path("<str:name>/", views.overview),
    path("<str:name>/logs", views.logs),
    path("<str:name>/log.txt", views.download_log),
    path("<str:name>/processes", resource_views.processes),
    path("<str:name>/limits", resource_views.show_limits),
    path("<str:name>/update", resource_views.update),
    path("<str:name>/pause", resource_views.pause),
    path("<str:name>/unpause", resource_views.unpause),
    path("<str:name>/start", views.start),
    path("<str:name>/stop", views.stop),
    path("<str:name>/restart", lifecycle_views.restart),
    path("<str:name>/rename", lifecycle_views.rename),
    path("<str:name>/kill", views.kill),
    path("<str:name>/remove", views.remove),
]

"""The panel's configuration: the environment is read here, once per process; every other module receives values.

Each variable has its sentence in .env.example. ``NAME_FILE`` may name a file that holds the value instead (secrets).
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from engine.config import DATA_DEFAULT, RUN_DEFAULT


def _env(name: str, default: str = "") -> str:
    """The variable, or the content of the file that NAME_FILE names; an unreadable file is an error, not a default."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE={path}: {error.strerror}") from error
    return os.environ.get(name, default)


def _env_bool(name: str, default: bool) -> bool:
    text = _env(name, str(default)).lower()
    if text not in {"1", "0", "true", "false", "yes", "no", ""}:
        raise ImproperlyConfigured(f"{name}={text}: say true or false")
    return text in {"1", "true", "yes"}


BASE_DIR = Path(__file__).resolve().parent.parent
SLIPWAY_DATA = Path(_env("SLIPWAY_DATA", DATA_DEFAULT))
SLIPWAY_RUN = Path(_env("SLIPWAY_RUN", RUN_DEFAULT))
SLIPWAY_HTTP = _env("SLIPWAY_HTTP", "127.0.0.1:8000")
SLIPWAY_HOST = _env("SLIPWAY_HOST", "local")  # name of the host beside this panel: queue host.<name>
REDIS_URL = _env("REDIS_URL", f"unix://{SLIPWAY_RUN}/redis.sock")
PANEL_DIR = SLIPWAY_DATA / "panel"


def _secret_key() -> str:
    """From SECRET_KEY, else from panel/secret.key, which the first process to need it makes."""
    given = _env("SECRET_KEY")
    if given:
        return given
    path = PANEL_DIR / "secret.key"
    try:
        PANEL_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_urlsafe(48))
                folder = PANEL_DIR.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)  # root made it: the panel's own user must read it
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{path}: {error.strerror}; the panel's user must own {PANEL_DIR}") from error


def _own_names() -> list[str]:
    """Names and addresses under which a browser may reach this machine, besides those given."""
    names = {"localhost", "127.0.0.1", "[::1]", "testserver", socket.gethostname(), socket.getfqdn()}
    bound = urlsplit(f"//{SLIPWAY_HTTP}").hostname
    if bound:
        names.add(f"[{bound}]" if ":" in bound else bound)
    try:
        for *_rest, address in socket.getaddrinfo(socket.gethostname(), None):
            names.add(f"[{address[0]}]" if ":" in str(address[0]) else str(address[0]))
    except OSError:
        pass  # a machine that does not know its own name is reached by the others
    return sorted(names - {"0.0.0.0", "[::]"})


SECRET_KEY = _secret_key()
DEBUG = _env_bool("SLIPWAY_DEBUG", False)
ALLOWED_HOSTS = [*_own_names(), *filter(None, _env("SLIPWAY_ALLOWED_HOSTS").split(","))]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "controlpanel.base",
    "controlpanel.audit",
    "controlpanel.accounts",
    "controlpanel.tenants",
    "controlpanel.hosts",
    "controlpanel.images",
    "controlpanel.containers",
    "controlpanel.events",
    "controlpanel.execs",
    "controlpanel.builds",
]
INSTALLED_APPS += [f"controlpanel.{name}" for name in ("dashboard",) if (BASE_DIR / "controlpanel" / name / "__init__.py").exists()]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "controlpanel.base.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "controlpanel.base.middleware.user_language",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "controlpanel.base.middleware.EngineErrors",
]

ROOT_URLCONF = "controlpanel.urls"
ASGI_APPLICATION = "controlpanel.asgi.application"
WSGI_APPLICATION = "controlpanel.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": [
                ("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"]),
            ],
        },
    }
]

DATABASES = {
    "default": dj_database_url.parse(_env("DATABASE_URL", f"sqlite:///{PANEL_DIR}/slipway.sqlite3"), conn_max_age=None),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # a DEFERRED transaction that turns into a writer fails at once under contention instead of waiting
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,  # seconds of busy_timeout
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;",
    }
    # a file: the writer thread and the read threads each have a connection of their own
    DATABASES["default"]["TEST"] = {"NAME": str(SLIPWAY_DATA / f"test-panel-{os.getpid()}.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [{"address": REDIS_URL}], "prefix": "slipway.channels"},
    }
}

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_NAME = "slipway_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 << 20  # pages and REST; image tars never pass through Django

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LANGUAGE_COOKIE_NAME = "slipway_language"
LOCALE_PATHS = [BASE_DIR / "controlpanel" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [path for path in (BASE_DIR / "controlpanel" / "static",) if path.is_dir()]
STATIC_ROOT = BASE_DIR / "controlpanel" / "staticfiles"  # filled at installation (collectstatic): hashed names, cached for ever
HASHED_STATIC = _env_bool("SLIPWAY_COLLECT_STATIC", False) or (STATIC_ROOT / "staticfiles.json").exists()  # a bare checkout has none
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "controlpanel.base.static.HashedFiles" if HASHED_STATIC else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": _env("SLIPWAY_LOG_LEVEL", "INFO")},
    "loggers": {"django.server": {"level": "WARNING"}},
}

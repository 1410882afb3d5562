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


def _env_int(name: str, default: int) -> int:
    text = _env(name).strip()
    if not text:
        return default
    if not text.isdecimal():
        raise ImproperlyConfigured(f"{name}={text}: say a number, 0 or more")
    return int(text)


BASE_DIR = Path(__file__).resolve().parent.parent
SLIPWAY_DATA = Path(_env("SLIPWAY_DATA", DATA_DEFAULT))
SLIPWAY_RUN = Path(_env("SLIPWAY_RUN", RUN_DEFAULT))
SLIPWAY_HTTP = _env("SLIPWAY_HTTP", "127.0.0.1:8000")
RATE_LIMIT = _env_int("SLIPWAY_RATE_LIMIT", 12_000)  # requests a minute, of each who asks; 0: any number
REGISTRY_TRASH_DAYS = _env_int("SLIPWAY_REGISTRY_TRASH_DAYS", 7)  # for so long what was deleted can be had back
TLS_PORT = int(_env("SLIPWAY_TLS").rpartition(":")[2] or 0)  # HOST:PORT, as `up` hands it on; 0: no such door
TLS_FOLDER = SLIPWAY_DATA / "etc" / "tls"  # drawn in workers/platform/certificates.py
SLIPWAY_HOST = _env("SLIPWAY_HOST", "local")  # name of the host beside this panel: queue host.<name>
REDIS_URL = _env("REDIS_URL", f"unix://{SLIPWAY_RUN}/redis.sock")
PANEL_DIR = SLIPWAY_DATA / "panel"


def _key(variable: str, name: str) -> str:
    """From the variable, else from panel/``name``, which the first process to need it makes."""
    given = _env(variable)
    if given:
        return given
    path = PANEL_DIR / name
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
    names |= {f"[{name}]" if ":" in name else name for name in _tls_names()}
    return sorted(names - {"0.0.0.0", "[::]"})


def _tls_names() -> list[str]:
    """What the certificate of the TLS port is for; none without such a port."""
    try:
        return (TLS_FOLDER / "names").read_text().split()
    except OSError:
        return []


SECRET_KEY = _key("SECRET_KEY", "secret.key")
SEAL_KEY = _key("SEAL_KEY", "seal.key")  # of what must come back in the clear: accounts.seal
DEBUG = _env_bool("SLIPWAY_DEBUG", False)
ALLOWED_HOSTS = [*_own_names(), *filter(None, _env("SLIPWAY_ALLOWED_HOSTS").split(","))]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "controlpanel.base",
    "controlpanel.audit",
    "controlpanel.accounts",
    "controlpanel.tenants",
    "controlpanel.hosts",
    "controlpanel.images",
    "controlpanel.networks",
    "controlpanel.volumes",
    "controlpanel.containers",
    "controlpanel.metrics",
    "controlpanel.events",
    "controlpanel.execs",
    "controlpanel.builds",
    "controlpanel.registry",
    "controlpanel.tenancy",
]
INSTALLED_APPS += [f"controlpanel.{name}" for name in ("dashboard",) if (BASE_DIR / "controlpanel" / name / "__init__.py").exists()]

MIDDLEWARE = [
    "controlpanel.base.transport.transport",
    "django.middleware.security.SecurityMiddleware",
    "controlpanel.base.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "controlpanel.base.middleware.user_language",
    "controlpanel.accounts.middleware.session_seen",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "controlpanel.tenants.middleware.record_refusals",
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

CACHES = {"default": {"BACKEND": "controlpanel.base.cache.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "slipway.cache"}}

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
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "account_login"

# The library of local users. Pages and words are ours (accounts/urls.py); nobody signs up but by invitation; there is no mail server.
ACCOUNT_ADAPTER = "controlpanel.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True  # for SESSION_COOKIE_AGE, or until somebody ends it
ACCOUNT_LOGIN_TIMEOUT = 300  # seconds between password and code
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600  # seconds in which who has just said who they are is not asked again
ACCOUNT_RATE_LIMITS = {
    "login": "60/m/ip",
    "login_failed": "20/m/ip,5/5m/key",  # key: the name typed, whether somebody has it or not
    "reauthenticate": "10/m/user",
    "change_password": "10/m/user",
}
MFA_ADAPTER = "controlpanel.accounts.second_factor.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1  # a step of 30 s earlier or later: clocks differ
USERSESSIONS_ADAPTER = "controlpanel.accounts.sessions.SessionsAdapter"

SESSION_COOKIE_NAME = "slipway_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
BEHIND_PROXY = _env_bool("SLIPWAY_PROXY", False)  # base.transport
SECURE_HSTS_SECONDS = _env_int("SLIPWAY_HSTS", 0)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # HSTS holds for a name with all its ports, the tenants' published ones, too: the operator's to say (docs/security.md)
    "security.W005",  # other names below this host's are not ours to bind
    "security.W008",  # plain HTTP is for loopback, where nothing could redirect to
    "security.W012",  # cookies are Secure when the request came by TLS (base.transport): one process serves both
    "security.W016",
    "security.W021",  # the list of browsers' makers is the operator's decision
]
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 << 20  # pages and REST; image tars never pass through Django

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LANGUAGE_COOKIE_NAME = "slipway_language"
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOCALE_PATHS = [BASE_DIR / "controlpanel" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [path for path in (BASE_DIR / "controlpanel" / "static",) if path.is_dir()]
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]  # ours alone: no script of a library's own pages
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
    "filters": {"in a line": {"()": "controlpanel.base.logs.InALine"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": _env("SLIPWAY_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        "django.security.DisallowedHost": {"filters": ["in a line"]},
    },
}

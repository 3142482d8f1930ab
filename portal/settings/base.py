"""Settings that hold however Berth is run."""

from __future__ import annotations

import tomllib
from pathlib import Path

from csp.constants import NONE, SELF

from portal.settings import env

BASE_DIR = Path(__file__).resolve().parent.parent.parent

DEBUG = False
PRODUCTION = False
TLS_ENDS_BEFORE = False
SECRET_KEY = env.text("DJANGO_SECRET_KEY", "")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "tenants",
    "billing",
    "clusters",
    "portal",
    "portal.administration.BerthAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "csp",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "rest_framework",
]

MIDDLEWARE = [
    "tenants.requests.request_context",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.sessions.SessionMiddleware",
    "portal.middleware.untold.UntoldErrorsMiddleware",
]

ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.pages.context.shell",
            ],
            "builtins": ["portal.templatetags.berth"],
        },
    },
]

# The application role: neither owner nor superuser, so that row-level security binds it.
DATABASES = {"default": env.database("DATABASE_URL", "postgresql://berth_app@127.0.0.1:5432/berth")}
# A statement of a web process that takes longer is cancelled: whoever asked has left, and others wait. 0: none is.
DATABASE_STATEMENT_SECONDS = env.number("DATABASE_STATEMENT_SECONDS", 60)
# The owner of the tables, for migrations only (see tenants/management/commands/migrate.py).
DATABASE_OWNER = env.database("DATABASE_OWNER_URL", "") if env.text("DATABASE_OWNER_URL", "") else None

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": env.number("PASSWORD_LENGTH", 12)},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {
        "NAME": "tenants.passwords.ContextWordsValidator",
        # Such as the organisation's name; Berth's own are known.
        "OPTIONS": {"words": env.words("PASSWORD_CONTEXT_WORDS")},
    },
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "tenants.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_USER_DISPLAY = "tenants.accounts.display_name"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_MAX_EMAIL_ADDRESSES = 1
ACCOUNT_EMAIL_NOTIFICATIONS = True  # of a changed password, of factors added and taken away
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_SESSION_REMEMBER = False  # a session ends with the browser, or with the times below
# Attempts are counted in the database, for all processes together. "key" is the account that is tried.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "reset_password": "20/m/ip,5/m/key",
    "reset_password_from_key": "20/m/ip",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
    "find_provider": "20/m/ip",
}
MFA_ADAPTER = "tenants.identity.second_factor.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Berth"
# People are invited to their address; it needs no second proof.
MFA_ALLOW_UNVERIFIED_EMAIL = True
# Who needs a second factor whatever tenants choose: platform (everybody with a platform role), owners, all.
MFA_REQUIRED_FOR = env.words("MFA_REQUIRED_FOR")

SOCIALACCOUNT_ADAPTER = "tenants.identity.adapter.ProviderAdapter"
SOCIALACCOUNT_STORE_TOKENS = False  # they rest sealed in rows of our own
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
# So long after a provider vouched for a person it is asked again, with their groups.
SSO_RECHECK_MINUTES = env.number("SSO_RECHECK_MINUTES", 15)
# A session ends after so long without use, and after so long in any case.
SESSION_IDLE_MINUTES = env.number("SESSION_IDLE_MINUTES", 480)
SESSION_MOST_HOURS = env.number("SESSION_MOST_HOURS", 72)
SESSION_COOKIE_AGE = SESSION_IDLE_MINUTES * 60

DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "berth@localhost")
EMAIL_HOST = env.text("EMAIL_HOST", "localhost")
EMAIL_PORT = env.number("EMAIL_PORT", 25)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "portal.charts.finders.PlotlyFinder",
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# The gateways that this portal's playground may call from the browser.
GATEWAY_PUBLIC_URL = env.text("GATEWAY_PUBLIC_URL", "")
PORTAL_PUBLIC_URL = env.text("PORTAL_PUBLIC_URL", "")
# Where gateways in clusters reach us, if not at the portal's public address.
CONTROL_PLANE_URL = env.text("BERTH_CONTROL_PLANE_URL", "")
# What each cluster's admin made for the files of gateways: a shared volume's claim, and the secret with its keys.
GATEWAY_FILES_CLAIM = env.text("GATEWAY_FILES_CLAIM", "")
GATEWAY_FILES_SECRET = env.text("GATEWAY_FILES_SECRET", "")
#: Where the gateways that Berth deploys share their rate limits: a name that each cluster resolves to its own Redis.
GATEWAY_REDIS_URL = env.text("GATEWAY_REDIS_URL", "")
# Proxies in front of the gateways that Berth deploys whose X-Forwarded-For is believed, as CIDRs.
GATEWAY_TRUSTED_PROXIES = env.networks("GATEWAY_TRUSTED_PROXIES")

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "connect-src": [SELF, *([GATEWAY_PUBLIC_URL] if GATEWAY_PUBLIC_URL else [])],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
MESSAGE_STORAGE = (
    "django.contrib.messages.storage.session.SessionStorage"  # no cookie but the two that are guarded
)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True  # forms and scripts find the token in the page
CSRF_FAILURE_VIEW = "portal.pages.failures.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024  # a batch of 1,000 usage segments is about 1 MB

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.api.authentication.ManagementKeyAuthentication",
        "portal.api.authentication.PortalSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.api.permissions.RolePermission"],
    "DEFAULT_PARSER_CLASSES": ["portal.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "portal.api.pagination.ByCursor",
    "DEFAULT_FILTER_BACKENDS": ["tenants.api.filters.StrictFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "portal.api.errors.problem_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Berth API",
    "DESCRIPTION": "Order, run and account for LLM endpoints.",
    "VERSION": "v1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    # A change says itself which of its fields may be left out.
    "COMPONENT_SPLIT_PATCH": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.api.description.add_problems",
    ],
    "ENUM_NAME_OVERRIDES": {
        "Role": "tenants.models.people.Role",
        "GrantedRole": "clusters.inventory.people.ROLES",
        "TenantState": "tenants.models.tenants.Tenant.State",
        "PriceKind": "billing.models.prices.Price.Kind",
        "StatementState": "billing.models.statements.Statement.State",
        "EndpointState": "clusters.models.endpoints.EndpointState",
        "BudgetBasis": "billing.models.budgets.Budget.Basis",
        "AdviceRunState": "clusters.models.advice.AdviceRun.State",
        "AdviceMoveState": "clusters.models.advice.AdviceMove.State",
        "ApprovalState": "clusters.models.approvals.ApprovalRequest.State",
        "ApprovalRuleKind": "clusters.models.approvals.ApprovalRule.Kind",
        "Decides": "clusters.models.approvals.Decides",
        "KeyState": ["active", "expired", "revoked", "disabled"],
        "RolloutWay": "clusters.models.slo.RolloutWay",
        "RolloutPhase": "clusters.models.rollouts.Rollout.Phase",
        "OnLittleTraffic": "clusters.models.slo.OnLittleTraffic",
        "Precision": ["bf16", "fp8", "int4", "nvfp4"],
        "EvaluationState": "clusters.models.evaluations.EvaluationRun.State",
        "Runtime": ["triton-llmapi", "triton-engine", "triton-python", "trtllm-serve"],
    },
}

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
# Where processes share counts of requests; empty: each counts alone.
CACHE_REDIS_URL = env.text(
    "CACHE_REDIS_URL",
    CELERY_BROKER_URL if CELERY_BROKER_URL.startswith(("redis:", "rediss:", "unix:")) else "",
)
CACHES = {
    # Of sign-in: limits that fail shut, in PostgreSQL, without which nobody signs in anyway.
    "default": {"BACKEND": "tenants.identity.cache.TableCache"},
    # Of requests: limits that fail open.
    "counts": {
        "BACKEND": "portal.cache.ForgivingRedisCache",
        "LOCATION": CACHE_REDIS_URL,
        "KEY_PREFIX": "berth",
        "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5},
    }
    if CACHE_REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
# What one key or person may ask of the REST API a minute; 0: as often as it likes.
API_REQUESTS_PER_MINUTE = env.number("API_REQUESTS_PER_MINUTE", 1200)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "endpoints-sweep": {
        "task": "clusters.endpoints.tasks.sweep_due",
        "schedule": 1.0,
        # What waited while the workers were away is one look's work, not hundreds.
        "options": {"expires": 2},
    },
    "gateways-sweep": {
        "task": "clusters.endpoints.tasks.sweep_gateways",
        "schedule": 1.0,
        "options": {"expires": 2},
    },
    "gateways-look": {
        "task": "clusters.endpoints.tasks.look_at_gateways",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "credentials-renewal": {
        "task": "clusters.endpoints.tasks.renew_credentials",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "advice-keep": {
        "task": "clusters.endpoints.tasks.keep_advice",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "endpoints-leaks": {"task": "clusters.endpoints.tasks.sweep_leaks", "schedule": 60.0},
    # Loads are judged by whole hours: oftener finds nothing new.
    "endpoints-loads": {
        "task": "clusters.endpoints.tasks.sweep_loads",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    # Late usage is judged anew within that time, too.
    "endpoints-attainment": {
        "task": "clusters.endpoints.tasks.keep_attainment",
        "schedule": 900.0,
        "options": {"expires": 900},
    },
    "endpoints-resync": {"task": "clusters.endpoints.tasks.sweep_resync", "schedule": 600.0},
    "reports-keep": {
        "task": "clusters.endpoints.tasks.keep_reports",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "savings-find": {
        "task": "clusters.endpoints.tasks.find_savings",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "autoscaling": {"task": "clusters.endpoints.tasks.sweep_autoscaling", "schedule": 5.0},
    "signals-expiry": {"task": "clusters.endpoints.tasks.expire_signals", "schedule": 3600.0},
    "scaling-decisions-expiry": {
        "task": "clusters.endpoints.tasks.expire_decisions",
        "schedule": 86400.0,
        "options": {"expires": 86400},
    },
    "metering-partitions": {"task": "billing.metering.tasks.keep_partitions", "schedule": 3600.0},
    "metering-retention": {"task": "billing.metering.tasks.drop_partitions", "schedule": 3600.0},
    "metering-watch": {
        "task": "billing.metering.tasks.watch",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "metering-rollups": {
        "task": "billing.metering.tasks.roll_up",
        "schedule": 2.0,
        "options": {"expires": 4},
    },
    "gpu-supply": {
        "task": "clusters.endpoints.tasks.keep_supply",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "statements-close": {
        "task": "billing.statements.tasks.close_due",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "statements-drafts": {
        "task": "billing.statements.tasks.draft_running",
        "schedule": 86400.0,
        "options": {"expires": 86400},
    },
    "gpu-hours": {
        "task": "billing.gpu_time.tasks.compute_hours",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "budgets-settle": {
        "task": "billing.budgets.tasks.settle",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "budgets-forecast": {
        "task": "billing.budgets.tasks.forecast",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "evaluations-sweep": {
        "task": "clusters.endpoints.tasks.sweep_evaluations",
        "schedule": 2.0,
        "options": {"expires": 4},
    },
    "budgets-stop": {
        "task": "clusters.endpoints.tasks.stop_spent",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
    "approvals-keep": {
        "task": "clusters.endpoints.tasks.keep_approvals",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "outbox-sweep": {
        "task": "tenants.webhooks.tasks.sweep",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "outbox-expiry": {"task": "tenants.webhooks.tasks.forget_sent", "schedule": 3600.0},
    "sign-in-expiry": {"task": "tenants.identity.tasks.forget_expired", "schedule": 3600.0},
    "idempotency-expiry": {"task": "tenants.tasks.forget_idempotency_records", "schedule": 3600.0},
}

# Inference and management keys are stored as HMAC-SHA256 under a numbered pepper; gateways have the peppers, too.
KEY_PEPPERS = env.numbered_keys("BERTH_KEY_PEPPERS") if env.text("BERTH_KEY_PEPPERS", "") else {}
# Under these secrets rest in the database. The control plane alone has them.
SEALING_PROVIDER = env.text("BERTH_SEALING_PROVIDER", "environment")
SEALING_KEYS = env.numbered_keys("BERTH_SEALING_KEYS") if env.text("BERTH_SEALING_KEYS", "") else {}
SEALING_FILE = env.text("BERTH_SEALING_FILE", "")
# The numbered key that seals; 0: the highest.
SEALING_KEY_NUMBER = env.number("BERTH_SEALING_KEY", 0)
SEALING_VAULT = {
    "address": env.text("BERTH_VAULT_ADDR", ""),
    "namespace": env.text("BERTH_VAULT_NAMESPACE", ""),
    "ca_file": env.text("BERTH_VAULT_CA_FILE", ""),
    "mount": env.text("BERTH_VAULT_MOUNT", "transit"),
    "key": env.text("BERTH_VAULT_KEY", "berth"),
    "auth": env.text("BERTH_VAULT_AUTH", "token"),
    "auth_mount": env.text("BERTH_VAULT_AUTH_MOUNT", ""),
    "token": env.text("BERTH_VAULT_TOKEN", ""),
    "token_file": env.text("BERTH_VAULT_TOKEN_FILE", ""),
    "role": env.text("BERTH_VAULT_ROLE", ""),
    "secret_id_file": env.text("BERTH_VAULT_SECRET_ID_FILE", ""),
    "jwt_file": env.text(
        "BERTH_VAULT_JWT_FILE",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    ),
    "timeout_s": env.number("BERTH_VAULT_TIMEOUT_S", 5),
}

# With these evidence is signed (Ed25519 seeds); anyone may have the public halves.
SIGNING_KEYS = env.signing_keys("BERTH_SIGNING_KEYS")

# Private networks that tenants' webhooks may lead to, as CIDRs. Loopback is for development and tests.
OUTSIDE_ALLOWED_NETWORKS = env.networks("OUTSIDE_ALLOWED_NETWORKS")
OUTSIDE_ALLOW_LOOPBACK = env.flag("OUTSIDE_ALLOW_LOOPBACK")
# The networks that clusters may stand in, as CIDRs. Empty: public and private ones.
CLUSTER_ALLOWED_NETWORKS = env.networks("CLUSTER_ALLOWED_NETWORKS")
# Proxies in front of the portal whose X-Forwarded-For is believed, as CIDRs.
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
# A webhook that took nothing for so long is disabled.
WEBHOOK_DISABLE_AFTER_DAYS = env.number("WEBHOOK_DISABLE_AFTER_DAYS", 5)

SOFTWARE_VERSION = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
DATA_DIR = Path(env.text("BERTH_DATA_DIR", str(BASE_DIR / ".berth")))
# Whether `manage.py fault` may break things on purpose here. A staging installation says "allowed", a production never.
FAULTS_ALLOWED = env.choice("BERTH_FAULTS", ("allowed",)) == "allowed"
CURRENCY = env.text("BERTH_CURRENCY", "EUR")
USAGE_RETENTION_DAYS = env.number("USAGE_RETENTION_DAYS", 400)
USAGE_MINUTE_DAYS = env.number("USAGE_MINUTE_DAYS", 35)
# Usage that comes so long after its day is late: taken and counted, but shown to operators.
USAGE_LATE_DAYS = env.number("USAGE_LATE_DAYS", 2)
# So long a month stays open after its end, for usage that comes late.
STATEMENT_GRACE_DAYS = env.number("STATEMENT_GRACE_DAYS", 3)
# Who stands on statements and in FOCUS exports as having made, published and billed the service.
FOCUS_PROVIDER_NAME = env.text("FOCUS_PROVIDER_NAME", "Berth")
FOCUS_PUBLISHER_NAME = env.text("FOCUS_PUBLISHER_NAME", FOCUS_PROVIDER_NAME)
FOCUS_INVOICE_ISSUER_NAME = env.text("FOCUS_INVOICE_ISSUER_NAME", FOCUS_PROVIDER_NAME)
# TrueType fonts of PDF documents. The default comes with reportlab and has the letters of western Europe.
DOCUMENT_FONT = env.text("DOCUMENT_FONT", "Vera.ttf")
DOCUMENT_FONT_BOLD = env.text("DOCUMENT_FONT_BOLD", "VeraBd.ttf")

# An approval covers what costs so many percent more than its quote; what is dearer is asked for again.
APPROVAL_PRICE_TOLERANCE_PERCENT = env.number("APPROVAL_PRICE_TOLERANCE_PERCENT", 10)
# A link in a mail decides for so long at most, however long its request waits.
APPROVAL_LINK_DAYS = env.number("APPROVAL_LINK_DAYS", 30)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "tenants.requests.RequestId"}},
    "formatters": {
        "line": {
            "()": "gateway.contract.redaction.RedactingFormatter",
            "format": "%(asctime)s %(levelname)s %(request_id)s %(name)s %(message)s",
        }
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}
    },
    "root": {"handlers": ["stderr"], "level": env.text("LOG_LEVEL", "INFO")},
    # All lines go through the root's handler, which masks secrets: no mail of an exception, no handlers of a server's.
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": [], "propagate": True},
        "httpx": {"level": "WARNING"},
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": True},
        "uvicorn.error": {"handlers": [], "propagate": True},
    },
}
DEFAULT_EXCEPTION_REPORTER_FILTER = "portal.exception_reports.NothingShown"

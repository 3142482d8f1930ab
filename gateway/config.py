"""The gateway's settings: the only module of the gateway that reads the environment."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?")
_ON_OFF = ("ON", "OFF")
_MIB = 1024 * 1024
_FILES_KEY_BYTES = 32


class ConfigurationError(Exception):
    """A variable of the environment is missing or wrong; the message names it and what it must be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilesConfig:
    """What files and batches are told. Without ``keys`` that door is off; limits are of one tenant."""

    folder: Path
    keys: Mapping[int, bytes]
    file_limit_bytes: int
    tenant_limit_bytes: int
    open_batches: int
    lines_in_flight: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything one gateway process is told from outside. Durations are seconds."""

    name: str
    region: str
    token: str
    control_plane_url: str
    host: str
    port: int
    data_dir: Path
    peppers: Mapping[int, bytes]
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    body_limit_bytes: int
    segment_window_s: float
    notice_s: float
    drain_s: float
    report_s: float
    signal_s: float
    metrics: bool
    traces_url: str  # where spans go, empty where none are made
    trace_ratio: float
    most_waiting: int
    redis_url: str  # holds a password; empty for none
    redis_call_s: float
    log_level: str
    files: FilesConfig

    @property
    def folder(self) -> Path:
        """Where this gateway keeps its snapshot, usage log and spool."""
        return self.data_dir / "gateway" / self.name


def read_config(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings from ``environment``.

    Raises:
        ConfigurationError: a variable is missing or cannot be understood.
    """
    reader = _Reader(environment)
    name = reader.text("BERTH_GATEWAY_NAME")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "BERTH_GATEWAY_NAME must be 1 to 48 of a-z, 0-9, '.', '_', '-', and begin and end with a letter"
            f" or digit; it is {name!r}."
        )
    data_dir = Path(reader.text("BERTH_DATA_DIR", ".berth")).absolute()
    return Config(
        name=name,
        region=reader.text("BERTH_GATEWAY_REGION"),
        token=reader.text("BERTH_GATEWAY_TOKEN"),
        control_plane_url=reader.url("BERTH_CONTROL_PLANE_URL"),
        host=reader.text("BERTH_GATEWAY_HOST", "127.0.0.1"),
        port=int(reader.number("BERTH_GATEWAY_PORT", 0, low=0, high=65_535, whole=True)),
        data_dir=data_dir,
        peppers=reader.numbered("BERTH_KEY_PEPPERS"),
        trusted_proxies=reader.networks("BERTH_GATEWAY_TRUSTED_PROXIES"),
        body_limit_bytes=int(
            reader.number("BERTH_GATEWAY_BODY_LIMIT_BYTES", 4 * _MIB, low=1024, high=1024 * _MIB, whole=True)
        ),
        segment_window_s=reader.number("BERTH_GATEWAY_SEGMENT_WINDOW_S", 2.0, low=0.05, high=300.0),
        notice_s=reader.number("BERTH_GATEWAY_NOTICE_S", 0.0, low=0.0, high=300.0),
        drain_s=reader.number("BERTH_GATEWAY_DRAIN_S", 25.0, low=0.0, high=3_600.0),
        report_s=reader.number("BERTH_GATEWAY_REPORT_S", 30.0, low=0.05, high=3_600.0),
        signal_s=reader.number("BERTH_GATEWAY_SIGNAL_S", 5.0, low=0.05, high=60.0),
        metrics=reader.choice("BERTH_GATEWAY_METRICS", "on", _ON_OFF) == "ON",
        traces_url=_traces_url(reader),
        trace_ratio=reader.number("BERTH_GATEWAY_TRACE_RATIO", 0.01, low=0.0, high=1.0),
        most_waiting=int(reader.number("BERTH_GATEWAY_QUEUE_LIMIT", 4096, low=1, high=1_000_000, whole=True)),
        redis_url=reader.redis_url("BERTH_GATEWAY_REDIS_URL"),
        redis_call_s=reader.number("BERTH_GATEWAY_REDIS_CALL_S", 0.05, low=0.02, high=10.0),
        log_level=reader.choice("BERTH_GATEWAY_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
        files=_read_files(reader, default=data_dir / "gateway" / name / "files"),
    )


def _read_files(reader: _Reader, *, default: Path) -> FilesConfig:
    def whole(name: str, fallback: int, high: int, low: int = 1) -> int:
        return int(reader.number(name, fallback, low=low, high=high, whole=True))

    name = "BERTH_GATEWAY_FILES_KEYS"
    return FilesConfig(
        folder=Path(reader.text("BERTH_GATEWAY_FILES_DIR", str(default))).absolute(),
        keys=reader.numbered(name, size=_FILES_KEY_BYTES) if reader.given(name) else {},
        file_limit_bytes=whole("BERTH_GATEWAY_FILE_LIMIT_BYTES", 200 * _MIB, 4096 * _MIB, low=1024),
        tenant_limit_bytes=whole("BERTH_GATEWAY_FILES_TENANT_BYTES", 5120 * _MIB, 2**50, low=1024),
        open_batches=whole("BERTH_GATEWAY_OPEN_BATCHES", 20, 10_000),
        lines_in_flight=whole("BERTH_GATEWAY_BATCH_LINES", 16, 1_000),
    )


def _traces_url(reader: _Reader) -> str:
    """Give the address for spans. OpenTelemetry's own variables decide unless ours does."""
    own = reader.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = reader.url("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    wanted = reader.choice("BERTH_GATEWAY_TRACES", "on" if own or base else "off", _ON_OFF)
    if wanted == "OFF":
        return ""
    return own or (base or "http://localhost:4318") + "/v1/traces"


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environment.get(name, "").strip() or default
        if not value:
            raise ConfigurationError(f"Set the environment variable {name}.")
        return value

    def given(self, name: str) -> bool:
        return bool(self._environment.get(name, "").strip())

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default).upper()
        if value not in allowed:
            raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}; it is {value!r}.")
        return value

    def number(self, name: str, default: float, *, low: float, high: float, whole: bool = False) -> float:
        text = self.text(name, str(default))
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise ConfigurationError(f"{name} must be {kind}; it is {text!r}.") from None
        if not low <= value <= high:
            raise ConfigurationError(f"{name} must be from {low} to {high}; it is {text!r}.")
        return value

    def networks(self, name: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        words = [word.strip() for word in self._environment.get(name, "").split(",") if word.strip()]
        try:
            return tuple(map(ipaddress.ip_network, words))
        except ValueError as error:
            raise ConfigurationError(f"{name} must hold networks such as 10.20.0.0/16: {error}.") from None

    def url(self, name: str, default: str | None = None) -> str:
        if default is not None and not self._environment.get(name, "").strip():
            return default
        value = self.text(name).rstrip("/")
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{name} must be an http:// or https:// URL; it is {value!r}.")
        return value

    def redis_url(self, name: str) -> str:
        # The value may hold a password, so that no message may quote it.
        value = self._environment.get(name, "").strip()
        if value and urlsplit(value).scheme not in ("redis", "rediss", "unix"):
            raise ConfigurationError(f"{name} must be a redis://, rediss:// or unix:// URL.")
        return value

    def numbered(self, name: str, *, size: int | None = None) -> dict[int, bytes]:
        # The value is secret, so that no message may quote it.
        values: dict[int, bytes] = {}
        for item in self.text(name).split(","):
            number, _, digits = item.strip().partition(":")
            try:
                value = bytes.fromhex(digits)
                values[int(number)] = value
            except ValueError:
                value = b""
            if not value or (size is not None and (len(value) != size or not 0 <= int(number) < 2**32)):
                form = "hex digits" if size is None else f"{2 * size} hex digits"
                raise ConfigurationError(f"{name} must look like 1:<{form}>,2:<{form}>.")
        return values

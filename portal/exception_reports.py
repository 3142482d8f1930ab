"""What Django tells of an exception where it makes a page or a report of it: the code, and nothing of the request."""

from __future__ import annotations

import re
from types import FrameType
from typing import Any

from django.http import HttpRequest, QueryDict
from django.views.debug import SafeExceptionReporterFilter

from gateway.contract.redaction import MASK, masked


class NothingShown(SafeExceptionReporterFilter):
    """Hides what was sent, local variables, and settings that hold secrets or addresses with them; always."""

    cleansed_substitute = MASK
    hidden_settings = re.compile(
        "API|AUTH|BROKER|COOKIE|DATABASE|DSN|EMAIL|KEY|PASS|PEPPER|REDIS|SEALING|SECRET|SIGNATURE|TOKEN|URL|VAULT",
        re.IGNORECASE,
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_safe_request_meta(self, request: HttpRequest | None) -> dict[str, Any]:
        meta = super().get_safe_request_meta(request)
        return {name: masked(value) if isinstance(value, str) else value for name, value in meta.items()}

    def get_safe_cookies(self, request: HttpRequest | None) -> dict[str, Any]:
        return dict.fromkeys(super().get_safe_cookies(request), MASK)

    def get_post_parameters(self, request: HttpRequest | None) -> QueryDict:
        shown = QueryDict(mutable=True)
        for name in request.POST if request is not None else ():
            shown[name] = MASK
        return shown

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> list[tuple[str, Any]]:
        return [(name, MASK) for name in tb_frame.f_locals]

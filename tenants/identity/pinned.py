"""HTTP to providers: addresses that tenants name, judged and pinned as those of webhooks are."""

from __future__ import annotations

import time
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from tenants import outside

#: What a request to a provider raises, whatever went wrong on the way.
Failed = requests.RequestException
CONNECT_S: Final = 5
READ_S: Final = 10
WHOLE_S: Final = 15
MOST_BYTES: Final = 1024 * 1024


class PinnedAdapter(HTTPAdapter):
    """Connects to the address that was judged, whatever the name means a moment later."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        try:
            target = outside.resolve(request.url or "")
        except outside.Refused as error:
            raise requests.exceptions.InvalidURL(str(error), request=request) from error
        self._target = target
        default = {"https": 443, "http": 80}[target.scheme] == target.port
        host = f"[{target.host}]" if ":" in target.host else target.host
        request.headers["Host"] = host if default else f"{host}:{target.port}"
        options |= {"stream": True, "timeout": (CONNECT_S, READ_S), "proxies": {}, "verify": True}
        response = super().send(request, **options)
        response._content = self._body(response)
        return response

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        where, how = self.build_connection_pool_key_attributes(request, verify, cert)
        where["host"] = str(self._target.address)
        if self._target.scheme == "https":
            how["server_hostname"] = how["assert_hostname"] = self._target.host
        return self.poolmanager.connection_from_host(**where, pool_kwargs=how)

    def _body(self, response: requests.Response) -> bytes:
        began, found = time.monotonic(), b""
        try:
            for piece in response.raw.stream(16 * 1024, decode_content=True):
                found += piece
                if len(found) > MOST_BYTES or time.monotonic() - began > WHOLE_S:
                    raise requests.exceptions.ConnectionError("the answer is too long, or comes too slowly")
        except HTTPError as error:
            raise requests.exceptions.ConnectionError(str(error)) from error
        finally:
            response.close()
        return found


class PinnedSession(requests.Session):
    """Follows no redirects and heeds no proxies of the environment; every request has an end."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("https://", PinnedAdapter())
        self.mount("http://", PinnedAdapter())

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        options["allow_redirects"] = False
        response = super().request(method, url, **options)
        if response.is_redirect:
            raise requests.exceptions.TooManyRedirects(f"{url} leads elsewhere; that is not followed.")
        return response

"""Connections that go to the address that was judged, whatever the name means a moment later."""

from __future__ import annotations

import contextlib
import socket

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from clusters.kube.addresses import judged


class JudgedConnection(HTTPSConnection):
    """Certificates are still checked against the name. Through a proxy the proxy resolves; what can be judged is."""

    def _new_conn(self) -> socket.socket:
        if self.proxy is not None:
            with contextlib.suppress(OSError, UnicodeError):
                judged(
                    str(getattr(self, "_tunnel_host", None) or ""),
                    int(getattr(self, "_tunnel_port", None) or 0),
                )
            return super()._new_conn()
        try:
            addresses = judged(self._dns_host, self.port)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failed: HTTPError | None = None
        for address in addresses:
            try:
                return create_connection(
                    (str(address), self.port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except TimeoutError as error:
                failed = ConnectTimeoutError(self, f"{address} took no connection within {self.timeout} s")
                failed.__cause__ = error
            except OSError as error:
                failed = NewConnectionError(self, f"{address}: {error}")
                failed.__cause__ = error
        raise failed or NewConnectionError(self, f"{self.host} has no address")


class JudgedConnectionPool(HTTPSConnectionPool):
    """A pool of them."""

    ConnectionCls = JudgedConnection

"""The portal on a test's own database, for a browser."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


def _application():
    inner = StaticFilesHandler(get_wsgi_application())

    def answer(environ, start_response):
        try:
            return inner(environ, start_response)
        finally:
            connection.close()

    return answer


@contextlib.contextmanager
def browsable() -> Iterator[str]:
    """Serve the portal for the length of the block; give an address that a browser reaches."""
    with make_server("127.0.0.1", 0, _application(), server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

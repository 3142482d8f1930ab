"""``python -m gateway``: run one gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys

import uvloop

from gateway.config import Config, ConfigurationError, read_config
from gateway.contract.redaction import log_to_stderr
from gateway.files import FolderInUse
from gateway.server import GatewayServer


async def serve(config: Config) -> None:
    """Serve until the process is told to stop, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = GatewayServer(config)
    await server.start()
    # What exists now lives as long as the process; collections need not walk it.
    gc.collect()
    gc.freeze()
    await stop.wait()
    logging.getLogger(__name__).info("stopping")
    await server.stop()


def main() -> int:
    """Run; gives the exit status."""
    try:
        config = read_config()
        log_to_stderr(config.log_level, "%(asctime)s %(levelname)s %(name)s: %(message)s")
        # Each request may hold two sockets; the usual soft limit of 1,024 files would end at 500 clients.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        uvloop.run(serve(config))
    except (ConfigurationError, FolderInUse) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gateway: cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

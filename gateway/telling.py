"""Telling the control plane something that nobody waits for."""

from __future__ import annotations

import logging
from typing import Final

import aiohttp
import msgspec

_log = logging.getLogger(__name__)
_CONNECT_S: Final = 5.0


async def tell(
    session: aiohttp.ClientSession, url: str, message: msgspec.Struct, *, what: str, total_s: float = 15.0
) -> bool:
    """Post ``message``, which the log calls ``what``; say whether it was taken within ``total_s`` seconds.

    ``session`` carries the gateway's token.
    """
    try:
        async with session.post(
            url,
            data=msgspec.json.encode(message),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=_CONNECT_S),
            allow_redirects=False,
        ) as response:
            if response.status >= 300:
                _log.warning("the control plane took no %s: it answered %d", what, response.status)
            return response.status < 300
    except (aiohttp.ClientError, TimeoutError) as error:
        _log.info("the control plane took no %s: %r", what, error)
        return False

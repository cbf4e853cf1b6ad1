"""Whether there is a network, for those who would try for half a minute to find out."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cached_if_cut_off() -> Iterator[None]:
    """Without a network other libraries look into the hub's cache alone; by themselves they try again for half a minute.

    Raises:
        ConnectionError: There is none, and what they look for is not in the cache.
    """
    from huggingface_hub import constants

    before, cut_off = constants.HF_HUB_OFFLINE, has_no_address(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = before or cut_off
    try:
        yield
    except OSError as error:
        if before or not cut_off:
            raise
        raise ConnectionError(f"it is not in the cache, and no address can be found for {constants.ENDPOINT}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def has_no_address(url: str) -> bool:
    """Whether its host's name can't be resolved here; a proxy may know better."""
    if urllib.request.getproxies():
        return False
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, None)
    except OSError:
        return True
    return False

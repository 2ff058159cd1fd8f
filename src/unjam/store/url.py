"""URLs of stores as people may see them."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)([^/?#]*)@")
_PASSWORD = re.compile(r"(?<=[?&]password=)[^&#]*")


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def shown(url: str) -> str:
    """The URL without its password: for sentences, logs and screens."""
    if not is_postgres(url):
        return url
    url = _LOGIN.sub(lambda found: found[1].partition(":")[0] + "@", url, count=1)
    return _PASSWORD.sub("***", url)

"""What every command needs, made when it is first asked for: settings and store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from unjam.settings import Loaded, Settings
    from unjam.store.port import Store


class App:
    """One invocation; `flags` are settings given on the command line."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.flags = dict(flags)

    @cached_property
    def loaded(self) -> Loaded:
        from unjam.settings import load_with_origins

        return load_with_origins(self.flags)

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    def here(self) -> str:
        """The id of this machine."""
        from unjam.supervise.host import host_id

        return host_id(self.settings.home, self.settings.host_id)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, closed at the end. Raises StoreUnavailable."""
        from unjam.settings import sqlite_url
        from unjam.store import open_store

        settings = self.settings
        in_home = settings.store == sqlite_url(settings.home / "unjam.db")
        store = open_store(settings.store, make_parents=in_home)
        try:
            # A run that was killed may have left no worker behind either: whoever looks first pauses its
            # jobs, so that they are seen as what they are and not taken by a worker started for others.
            store.expire_attachments()
            yield store
        finally:
            store.close()


pass_app = click.make_pass_decorator(App)

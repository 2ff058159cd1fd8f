"""Ids of jobs and batches: made here, and found again by prefix or as `@last`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unjam.errors import NotFound, UsageError
from unjam.store.port import Store

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32 in lower case: no i, l, o, u, which are misread."""
LENGTH = 9


def new_id(kind: Literal["j", "b", "w"]) -> str:
    """A fresh id of a job (j), batch (b) or watcher (w): 45 random bits."""
    return kind + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


@dataclass(frozen=True, slots=True)
class Target:
    """What an id stands for: one job, or the jobs of a batch."""

    job_ids: tuple[str, ...]
    batch_id: str | None = None


def resolve(store: Store, text: str) -> Target:
    """The job or batch whose id begins with `text`; `@last` is the newest submission.

    Raises NotFound, or UsageError that lists the candidates when `text` is the beginning of several.
    """
    if text == "@last":
        newest = store.newest()
        if newest is None:
            raise NotFound("@last: nothing was submitted to this store yet")
        return _target(store, newest)
    found = store.resolve(text)
    if text in found:
        return _target(store, text)
    if not found:
        raise NotFound(f"{text}: no job or batch of this id; `unjam ls` shows what there is")
    if len(found) > 1:
        raise UsageError(f"{text}: the beginning of several ids: {', '.join(found)}; type more of it")
    return _target(store, found[0])


def resolve_all(store: Store, texts: Sequence[str]) -> list[str]:
    """The ids of all jobs that `texts` stand for, each once, in order."""
    return list(dict.fromkeys(job_id for text in texts for job_id in resolve(store, text).job_ids))


def resolve_job(store: Store, text: str) -> str:
    """Exactly one job. Raises UsageError for a batch of several."""
    target = resolve(store, text)
    if len(target.job_ids) != 1:
        raise UsageError(f"{text}: a batch of {len(target.job_ids)} jobs; name one of them")
    return target.job_ids[0]


def _target(store: Store, known: str) -> Target:
    if known.startswith("b"):
        jobs = store.batch_jobs(known)
        if jobs is None:
            raise NotFound(f"{known}: no such batch")
        return Target(tuple(jobs), known)
    return Target((known,))

"""Asking the hub: another try where a fault may pass, and what to do where it does not.

The hub's clients try some requests again and others not; here every request is, a few times, whatever it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

T = TypeVar("T")
WAITS = (1.0, 4.0, 15.0)  # seconds before the second, third and fourth try
PASSING = (408, 429, 500, 502, 503, 504)
# The hub's own error, and the base of all errors of its HTTP library, which differs between its versions.
UNREACHABLE: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])


def patiently(ask: Callable[[], T]) -> T:
    """Return what `ask` gives, asking again after a fault that may pass. Raises the last error."""
    for wait in WAITS:
        try:
            return ask()
        except UNREACHABLE as error:
            if not may_pass(error):
                raise
            time.sleep(wait)
    return ask()


def may_pass(error: BaseException) -> bool:
    """Tell whether the same question may be answered in a while: too many requests, a fault of the hub, a cut line."""
    if constants.HF_HUB_OFFLINE:
        return False
    if (answered := status(error)) is not None:
        return answered in PASSING
    return any(isinstance(link, (ConnectionError, TimeoutError, UNREACHABLE[1])) for link in _chain(error))


def status(error: BaseException) -> int | None:
    """Return the HTTP status that an error, or what it was raised from, tells of."""
    for link in _chain(error):
        code = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(code, int):
            return code
    return None


def refusal(what: str, error: BaseException, page: str, otherwise: str, commit: str | None = None) -> str:
    """Say why something of the hub cannot be had, and what to do.

    what: kind and name, as in "data set allenai/sciq"; page: its address below the hub's; otherwise: what works
    without the hub; commit: the one that was asked for.
    """
    links = [*_chain(error)]
    if any(isinstance(link, GatedRepoError) for link in links):
        return (
            f"{what} is gated: ask for access at {constants.ENDPOINT}/{page}, then set HF_TOKEN to a token of the "
            "account that has it (or run: hf auth login)"
        )
    if any(isinstance(link, RevisionNotFoundError) for link in links):
        return f"{what} has no commit {commit}: see {constants.ENDPOINT}/{page}/commits/main, and give --revision one"
    if any(isinstance(link, RepositoryNotFoundError) for link in links):
        return (
            f"{what} is not on the hub, or private: look at its spelling; for a private one set HF_TOKEN to a token "
            "that may read it"
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if (answered := status(error)) is not None and str(answered) not in reason:
        reason = f"{answered}: {reason}"
    again = "try again later, or without it" if may_pass(error) else "Without it"
    return f"{what} cannot be had from the hub ({reason}). {again[0].upper() + again[1:]}: {otherwise}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__

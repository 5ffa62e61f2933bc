"""Keep what was computed from a large value that many sessions share, by which value it is and not by what is in it.

Streamlit's caches hash their arguments; hashing thousands of links costs more than what is to be kept. The links of a window
are one tuple for all sessions (app.data), so its identity is enough. The value is held as long as what was made of it, so an
identity is never used twice.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

__all__ = ["by_identity"]

F = TypeVar("F", bound=Callable[..., Any])


class _Kept:
    """A value that is made once; who asks while it is being made waits for it."""

    __slots__ = ("first", "is_made", "lock", "value")

    def __init__(self, first: object) -> None:
        self.first = first  # held, so that its identity is not used again
        self.lock = Lock()
        self.is_made = False
        self.value: Any = None


def by_identity(entries: int) -> Callable[[F], F]:
    """A decorator: keep the newest results by the identity of the first argument and the values of the others (hashable).

    What is given out is shared: nobody may change it. The decorated function must not call itself with the same arguments.

    >>> @by_identity(2)
    ... def size(values, factor=1):
    ...     return [len(values) * factor]
    >>> many = (1, 2, 3)
    >>> size(many) is size(many), size(many, factor=2)
    (True, [6])
    """

    def decorate(function: F) -> F:
        kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
        lock = Lock()

        @functools.wraps(function)
        def found(first: Any, *rest: Any, **named: Any) -> Any:
            key = (id(first), rest, tuple(sorted(named.items())))
            with lock:
                held = kept.get(key)
                if held is None:
                    held = kept[key] = _Kept(first)
                    while len(kept) > entries:
                        kept.popitem(last=False)
                else:
                    kept.move_to_end(key)
            if not held.is_made:
                with held.lock:
                    if not held.is_made:
                        held.value = function(first, *rest, **named)
                        held.is_made = True
            return held.value

        return found  # type: ignore[return-value]

    return decorate

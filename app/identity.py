"""Keep what was computed from a large value that many sessions share, by which value it is and not by what is in it.

Streamlit's caches hash their arguments; hashing thousands of links costs more than what is to be kept. The links of a window
are one tuple for all sessions (app.data), so its identity is enough. The value is held as long as what was made of it, so an
identity is never used twice.

A fleet of hundreds of PoPs has a hundred thousand links, and they are other ones with every tick: what is kept is bounded by
their number too.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence, Sized
from threading import Lock
from typing import Any, TypeVar

__all__ = ["MOST_ITEMS", "by_identity", "surplus"]

#: How many links, in all their versions, a cache holds on to: a hundred MB or two. The newest is held whatever its size.
MOST_ITEMS = 250_000

F = TypeVar("F", bound=Callable[..., Any])


class _Kept:
    """A value that is made once; who asks while it is being made waits for it."""

    __slots__ = ("first", "is_made", "lock", "value")

    def __init__(self, first: object) -> None:
        self.first = first  # held, so that its identity is not used again
        self.lock = Lock()
        self.is_made = False
        self.value: Any = None


def _size(value: object) -> int:
    return len(value) if isinstance(value, Sized) else 1


def surplus(sizes: Sequence[int], entries: int) -> int:
    """How many of the oldest must go, of values of these sizes, the oldest first.

    >>> surplus([100_000, 100_000, 100_000], 8), surplus([400_000], 8), surplus([1, 1, 1], 2)
    (1, 0, 1)
    """
    held, gone = sum(sizes), 0
    while gone < len(sizes) - 1 and (held > MOST_ITEMS or len(sizes) - gone > entries):
        held -= sizes[gone]
        gone += 1
    return gone


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
                    # What was made of the same value is held together with it, for the price of one.
                    newest = {id(one.first): _size(one.first) for one in reversed(kept.values())}
                    gone = set(list(newest)[len(newest) - surplus(list(newest.values())[::-1], entries) :])
                    for name in [name for name in kept if name[0] in gone]:
                        del kept[name]
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

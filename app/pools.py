"""Where a sweep runs: here, in processes of this machine, or on Dask workers; each as arguments of `routing.sweep.chunked`.

Processes are started by a fork server: a fork of a process with threads (the dashboard's, DuckDB's) may stop dead.
Dask's workers get their memory settings before they start: its own MALLOC_TRIM_THRESHOLD_ of 64 KiB makes glibc hand
every large temporary of NumPy back to the kernel, which costs two to five times the time (dask/distributed#5971).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import multiprocessing
import os
import pickle
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeVar

from records.errors import ToolMissing, UserError

__all__ = ["CHUNK_S", "check_address", "chunk_of", "dask", "prepare", "processes"]

Item = TypeVar("Item")

#: What a task should be worth: one handed over costs a millisecond in processes and ten or more in Dask, whose scheduler and client
#: take that from the same cores here; tasks of 0.1 s cost a sixth of a sweep there, of 0.4 s nothing that shows.
CHUNK_S = 0.4

#: 32 MiB is the most that glibc takes for the second.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


def chunk_of(function: Callable[[Item], Any], sample: Item, *, count: int, workers: int) -> int:
    """How many of `count` items make a task of CHUNK_S or more, by one timed call; never so many that a worker has none."""
    function(sample)  # whatever is made once is made now
    start = time.perf_counter()
    function(sample)
    each_s = max(1e-6, time.perf_counter() - start)
    return max(1, min(math.ceil(CHUNK_S / each_s), math.ceil(count / max(1, workers))))


@dataclass(frozen=True)
class _Filed:
    """A function that lies in a file of this machine, with all that is bound to it; a process reads it once."""

    path: str

    def __call__(self, item: Any) -> Any:
        found = _READ.get(self.path)
        if found is None:
            _READ.clear()  # a sweep uses one
            found = _READ[self.path] = pickle.loads(Path(self.path).read_bytes())  # noqa: S301 (written by the process that asks)
        return found(item)


_READ: dict[str, Callable[[Any], Any]] = {}


#: What the processes of a sweep need, loaded once and forked: SciPy's solver alone takes half a second.
_LOADED = ["routing.sweep", "routing.failures", "routing.harm"]


def prepare(count: int) -> None:
    """Begin to load what `processes(count)` will need, beside whatever is done until then."""
    if count > 1:
        multiprocessing.get_context("forkserver").set_forkserver_preload(_LOADED)
        forkserver.ensure_running()


@contextlib.contextmanager
def processes(count: int) -> Iterator[dict[str, Any]]:
    """Processes of this machine; a pool that lost one is replaced by a new one. One process, or none, is this one."""
    if count <= 1:
        yield {"executor": None, "workers": 1}
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    pools: list[ProcessPoolExecutor] = []

    def make() -> Executor:
        pools.append(ProcessPoolExecutor(count, mp_context=context))
        return pools[-1]

    with tempfile.TemporaryDirectory(prefix="isochrone-") as folder:  # of this user alone

        def share(function: Callable[[Any], Any]) -> _Filed:
            handle, path = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as file:
                pickle.dump(function, file, protocol=pickle.HIGHEST_PROTOCOL)
            return _Filed(path)

        try:
            yield {"executor": make(), "workers": count, "renew": make, "share": share}
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)


#: Dask samples every worker's stack a hundred times a second, for a page nobody looks at here.
_LEAN = {"distributed.worker.profile.enabled": False}


#: tcp://host:port, as Dask's clients take it; tls and ws too.
_ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|inproc)://)?(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")


def check_address(address: str) -> None:
    """Raise UserError for what cannot be a scheduler's address: Dask itself says so after half a minute, and not in a sentence."""
    if not _ADDRESS.fullmatch(address):
        raise UserError(f"{address!r} is no address of a Dask scheduler; give one as in tcp://host:8786, or local for one made here")


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Have a library's loggers say nothing meanwhile."""
    known = [one for one in logging.root.manager.loggerDict if one == name or one.startswith(f"{name}.")]
    loggers = [logging.getLogger(one) for one in known]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


@contextlib.contextmanager
def dask(address: str | None = None, *, count: int = 2, timeout_s: float = 10.0) -> Iterator[dict[str, Any]]:
    """Workers of a Dask scheduler (tcp://host:port), or of a cluster of `count` processes made here, on loopback only.

    Dask gives the task of a lost worker to another by itself; what it has given up (KilledWorker) is tried again.
    Raises ToolMissing without the extra `dask`, UserError for a scheduler that does not answer.
    """
    if address is not None:
        check_address(address)
    try:
        distributed: Any = importlib.import_module("distributed")
        config: Any = importlib.import_module("dask").config
    except ModuleNotFoundError as error:
        raise ToolMissing("Dask is not installed; pip install 'isochrone[dask]', or use processes") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in _MALLOC.items()} | _LEAN))
        if address is None:
            cluster = distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=logging.ERROR
            )
            address = stack.enter_context(cluster).scheduler_address
        try:
            with _silent("distributed"):  # a client that gives up logs tracebacks of its own
                client = stack.enter_context(distributed.Client(address, timeout=timeout_s, set_as_default=False))
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"no Dask scheduler answers at {address}: {error}; give its address, as in tcp://host:8786") from error
        workers = len(client.scheduler_info(n_workers=-1)["workers"]) or count

        def executor() -> Executor:
            found: Executor = client.get_executor(pure=False)
            return found

        def share(function: Callable[[Any], Any]) -> Any:
            # A task that names it gets the thing itself; with every worker holding it none has to be asked for it.
            return client.scatter(function, broadcast=True, hash=False)

        lost = (BrokenExecutor, CancelledError, distributed.KilledWorker)
        yield {"executor": executor(), "workers": workers, "renew": executor, "lost": lost, "share": share}

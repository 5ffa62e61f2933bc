"""Whether a model fits: weights, keys and values of a batch against the memory of a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from inventory.model import Inventory
from inventory.roofline import QUANTISATIONS
from records.serving import ServingPool, Workload
from records.units import GB
from routing.constraints import Memory, MemoryOf

__all__ = ["MEMORY_SHARE", "fitted", "memory_of"]

#: The share of a device's memory that weights, keys and values may have; the rest is the engine's (as in inventory/roofline.py).
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class _Memory:
    """What an inventory knows of memory; goes to other processes with it."""

    inventory: Inventory

    def __call__(self, pool: ServingPool, workload: Workload) -> Memory | None:
        inventory = self.inventory
        model, quantised = inventory.models.get(pool.model), QUANTISATIONS.get(pool.profile.quantisation)
        device = inventory.accelerators.get(pool.accelerator)
        if model is None or quantised is None or device is None:
            return None
        held = model.kv_bytes_per_token * (workload.input_tokens + workload.output_tokens)
        return Memory((model.parameters * quantised.bytes_per_parameter + held) / GB, device.memory_gb * MEMORY_SHARE)


def memory_of(inventory: Inventory) -> MemoryOf:
    """What one request of a workload needs on a pool's device (weights, its keys and values) and what there is.

    None where the model's sizes or its quantisation's are not known.
    """
    return _Memory(inventory)


def fitted(pools: Iterable[ServingPool], workload: Workload, inventory: Inventory) -> tuple[ServingPool, ...]:
    """The pools with no more batch slots than weights and the workload's keys and values leave memory for, but one at least.

    Whether that one fits is the planner's question (memory_of); pools whose sizes are not known stay as they are.
    """
    memory = memory_of(inventory)

    def fit(pool: ServingPool) -> ServingPool:
        known = memory(pool, workload)
        if known is None:
            return pool
        each = inventory.models[pool.model].kv_bytes_per_token * (workload.input_tokens + workload.output_tokens) / GB
        slots = max(1, 1 + int((known.have_gb - known.need_gb) // each)) if each > 0 else pool.profile.max_batch
        return pool if slots >= pool.profile.max_batch else replace(pool, profile=replace(pool.profile, max_batch=slots))

    return tuple(fit(pool) for pool in pools)

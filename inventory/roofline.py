"""A profile from data sheets: how fast a device can serve a model, from bytes moved and operations done.

One output token reads every parameter once for the whole batch and the keys and values of each request; a prompt
token costs two operations a parameter (multiply and add). So, with peak bandwidth B and peak arithmetic F:

    alpha = overhead + read_parameters x bytes / (B x e_B)
    beta  = kv_bytes x context / (B x e_B) + s x 2 x read_parameters / (F x e_F)
    gamma = a constant
    delta = 2 x read_parameters / (F x e_F)

e_B and e_F are the shares of the peaks that software reaches, s the share of the arithmetic of a token that does not hide
behind reading the weights. The constants of GPUs are set to estimates by AIConfigurator from measured kernels
(L40S, A100, H100, H200; Llama 3.1 8B in bf16, batch 1 to 64): there the time per token is off by 5 % on the mean and
14 % at most, the time of a prompt by 15 % at most. Elsewhere it is worse, most for small models, whose overhead
weighs more; `error_ratio` of a profile made here is what was seen for its kind of device, or more. Attention's quadratic
part is left out: below 10 % up to some 4,000 tokens. A batch beyond MAX_BATCH may be bound by arithmetic; the line
does not hold there, and slots end there. One device only: models split over several devices are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from records.serving import Accelerator, Model, PerfProfile

__all__ = ["MAX_BATCH", "QUANTISATIONS", "REFERENCE_CONTEXT_TOKENS", "Quantisation", "derive", "roofline"]

Arithmetic = Literal["bf16", "fp8"]


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Bytes a parameter takes in memory, and the precision it is multiplied in where the device can."""

    bytes_per_parameter: float
    arithmetic: Arithmetic


#: int4 is weight-only with a 16-bit scale and a 4-bit zero for each group of 128 (4.16 bits); it is multiplied in bf16.
QUANTISATIONS: dict[str, Quantisation] = {
    "bf16": Quantisation(2.0, "bf16"),
    "fp8": Quantisation(1.0, "fp8"),
    "int4": Quantisation(0.52, "bf16"),
}

#: Tokens held for each request of a batch: the middle of an answer of 256 to a prompt of 1,024.
REFERENCE_CONTEXT_TOKENS = 1152
MAX_BATCH = 64
#: The share of memory for weights, keys and values; the rest is the engine's.
_MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class _Kind:
    """Shares of the peaks, overheads and the error to state, for one kind of device."""

    bandwidth_share: float
    arithmetic_share: float
    unhidden_share: float
    overhead_ns: float
    gamma_ns: float
    max_batch: int
    error_ratio: float
    basis: str


_KINDS: dict[str, _Kind] = {
    "gpu": _Kind(0.78, 0.72, 0.5, 0.7e6, 1e6, MAX_BATCH, 0.25, "0.78 of peak bandwidth, 0.72 of peak arithmetic, 0.7 ms a step"),
    # As for GPUs, for want of better: held to Tenstorrent's published figures only.
    "asic": _Kind(
        0.78, 0.72, 0.5, 0.7e6, 1e6, MAX_BATCH, 0.5, "0.78 of peak bandwidth, 0.72 of peak arithmetic, 0.7 ms a step, as for GPUs"
    ),
    # An EPYC 9554 decodes Phi-4 Q4_K_M at 28.7 tokens/s (ahelpme.com): 0.55 of its bandwidth. Arithmetic is an assumption.
    "cpu": _Kind(0.55, 0.25, 1.0, 0.0, 0.0, 8, 0.5, "0.55 of peak bandwidth, 0.25 of peak arithmetic (assumption)"),
}


def roofline(accelerator: Accelerator, model: Model, quantisation: str) -> PerfProfile | None:
    """The profile of a model on one device; None where a peak is not known or the model does not fit.

    quantisation   a key of QUANTISATIONS (KeyError else)
    """
    bandwidth, bf16 = accelerator.bandwidth_gb_per_s, accelerator.bf16_tflops
    if bandwidth is None or bf16 is None:
        return None
    kind, quantised = _KINDS[accelerator.kind], QUANTISATIONS[quantisation]
    kv_bytes = float(model.kv_bytes_per_token * REFERENCE_CONTEXT_TOKENS)
    room = accelerator.memory_gb * 1e9 * _MEMORY_SHARE - model.parameters * quantised.bytes_per_parameter
    slots = min(kind.max_batch, int(room // kv_bytes))
    if slots < 1:
        return None
    tflops = accelerator.fp8_tflops if quantised.arithmetic == "fp8" and accelerator.fp8_tflops is not None else bf16
    ns_per_byte = 1 / (bandwidth * kind.bandwidth_share)
    token_ns = 2 * model.read_parameters / (tflops * 1e3 * kind.arithmetic_share)
    return PerfProfile(
        accelerator=accelerator.id,
        model=model.id,
        quantisation=quantisation,
        engine="roofline",
        alpha_ns=round(kind.overhead_ns + model.read_parameters * quantised.bytes_per_parameter * ns_per_byte),
        beta_ns=round(kv_bytes * ns_per_byte + kind.unhidden_share * token_ns),
        gamma_ns=round(kind.gamma_ns),
        delta_ns=max(1, round(token_ns)),
        max_batch=slots,
        provenance="roofline",
        error_ratio=kind.error_ratio,
        source=f"roofline (inventory/roofline.py): {kind.basis}; {bandwidth:g} GB/s, {tflops:g} TFLOP/s",
        as_of=max(accelerator.as_of, model.as_of),
    )


def derive(accelerators: Iterable[Accelerator], models: Iterable[Model], known: Iterable[PerfProfile]) -> list[PerfProfile]:
    """Rooflines for every device, model and quantisation that fits and that no known profile speaks of."""
    have = {(profile.accelerator, profile.model, profile.quantisation) for profile in known}
    chosen = list(models)
    return [
        profile
        for accelerator in accelerators
        for model in chosen
        for quantisation in QUANTISATIONS
        if (accelerator.id, model.id, quantisation) not in have and (profile := roofline(accelerator, model, quantisation)) is not None
    ]

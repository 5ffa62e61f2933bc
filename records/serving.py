"""What serves, what is asked for, and what it costs: accelerators, profiles, pools, workloads, prices.

The service model of a pool is linear, as measured by others and by us: a prefill of n tokens takes
gamma + delta * n; one output token at batch b takes alpha + beta * b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "MONTH_SECONDS",
    "Accelerator",
    "Application",
    "ComputePrice",
    "EgressPrice",
    "EgressScope",
    "Model",
    "PerfProfile",
    "Provenance",
    "ServedRequest",
    "ServingPool",
    "ServingSample",
    "Workload",
]

Provenance = Literal["measured", "published", "roofline"]
EgressScope = Literal["internet", "inter-region", "direct-connect"]

#: A month of 30 days, as providers' examples and ours count it.
MONTH_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Hardware that serves models; usd_per_hour is one device's on-demand price.

    bandwidth_gb_per_s      peak of its memory, 10^9 bytes a second
    bf16_tflops, fp8_tflops, int8_tflops   dense peak (no sparsity), 10^12 operations a second
    tdp_w                   thermal design power
    None: not known, or the device cannot.
    """

    id: str
    name: str
    vendor: str
    kind: Literal["gpu", "asic", "cpu"]
    memory_gb: float
    usd_per_hour: float | None
    source: str
    as_of: str
    bandwidth_gb_per_s: float | None = None
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    int8_tflops: float | None = None
    tdp_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A language model by what serving it takes.

    parameters          all of them; their bytes must fit into memory
    read_parameters     those that one token reads and multiplies by: without an input embedding that is looked up and not
                        multiplied, without experts that are not chosen
    kv_bytes_per_token  keys and values of one token over all layers, at 16 bits
    context_tokens      the longest prompt and answer together
    """

    id: str
    title: str
    parameters: float
    read_parameters: float
    layers: int
    kv_bytes_per_token: int
    context_tokens: int
    licence: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfProfile:
    """How one device serves one model: TTFT's machine part and the time per output token.

    alpha_ns, beta_ns    time per output token at batch b: alpha + beta * b
    gamma_ns, delta_ns   prefill of n tokens: gamma + delta * n
    max_batch            batch slots of one device (requests decoded together)
    provenance           measured, published or roofline; error_ratio is its stated relative error, None unknown
    """

    accelerator: str
    model: str
    quantisation: str
    engine: str
    alpha_ns: int
    beta_ns: int
    gamma_ns: int
    delta_ns: int
    max_batch: int
    provenance: Provenance
    error_ratio: float | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One answered request as an inference probe saw it: what profiles are fitted to.

    sent_at_ns     when its upload began, since the epoch
    ttft_ns        from then to the first token; e2e_ns to the last byte
    token_ns       mean time between its tokens; None: too few came, or all at once
    prompt_tokens  as the server counts them; None: it does not say
    request_bytes  None: not known
    rtt_ns         round trip of the same connection by the kernel (TCP_INFO), the least seen where it says so; None: not known
    """

    sent_at_ns: int
    ttft_ns: int
    e2e_ns: int
    token_ns: float | None
    prompt_tokens: int | None
    request_bytes: int | None
    rtt_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSample:
    """What one request says of the machine alone; either half may be missing.

    prompt_tokens, prefill_ns   a prompt read while nothing else was served, and how long the machine took
    batch, token_ns             requests decoded together on the device, and the time per output token
    """

    prompt_tokens: int | None = None
    prefill_ns: float | None = None
    batch: float | None = None
    token_ns: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPool:
    """Devices of one kind at one site that serve one model."""

    id: str
    site: str
    accelerator: str
    device_count: int
    model: str
    profile: PerfProfile
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked for: sizes, tokens, and how late is too late (a budget of None is no budget).

    upload_bytes, download_bytes   of one request and its whole answer
    ttft_budget_ns, e2e_budget_ns  to the first token, and to the last
    data_class     of what is sent, a key of records.residency.DATA_CLASSES; None: not stated
    availability   the share of requests that must be answered in time, 0..1; None: not stated
    peak_to_mean   load in the busiest hour over the mean load of the day; None: not stated
    note           what each figure rests on
    """

    name: str
    title: str
    model: str
    input_tokens: int
    output_tokens: int
    upload_bytes: int
    download_bytes: int
    ttft_budget_ns: int | None
    e2e_budget_ns: int | None
    note: str
    data_class: str | None = None
    availability: float | None = None
    peak_to_mean: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A use of workloads by many sources: cameras, players, shoppers, vehicles.

    workload            the name of what one of its requests asks for
    sources             how many there are
    stream_bps          what each source sends without pause while it is active; 0: nothing but its requests
    active_ratio        the share of a month in which a source is active, 0..1
    kept_ratio          the share of the stream that is still sent on when the edge judges it first, 0..1
    requests_per_hour   of one active source
    rtt_budget_ns       the greatest round trip on the network that the use tolerates; None: none is stated
    """

    name: str
    title: str
    workload: str
    sources: int
    stream_bps: float
    active_ratio: float
    kept_ratio: float
    requests_per_hour: float
    rtt_budget_ns: int | None
    note: str

    @property
    def stream_bytes_per_month(self) -> float:
        """Bytes that all sources send in 30 days if everything is sent on.

        A thousand cameras at 2 Mbit/s day and night are 648 TB:

        >>> Application(
        ...     name="c", title="C", workload="w", sources=1000, stream_bps=2e6, active_ratio=1, kept_ratio=0.01,
        ...     requests_per_hour=0, rtt_budget_ns=None, note="",
        ... ).stream_bytes_per_month / 1e12
        648.0
        """
        return self.sources * self.stream_bps / 8 * MONTH_SECONDS * self.active_ratio

    @property
    def kept_bytes_per_month(self) -> float:
        """Bytes that are sent on in 30 days when the edge keeps back what is of no interest."""
        return self.stream_bytes_per_month * self.kept_ratio

    @property
    def requests_per_second(self) -> float:
        """Mean rate of requests of all sources over a month."""
        return self.sources * self.requests_per_hour * self.active_ratio / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPrice:
    """What a provider charges for bytes that leave a site, in USD per GB (10^9 bytes) from a monthly tier on.

    region None stands for every region of the provider without a row of its own; usd_per_gb None is unknown.
    price_per_gb is the list's own figure where the list is in another currency; usd_per_gb is then what the dated rate of
    the table of currencies makes of it, None without one.
    """

    provider: str
    region: str | None
    scope: EgressScope
    from_gb_per_month: float
    usd_per_gb: float | None
    source: str
    as_of: str
    currency: str = "USD"
    price_per_gb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePrice:
    """What an hour of an instance costs on demand, in its list's currency.

    region None: every region of the provider without a row of its own for this instance
    accelerator      what serves in it (an id of the inventory); device_count how many of them
    vcpus            virtual processors of the instance; None: not known
    price_per_hour   of the whole instance; None: not known
    """

    provider: str
    region: str | None
    instance: str
    accelerator: str
    device_count: int
    vcpus: int | None
    price_per_hour: float | None
    currency: str
    source: str
    as_of: str

"""An inference server's metrics as one set of numbers, whatever the server calls them. Pure; the parser is prometheus-client's.

The names are those that the servers document: vLLM, SGLang, TensorRT-LLM's own server (trtllm-serve), TensorRT-LLM behind
Triton, llama.cpp. Series of several engines or models are added up; of the ranks of one engine, which all see the same
requests, the first counts. Of shares (the KV cache) the fullest counts. What a server does not publish is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["NotMetrics", "Reading", "read_metrics"]

_SECOND_NS = 1e9
_MOST = 1 << 62
#: Ranks of one engine that all serve the same requests; those of data parallelism (dp_rank) serve their own.
_SAME_REQUESTS = ("tp_rank", "pp_rank")
_MODEL_LABELS = ("model_name", "model")


class NotMetrics(ValueError):
    """The text is no Prometheus text; says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The fields of records.claims.ServingResult that metrics tell."""

    server: str
    model: str | None = None
    requests_running: int | None = None
    requests_waiting: int | None = None
    kv_cache_ratio: float | None = None
    queue_sum_ns: int | None = None
    queue_count: int | None = None
    prefill_sum_ns: int | None = None
    prefill_count: int | None = None
    ttft_sum_ns: int | None = None
    ttft_count: int | None = None
    prompt_tokens_total: int | None = None
    output_tokens_total: int | None = None
    server_started_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _Series:
    """One metric: its name, or the newer and the older one, and labels that it must have."""

    names: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def _of(*names: str, **labels: str) -> _Series:
    return _Series(names, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What a server calls things; queue, prefill and ttft are histograms in seconds, prefill_total a counter in seconds."""

    running: _Series
    waiting: _Series
    kv_cache: _Series | None = None
    queue: str | None = None
    prefill: str | None = None
    prefill_total: str | None = None
    ttft: str | None = None
    prompt_tokens: str | None = None
    output_tokens: str | None = None


_SERVERS: dict[str, _Names] = {
    "vllm": _Names(
        running=_of("vllm:num_requests_running"),
        waiting=_of("vllm:num_requests_waiting"),
        kv_cache=_of("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        queue="vllm:request_queue_time_seconds",
        prefill="vllm:request_prefill_time_seconds",
        ttft="vllm:time_to_first_token_seconds",
        prompt_tokens="vllm:prompt_tokens_total",
        output_tokens="vllm:generation_tokens_total",
    ),
    "sglang": _Names(
        running=_of("sglang:num_running_reqs"),
        waiting=_of("sglang:num_queue_reqs"),
        kv_cache=_of("sglang:token_usage"),
        queue="sglang:queue_time_seconds",
        ttft="sglang:time_to_first_token_seconds",
        prompt_tokens="sglang:prompt_tokens_total",
        output_tokens="sglang:generation_tokens_total",
    ),
    "trtllm": _Names(
        running=_of("trtllm_num_requests_running"),
        waiting=_of("trtllm_num_requests_waiting"),
        kv_cache=_of("trtllm_kv_cache_utilization"),
        queue="trtllm_request_queue_time_seconds",
        prefill="trtllm_request_prefill_time_seconds",
        ttft="trtllm_time_to_first_token_seconds",
        prompt_tokens="trtllm_prompt_tokens_total",
        output_tokens="trtllm_generation_tokens_total",
    ),
    "triton": _Names(
        running=_of("nv_trt_llm_request_metrics", request_type="scheduled"),
        waiting=_of("nv_trt_llm_request_metrics", request_type="waiting"),
        kv_cache=_of("nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="fraction"),
    ),
    "llamacpp": _Names(
        running=_of("llamacpp:requests_processing"),
        waiting=_of("llamacpp:requests_deferred"),
        kv_cache=_of("llamacpp:kv_cache_usage_ratio"),
        prefill_total="llamacpp:prompt_seconds_total",
        prompt_tokens="llamacpp:prompt_tokens_total",
        output_tokens="llamacpp:tokens_predicted_total",
    ),
}
#: A front end (Dynamo) prefixes TensorRT-LLM's own names in either of these ways.
_PREFIXES = {"trtllm:": "trtllm_"}


class _Sample(Protocol):
    """What is used of prometheus_client's Sample."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> dict[str, str]: ...

    @property
    def value(self) -> float: ...


def read_metrics(text: str) -> Reading | None:
    """What the metrics say; None when they are no inference server's that is known. Raises NotMetrics."""
    samples = _samples(text)
    for server, names in _SERVERS.items():
        reading = _read(server, names, samples)
        if reading is not None:
            return reading
    return None


def _samples(text: str) -> dict[str, list[_Sample]]:
    """Finite, unsigned values by name, those of the first rank only."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[_Sample]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name
                for prefix, ours in _PREFIXES.items():
                    name = ours + name.removeprefix(prefix) if name.startswith(prefix) else name
                is_first = all(sample.labels.get(rank, "0") == "0" for rank in _SAME_REQUESTS)
                if is_first and math.isfinite(sample.value) and 0 <= sample.value < _MOST:
                    found.setdefault(name, []).append(sample)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise NotMetrics(f"the answer is no Prometheus text: {str(error)[:100]}") from None
    return found


def _read(server: str, names: _Names, samples: Mapping[str, list[_Sample]]) -> Reading | None:
    running, waiting = _total(samples, names.running), _total(samples, names.waiting)
    if running is None and waiting is None and (names.ttft is None or f"{names.ttft}_count" not in samples):
        return None
    queue, prefill, ttft = (_histogram(samples, name) for name in (names.queue, names.prefill, names.ttft))
    prefill_total = _counter(samples, names.prefill_total)
    return Reading(
        server=server,
        model=_model(samples[name] for series in (names.running, names.waiting) for name in series.names if name in samples),
        requests_running=_whole(running),
        requests_waiting=_whole(waiting),
        kv_cache_ratio=_share(samples, names.kv_cache),
        queue_sum_ns=queue[0],
        queue_count=queue[1],
        prefill_sum_ns=_ns(prefill_total) if names.prefill_total else prefill[0],
        prefill_count=prefill[1],
        ttft_sum_ns=ttft[0],
        ttft_count=ttft[1],
        prompt_tokens_total=_whole(_counter(samples, names.prompt_tokens)),
        output_tokens_total=_whole(_counter(samples, names.output_tokens)),
        server_started_at_ns=_ns(max((one.value for one in samples.get("process_start_time_seconds", ())), default=None)),
    )


def _values(samples: Mapping[str, list[_Sample]], series: _Series) -> list[float]:
    """Of the first of its names that is there."""
    for name in series.names:
        values = [one.value for one in samples.get(name, ()) if series.labels.items() <= one.labels.items()]
        if values:
            return values
    return []


def _total(samples: Mapping[str, list[_Sample]], series: _Series) -> float | None:
    values = _values(samples, series)
    return sum(values) if values else None


def _counter(samples: Mapping[str, list[_Sample]], name: str | None) -> float | None:
    return None if name is None else _total(samples, _Series((name,)))


def _histogram(samples: Mapping[str, list[_Sample]], name: str | None) -> tuple[int | None, int | None]:
    """Sum in ns and count; both or neither."""
    total, count = (_counter(samples, None if name is None else name + end) for end in ("_sum", "_count"))
    return (None, None) if total is None or count is None else (_ns(total), _whole(count))


def _share(samples: Mapping[str, list[_Sample]], series: _Series | None) -> float | None:
    most = max(_values(samples, series), default=None) if series is not None else None
    return most if most is not None and most <= 1 else None


def _whole(value: float | None) -> int | None:
    return None if value is None else min(round(value), _MOST)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else min(round(seconds * _SECOND_NS), _MOST)


def _model(groups: Iterable[list[_Sample]]) -> str | None:
    """The name, where all series have the same one."""
    names = {one.labels[label] for group in groups for one in group for label in _MODEL_LABELS if one.labels.get(label)}
    return names.pop()[:200] if len(names) == 1 else None

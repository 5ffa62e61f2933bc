"""`isochrone serving`: what inference servers say of themselves, and whether it agrees with what a client waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from app.measure_text import show, summary_of
from app.measuring import Keep, common, keep_lines, keep_of, run, sites_of
from app.output import emit_json, note
from app.serving_text import disagreement_json, disagreement_text
from probes.model import Target, Vantage, new_boot_id
from records.batch import Line, encode_line
from records.claims import Disagreement, ServingResult, disagreements, wait_of
from records.errors import NoAnswer, UserError
from records.measurement import InferenceResult

__all__ = ["serving"]

_BETWEEN_S = 0.1
#: Servers count what they have done a little later; so long is waited for it.
_SETTLE_S = 2.0


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="URL...")
@click.option("--ask", type=click.IntRange(1, 64), metavar="N", help="Make N requests at the same time meanwhile, and compare the waits.")
@click.option("--model", metavar="NAME", help="The model to ask for.  [default: the server's first]")
@click.option("--prompt-tokens", type=click.IntRange(1, 1_000_000), default=64, show_default=True, help="About how long the prompts are.")
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=16, show_default=True, help="Most tokens of an answer.")
@click.option("--ca-file", default="", metavar="FILE", help="PEM file of the authority behind the certificates.  [default: the system's]")
@click.option("--api-key-file", type=click.Path(path_type=Path), metavar="FILE", help="Bearer token of the server; mode 0600.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that holds it.")
@common
def serving(
    targets: tuple[str, ...],
    ask: int | None,
    model: str | None,
    prompt_tokens: int,
    max_tokens: int,
    ca_file: str,
    api_key_file: Path | None,
    api_key_env: str | None,
    **options: Any,
) -> None:
    """Read an inference server's own metrics: requests running and waiting, KV cache, time in its queue.

    URL is where they are (vLLM, SGLang, TensorRT-LLM, Triton, llama.cpp), or the base of its API, ending in /v1.

    With --ask it also says where the server's claim and the client's wait disagree; exit status 1 when they do, or without an answer.

    Example: isochrone serving http://192.0.2.1:8000/metrics --ask 4
    """
    from probes.inference import InferenceConfig
    from probes.inference.config import parse_endpoint
    from probes.serving import ServingConfig, ServingProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    pairs = [_urls(url) for url in targets]
    hosts = [parse_endpoint(metrics).host for metrics, _ in pairs]
    whom = [
        Target(
            site=site,
            address=host,
            medium=keep.medium,  # type: ignore[arg-type]
            metrics_url=metrics,
            inference_url=None if ask is None else api,
            inference_model=model,
            api_key_file=None if api_key_file is None else str(api_key_file),
            api_key_env=api_key_env,
        )
        for site, host, (metrics, api) in zip(sites_of(hosts, keep), hosts, pairs, strict=True)
    ]
    config = ServingConfig(ca_file=ca_file)
    if ask is None:
        run(ServingProbe(config), whom, keep, as_json=as_json, together=True)
        return
    if len(whom) > 1:
        raise UserError(f"--ask compares one server at a time; {len(whom)} are given")
    asking = InferenceConfig(prompt_tokens=prompt_tokens, max_tokens=max_tokens, ca_file=ca_file, heed_retry_after=False)
    _compare(config, asking, whom[0], ask, keep, as_json=as_json)


def _urls(url: str) -> tuple[str, str]:
    """Where the metrics are and where the API is, of either."""
    from probes.inference.config import parse_endpoint

    parse_endpoint(url)
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    base = path.removesuffix("/v1") if path.endswith("/v1") else path.rpartition("/")[0]
    metrics = f"{base}/metrics" if path.endswith("/v1") or not path else path
    where = [urlunsplit((parts.scheme, parts.netloc, one, "", "")) for one in (metrics, f"{base}/v1")]
    return where[0], where[1]


def _compare(config: Any, asking: Any, target: Target, count: int, keep: Keep, *, as_json: bool) -> None:
    vantage = Vantage(agent=keep.agent, site=keep.src or "here", boot=new_boot_id())
    lines, found = asyncio.run(_measure(config, asking, target, count, vantage))
    readings = [line for line in lines if isinstance(line, ServingResult)]
    requests = [line for line in lines if isinstance(line, InferenceResult)]
    if as_json:
        measurements = [{"measurement": json.loads(encode_line(line)), "summary": summary_of(line)} for line in lines]
        emit_json({"measurements": measurements, "disagreements": [disagreement_json(one) for one in found]})
    else:
        for request in requests:
            show(request)
        show(readings[-1])
        for one in found:
            click.echo(f"  disagrees: {disagreement_text(one)}")
    if keep.place is not None:
        keep_lines(lines, keep.place, keep.token_file, vantage)
    if readings[-1].outcome != "ok" or not any(line.outcome == "ok" for line in requests):
        raise NoAnswer(f"no answer from {target.metrics_url}")
    if found:
        raise NoAnswer(f"the server's claim and its clients' waits disagree in {len(found)} ways")
    note(f"{len(readings)} readings and {len(requests)} requests agree{_unsaid(readings[-1])}")


def _unsaid(reading: ServingResult) -> str:
    return "" if reading.ttft_count is not None or reading.queue_count is not None else " (this server publishes no times of waiting)"


async def _measure(config: Any, asking: Any, target: Target, count: int, vantage: Vantage) -> tuple[list[Line], list[Disagreement]]:
    """A reading before, readings while the requests run, and one when the server has counted them."""
    from probes.inference import InferenceProbe
    from probes.serving import ServingProbe

    reader, asker = ServingProbe(config), InferenceProbe(asking)
    await reader.open()
    await asker.open()
    try:
        lines: list[Line] = [*await reader.once(target, vantage)]
        one = replace(target, metrics_url=None)
        tasks = [asyncio.ensure_future(asker.once(one, vantage)) for _ in range(count)]
        while not all(task.done() for task in tasks):
            lines += await reader.once(target, vantage)
            await asyncio.sleep(_BETWEEN_S)
        results = [line for task in tasks for line in task.result() if isinstance(line, InferenceResult)]
        waits = [wait for result in results if (wait := wait_of(result)) is not None]
        until_s = asyncio.get_running_loop().time() + _SETTLE_S
        while True:
            lines += await reader.once(target, vantage)
            found = disagreements(_readings(lines), waits)
            if not any(one.kind in ("uncounted", "unaccounted") for one in found) or asyncio.get_running_loop().time() > until_s:
                return [*lines, *results], found
            await asyncio.sleep(_BETWEEN_S)
    finally:
        await asker.close()
        await reader.close()


def _readings(lines: Sequence[Line]) -> list[ServingResult]:
    return [line for line in lines if isinstance(line, ServingResult)]

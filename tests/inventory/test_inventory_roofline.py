"""Rooflines against what was published and measured, and what follows from the definition alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.load import BUILT_IN, load, read
from inventory.roofline import MAX_BATCH, QUANTISATIONS, REFERENCE_CONTEXT_TOKENS, derive, roofline
from records.serving import Accelerator, Model, PerfProfile

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

#: Llama 3.1 8B in bf16: TTFT at 1,024 tokens, and TPOT by batch, ms (AIConfigurator 0.12.0 from measured kernels).
ESTIMATED_MS: dict[str, tuple[float, dict[int, float]]] = {
    "l40s": (70, {1: 22.0, 8: 23.6, 32: 32.2, 64: 39.7}),
    "a100-80": (65, {1: 11.9, 8: 12.7, 32: 16.0, 64: 18.4}),
    "h100": (22, {1: 6.2, 8: 6.7, 32: 8.5, 64: 10.6}),
    "h200": (21, {1: 4.9, 8: 5.1, 32: 6.4, 64: 7.8}),
}


def of(device: str, model: str, quantisation: str) -> PerfProfile:
    """The roofline of built-in rows; that it fits is part of the claim."""
    found = roofline(load().accelerators[device], load().models[model], quantisation)
    assert found is not None
    return found


def test_gpus_are_within_the_error_the_module_states() -> None:
    """Time per token: 5 % on the mean, 14 % at most; time of a prompt: 15 % at most; both below what profiles state."""
    tpot, ttft = [], []
    for device, (first_ms, token_ms) in ESTIMATED_MS.items():
        profile = of(device, "llama-3.1-8b", "bf16")
        ttft.append(abs((profile.gamma_ns + 1024 * profile.delta_ns) / 1e6 / first_ms - 1))
        tpot += [abs((profile.alpha_ns + batch * profile.beta_ns) / 1e6 / ms - 1) for batch, ms in token_ms.items()]
        assert (profile.error_ratio or 0) >= max(ttft[-1], *tpot)
    assert sum(tpot) / len(tpot) < 0.05
    assert max(tpot) < 0.145
    assert max(ttft) < 0.155


def test_an_a100_with_40_gb_measured_by_others_is_within_ten_percent() -> None:
    """75 tokens/s at one request (johnmusgrave.com, vLLM 0.23): a card that set no constant here; 1,555 GB/s."""
    a100 = replace(load().accelerators["a100-80"], id="a100-40", memory_gb=40, bandwidth_gb_per_s=1555)
    profile = roofline(a100, load().models["llama-3.1-8b"], "bf16")
    assert profile is not None
    assert 1e9 / (profile.alpha_ns + profile.beta_ns) == pytest.approx(75, rel=0.10)


def test_a_bare_metal_cpu_is_near_what_was_measured() -> None:
    """Phi-4 Q4_K_M (4.85 bits a parameter) on an EPYC 9554 at 28.7 tokens/s (ahelpme.com); int4 here has 4.16 bits."""
    profile = of("cpu-epyc-9554", "phi-4", "int4")
    at_measured_size = profile.alpha_ns * 4.85 / 4.16
    assert 1e9 / at_measured_size == pytest.approx(28.7, rel=0.10)


@pytest.mark.parametrize(
    ("device", "model", "tokens_per_s", "worst"),
    [
        ("tenstorrent-n150", "llama-3.1-8b", 26.0, 0.10),
        ("tenstorrent-n150", "llama-3.2-3b", 46.6, 0.35),
        ("tenstorrent-n150", "llama-3.2-1b", 80.5, 0.50),
    ],
)
def test_newcomers_are_within_the_error_that_their_kind_states(device: str, model: str, tokens_per_s: float, worst: float) -> None:
    """Published decode speed at batch 32 and 128 tokens of context (tt-metal, 2025-11): the smaller the model, the worse."""
    row = next(p for p in load().profiles if (p.accelerator, p.model) == (device, model))
    assert row.provenance == "published"
    profile = of(device, model, "fp8")
    unhidden = 0.5 * profile.delta_ns
    kv_ns = (profile.beta_ns - unhidden) * 128 / REFERENCE_CONTEXT_TOKENS
    error = abs((profile.alpha_ns + 32 * (kv_ns + unhidden)) / (1e9 / tokens_per_s) - 1)
    assert error <= worst <= (profile.error_ratio or 0)


def test_rooflines_claim_no_more_than_mlperf_measured_at_saturation() -> None:
    """Llama 2 70B on one accelerator, MLPerf v4.1 Offline: with 64 slots we claim at most what hundreds of requests got, plus 5 %."""
    path = SHARED / "llm-inference" / "mlperf_inference_v4.1_llm.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the public data sets are kept beside the project")
    model = replace(load().models["llama-3.3-70b"], id="llama-2-70b", parameters=68.98e9, read_parameters=68.72e9)
    best: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            one = row["accelerators_per_node"] == "1" and row["nodes"] == "1" and row["division"] == "closed"
            device = {"AMD Instinct MI300X": "mi300x", "NVIDIA H200-SXM-141G": "h200"}.get(row["accelerator"][:20].rstrip("-"))
            if device and one and row["model"].startswith("llama2-70b") and row["scenario"] == "Offline":
                best[device] = max(best.get(device, 0), float(row["tokens_per_s"]))
    assert best.keys() == {"mi300x", "h200"}
    for device, measured in best.items():
        profile = roofline(load().accelerators[device], model, "fp8")
        assert profile is not None
        # OpenOrca's mean answer has 293 tokens (tokens/s over samples/s of the same runs); its prompt about 155 (assumption).
        held_ns = (
            profile.gamma_ns + 155 * profile.delta_ns * profile.max_batch + 292 * (profile.alpha_ns + profile.max_batch * profile.beta_ns)
        )
        assert profile.max_batch * 293 * 1e9 / held_ns <= 1.05 * measured


def test_the_arithmetic_is_the_definition() -> None:
    """Worked by hand: 1 GB of weights at 100 GB/s and 10 TFLOP/s, with the shares that the module gives for GPUs."""
    device = Accelerator(
        id="d",
        name="D",
        vendor="v",
        kind="gpu",
        memory_gb=10,
        usd_per_hour=None,
        source="s",
        as_of="2025",
        bandwidth_gb_per_s=100,
        bf16_tflops=10,
    )
    model = Model(
        id="m",
        title="M",
        parameters=5e8,
        read_parameters=5e8,
        layers=1,
        kv_bytes_per_token=1000,
        context_tokens=4096,
        licence="l",
        source="s",
        as_of="2025",
    )
    profile = roofline(device, model, "bf16")
    assert profile is not None
    assert profile.alpha_ns == pytest.approx(0.7e6 + 1e9 / 78)  # 78 GB/s are 78 bytes a ns
    assert profile.delta_ns == pytest.approx(1e9 / 7.2e3, rel=1e-5)
    assert profile.beta_ns == pytest.approx(1000 * 1152 / 78 + 0.5e9 / 7.2e3, rel=1e-4)
    assert profile.max_batch == MAX_BATCH
    assert roofline(replace(device, memory_gb=1.1), model, "bf16") is None
    assert roofline(replace(device, memory_gb=1.1), model, "int4") is not None
    assert roofline(replace(device, bf16_tflops=None), model, "bf16") is None


def test_fewer_bits_are_faster_and_a_bigger_model_is_slower() -> None:
    """On every device: the time of a token falls with the bits of a parameter and rises with the size of the model."""
    inventory = load()
    for device in inventory.accelerators.values():
        for model in inventory.models.values():
            found = [p.alpha_ns for q in ("bf16", "fp8", "int4") if (p := roofline(device, model, q))]
            assert found == sorted(found, reverse=True)
        for quantisation in QUANTISATIONS:
            by_size = sorted(inventory.models.values(), key=lambda model: model.read_parameters)
            found = [p.alpha_ns for model in by_size if (p := roofline(device, model, quantisation))]
            assert found == sorted(found)


def test_whatever_fits_has_a_profile_and_a_row_comes_before_a_roofline() -> None:
    """Every device with known peaks serves what fits; a measured or published row is the one that is found."""
    inventory = load()
    table = [profile for profile in inventory.profiles if profile.engine != "roofline"]
    assert inventory.profiles == [*table, *derive(inventory.accelerators.values(), inventory.models.values(), table)]
    keys = [(p.accelerator, p.model, p.quantisation) for p in inventory.profiles]
    assert len(keys) == len(set(keys))
    for device in ("l4", "a10", "l40s", "a100-80", "h100", "h200", "b200", "mi300x", "inferentia2", "tenstorrent-n150", "cpu-epyc-9554"):
        assert {"llama-3.2-1b", "llama-3.1-8b"} <= {model for accelerator, model, _ in keys if accelerator == device}, device
    assert ("h100", "llama-3.3-70b", "bf16") not in keys  # 141 GB do not fit into 80
    assert {("h100", "llama-3.3-70b", "int4"), ("mi300x", "llama-3.3-70b", "bf16")} <= set(keys)


def test_a_pool_takes_what_was_measured_before_what_others_published(tmp_path: Path) -> None:
    """A row of the user's own, from `inventory fit`, with another engine: the pools of that device and model run on it."""
    header = "accelerator,model,quantisation,engine,alpha_ms,beta_ms,gamma_ms,delta_us,max_batch,provenance,error_ratio,source,as_of"
    (tmp_path / "profiles.csv").write_text(f"{header}\nl40s,llama-3.1-8b,bf16,sglang,19,0.2,1,50,64,measured,0.04,ours,2026-11-26\n")
    pools = {pool.id: pool for pool in read(BUILT_IN, own=tmp_path).pools}
    assert (pools["fra-l40s"].profile.engine, pools["fra-l40s"].profile.provenance) == ("sglang", "measured")
    assert pools["aws-us-east-1-h100"].profile.engine == "vllm"

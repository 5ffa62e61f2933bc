"""`isochrone inventory fit` over a file of samples, and the mistakes it names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from app.cli import root
from inventory.load import load
from inventory.rows import Faults
from inventory.serving import read_profiles
from records.units import MS

NAMED = ("--accelerator", "l40s", "--as-model", "llama-3.1-8b", "--quantisation", "bf16", "--engine", "vllm")


def fit(*arguments: str) -> Result:
    """`isochrone inventory fit`; the exit status that the command line gives to an error is the error's own."""
    result = CliRunner().invoke(root, ["inventory", "fit", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit) and not hasattr(result.exception, "exit_status"):
        raise result.exception
    return result


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """alpha 20 ms, beta 0.3 ms, gamma 5 ms, delta 60 us, 1 % of noise; TTFT over a round trip of 12 ms."""
    rng = np.random.default_rng(5)
    path = tmp_path / "bench.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_tokens", "batch", "ttft_ms", "rtt_ms", "tpot_ms"])
        for tokens in (64, 128, 256, 512, 1024, 2048, 4096) * 3:
            writer.writerow([tokens, 1, 12 + (5 + 0.06 * tokens) * np.exp(rng.normal(0, 0.01)), 12, ""])
        for batch in (1, 2, 4, 8, 16, 32) * 3:
            writer.writerow(["", batch, "", "", (20 + 0.3 * batch) * np.exp(rng.normal(0, 0.01))])
    return path


def test_a_row_for_the_table_of_profiles_reads_back(samples: Path, tmp_path: Path) -> None:
    """The row is one that the loader takes, with the coefficients the samples were drawn from, and its error stated."""
    result = fit("--samples", str(samples), "--format", "csv", *NAMED)
    assert result.exit_code == 0, result.output
    table = tmp_path / "profiles.csv"
    table.write_text(result.stdout)
    faults = Faults()
    (profile,) = read_profiles(table, load().accelerators, faults)
    assert faults.found == []
    found = (profile.alpha_ns / MS, profile.beta_ns / MS, profile.gamma_ns / MS, profile.delta_ns / 1e3)
    assert found == pytest.approx((20, 0.3, 5, 60), rel=0.1)
    assert (profile.provenance, profile.max_batch) == ("measured", 32)
    assert 0 < (profile.error_ratio or 0) < 0.03
    assert "batch 1 to 32" in profile.source


def test_a_pool_names_the_row(samples: Path) -> None:
    """With --pool nothing else need be said, and the JSON holds the same row."""
    document = json.loads(fit("--samples", str(samples), "--pool", "fra-l40s", "--json").stdout)
    assert document["profile"]["accelerator"] == "l40s"
    assert document["alpha_ms"]["low"] < 20 < document["alpha_ms"]["high"]


def test_what_cannot_be_told_is_null_with_a_reason(tmp_path: Path) -> None:
    """One batch size: alpha and beta are unknown and say why; the row is refused; what is known is shown."""
    path = tmp_path / "one.csv"
    rows = [f"{tokens},1,{12 + 5 + 0.06 * tokens},12,20" for tokens in (64, 128, 256, 512, 1024, 2048, 4096, 8192)]
    path.write_text("\n".join(["prompt_tokens,batch,ttft_ms,rtt_ms,tpot_ms", *rows]))
    document = json.loads(fit("--samples", str(path), "--json").stdout)
    assert document["beta_ms"]["value"] is None
    assert "only one batch size" in document["beta_ms"]["why"]
    assert document["decode"]["tpot_ms_p50"] == 20
    assert document["profile"] is None
    assert document["delta_us"]["value"] == pytest.approx(60, rel=1e-3)
    refused = fit("--samples", str(path), "--format", "csv", *NAMED)
    assert getattr(refused.exception, "exit_status", None) == 1
    assert "alpha and beta: only one batch size" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say whose measurements to fit"),
        (("--pool", "nowhere"), "no pool 'nowhere'; known pools are fra-l40s"),
        (("--samples", "none.csv"), "no such file"),
    ],
)
def test_a_mistake_is_one_clear_error(arguments: tuple[str, ...], says: str) -> None:
    """The user's mistakes end with 2."""
    result = fit(*arguments)
    assert getattr(result.exception, "exit_status", None) == 2
    assert says in str(result.exception)


def test_bad_samples_are_named_by_line(tmp_path: Path) -> None:
    """Every bad row at once: no batch, nothing measured, a TTFT without its round trip, one sooner than it."""
    path = tmp_path / "bad.csv"
    path.write_text("prompt_tokens,batch,ttft_ms,rtt_ms,tpot_ms\n64,,30,12,\n64,1,,12,\n64,1,30,,\n64,1,10,12,\n,2,,,20\n")
    message = str(fit("--samples", str(path)).exception)
    assert ":2: batch is empty" in message
    assert ":3: ttft_ms and tpot_ms are both empty" in message
    assert ":4: ttft_ms needs prompt_tokens and rtt_ms" in message
    assert ":5: ttft_ms 10 is not more than rtt_ms 12" in message
    assert ":6:" not in message

"""Memory of a pool against the sizes worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.memory import fitted, memory_of
from inventory.load import load


def test_weights_and_keys_and_values_by_hand():
    """Llama 3.1 8B in bf16: 8.03e9 x 2 = 16.06 GB; 131,072 bytes a token x 1,280 tokens = 0.168 GB; an L40S has 48 x 0.9 GB."""
    inventory = load()
    pool = next(p for p in inventory.pools if p.accelerator == "l40s" and p.profile.quantisation == "bf16")
    chat = inventory.workloads["chat"]
    found = memory_of(inventory)(pool, chat)
    assert found.need_gb == pytest.approx(16.06 + 131_072 * (chat.input_tokens + chat.output_tokens) / 1e9, abs=0.01)
    assert found.have_gb == pytest.approx(inventory.accelerators["l40s"].memory_gb * 0.9)
    # 6,144 + 300 tokens are 0.845 GB a request: 43.2 - 16.06 GB hold 32 of them, not 64; a prompt of a million tokens does not fit.
    rag = replace(chat, input_tokens=6144, output_tokens=300)
    (less,) = fitted([pool], rag, inventory)
    assert less.profile.max_batch == int((43.2 - 16.06) / (131_072 * 6444 / 1e9))
    assert fitted([pool], chat, inventory) == (pool,)
    assert not memory_of(inventory)(pool, replace(chat, input_tokens=1_000_000)).fits
    assert memory_of(inventory)(replace(pool, model="unheard-of"), chat) is None

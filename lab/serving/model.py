"""A llama of 2 layers and 64 dimensions with random weights, as a GGUF file.

The vocabulary is the 256 bytes and a few control tokens, so one letter of a prompt is one token and any text can be
read. The model never ends an answer by itself and only ever says lower-case letters and spaces: channel 0 of the
hidden state is a constant that no layer may write, and the output row of every unwanted token is strongly negative
in that channel. So an answer has exactly as many tokens as were asked for, each of them one whole character; bytes
picked at random would make broken UTF-8, which a server holds back, and tokens would no longer arrive one by one.
"""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from records.errors import ToolMissing

if TYPE_CHECKING:
    import numpy as np

__all__ = ["make_model"]

LAYERS = 2
WIDTH = 64
HEADS = 4
FEED_FORWARD = 128
#: Tokens of one sequence the model says it can hold; the server divides its own context among the slots.
CONTEXT = 32768

CONTROL = ("<unk>", "<s>", "</s>")
SPACE = "\u2581"  # how a SentencePiece vocabulary writes a blank
SPEAKABLE = string.ascii_lowercase.encode()

#: One line a role, then the answer: the least that a chat needs.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}assistant: "


def make_model(path: Path, seed: int = 0) -> Path:
    """Write the model to `path` unless it is there; see `lab.serving.make_model`."""
    if path.exists():
        return path
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise ToolMissing(
            f"the lab's model needs the Python package {error.name!r}; install it with: pip install 'isochrone[lab]'"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    _describe(writer, gguf)
    for name, tensor in _tensors(np.random.default_rng(seed)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(path)  # whole or not at all, whoever else writes it
    return path


def _vocabulary() -> list[str]:
    return [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE]


def _describe(writer: Any, gguf: Any) -> None:
    """The model's shape, its vocabulary and its chat template."""
    writer.add_name("isochrone-tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)

    tokens = _vocabulary()
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Every weight by its GGUF name: (out, in) matrices of float32."""
    import numpy as np

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def into_hidden(columns: int) -> np.ndarray:
        """A matrix whose result is added to the hidden state: it leaves channel 0 alone."""
        out = matrix(WIDTH, columns)
        out[0] = 0
        return out

    ones = np.ones(WIDTH, dtype=np.float32)
    tokens = _vocabulary()
    embedding = random.standard_normal((len(tokens), WIDTH)).astype(np.float32)
    embedding[:, 0] = 4.0
    output = matrix(len(tokens), WIDTH)
    speakable = [len(CONTROL) + byte for byte in SPEAKABLE] + [tokens.index(SPACE)]
    output[:, 0] = -50.0
    output[speakable, 0] = 0.0

    weights = {"token_embd.weight": embedding, "output_norm.weight": ones, "output.weight": output}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights[block + "attn_norm.weight"] = ones
        weights[block + "ffn_norm.weight"] = ones
        for part in ("attn_q", "attn_k", "attn_v"):
            weights[f"{block}{part}.weight"] = matrix(WIDTH, WIDTH)
        weights[block + "attn_output.weight"] = into_hidden(WIDTH)
        weights[block + "ffn_gate.weight"] = matrix(FEED_FORWARD, WIDTH)
        weights[block + "ffn_up.weight"] = matrix(FEED_FORWARD, WIDTH)
        weights[block + "ffn_down.weight"] = into_hidden(FEED_FORWARD)
    return weights

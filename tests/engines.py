"""Make files as other engines write them, from known ids: a row per input token, none for the last sampled token."""

import base64
import io
import json
from typing import Any

import numpy as np
import safetensors.numpy

from model.trace.imports.building import Named

CONFIG = {
    "model_type": "deepseek_v3", "num_hidden_layers": 5, "first_k_dense_replace": 1, "n_routed_experts": 16,
    "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4, "num_attention_heads": 4, "routed_scaling_factor": 2.5,
    "norm_topk_prob": True, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
}  # fmt: skip
TINY = Named("tiny", CONFIG)
PROMPT_IDS, NEW_IDS = [0, 7, 8, 9], [5, 6, 5]
ROWS = len(PROMPT_IDS) + len(NEW_IDS) - 1


def random_ids(rows: int = ROWS, layers: int = 4, experts: int = 16, top_k: int = 4, seed: int = 0) -> np.ndarray:
    """Return random expert ids, [row, layer, slot], without repetition in a row and layer."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(experts), (rows, layers, 1)), axis=-1)[..., :top_k]


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def usage(num_prompt: int = len(PROMPT_IDS), num_new: int = len(NEW_IDS)) -> dict[str, int]:
    return {"prompt_tokens": num_prompt, "completion_tokens": num_new, "total_tokens": num_prompt + num_new}


def vllm_lists(ids: np.ndarray, prompt: bool = True) -> dict[str, Any]:
    """vLLM's first form: a list for the prompt, one for each choice."""
    split = len(PROMPT_IDS)
    choice = {"index": 0, "text": " wolf", "token_ids": NEW_IDS, "routed_experts": ids[split:].tolist()}
    return {
        "id": "cmpl-1",
        "model": "deepseek",
        "choices": [choice],
        "usage": usage(),
        "prompt_token_ids": PROMPT_IDS,
        "prompt_routed_experts": ids[:split].tolist() if prompt else None,
    }


def vllm_npy(ids: np.ndarray, dtype: str = "uint8") -> dict[str, Any]:
    """vLLM's later form: one .npy file for prompt and generated tokens."""
    choice = {
        "index": 0,
        "text": " wolf",
        "token_ids": NEW_IDS,
        "prompt_token_ids": PROMPT_IDS,
        "routed_experts": coded(npy(ids.astype(dtype))),
    }
    return {"id": "cmpl-1", "choices": [choice], "usage": usage()}


def flat(ids: np.ndarray, dense: int = 1, shared: int | None = None, dtype: str = "<i4") -> str:
    """Return SGLang's encoding: ids of all layers, 0 in dense layers, if asked with a slot for a shared expert."""
    whole = np.concatenate([np.zeros((len(ids), dense, ids.shape[2]), np.int64), ids], axis=1)
    if shared is not None:
        whole = np.concatenate([whole, np.full((*whole.shape[:2], 1), shared)], axis=2)
    return coded(whole.astype(dtype).tobytes())


def sglang_generate(ids: np.ndarray, **how: Any) -> dict[str, Any]:
    """An answer of SGLang's /generate."""
    counts = usage()
    meta = {name: counts[name] for name in ("prompt_tokens", "completion_tokens")}
    return {"text": " wolf", "output_ids": NEW_IDS, "meta_info": meta | {"id": "1", "routed_experts": flat(ids, **how)}}


def sglang_openai(ids: np.ndarray, **how: Any) -> dict[str, Any]:
    """An answer of SGLang's /v1/completions."""
    choice = {"index": 0, "text": " wolf", "sgl_ext": {"routed_experts": flat(ids, **how)}}
    return {"id": "1", "choices": [choice], "usage": usage()}


def recorder_dump(ids: np.ndarray, replicas: int = 2) -> dict[str, Any]:
    """A converted dump of one request: a pass over the prompt, then one per token; ids of physical experts."""
    rng, (layers, experts) = np.random.default_rng(1), (CONFIG["num_hidden_layers"], CONFIG["n_routed_experts"])
    table = np.stack([rng.permutation(np.r_[:experts, :replicas]) for _ in range(layers)])
    whole = np.full((layers, len(ids), 8), -1)
    for layer in range(1, layers):
        physical = np.argsort(table[layer], kind="stable")  # a place of each logical expert; replicas come doubled
        first = {int(table[layer][place]): int(place) for place in physical[::-1]}
        whole[layer, :, : ids.shape[2]] = np.vectorize(first.__getitem__)(ids[:, layer - 1])
    fed, split = [*PROMPT_IDS, *NEW_IDS][: len(ids)], len(PROMPT_IDS)
    cuts = [(0, split)] + [(place, place + 1) for place in range(split, len(ids))]
    records = [
        {
            "forward_pass_id": number,
            "rank": 0,
            "input_ids": fed[first:last],
            "positions": list(range(first, last)),
            "extend_seq_lens": [split] if number == 0 else None,
            "topk_ids_of_layer": whole[:, first:last].tolist(),
        }
        for number, (first, last) in enumerate(cuts)
    ]
    return {
        "format": "sglang-expert-distribution",
        "records": records,
        "last_physical_to_logical_map": table.tolist(),
    }


def router_logits(logits: np.ndarray, first: int = 1) -> bytes:
    """Logits [token, layer, expert] as the tensors of a safetensors file."""
    layers = {f"router_logits.{first + place}": logits[:, place].copy() for place in range(logits.shape[1])}
    return safetensors.numpy.save(layers)


def moe_trace(
    ids: np.ndarray, batches: tuple[int, ...] = (4, 1, 1), last_only: bool = True, copied: bool = False
) -> bytes:
    """llama.cpp's CSV; `copied` writes what the proposed version writes for a batch of several tokens."""
    rng, lines, start = np.random.default_rng(2), [], 0
    for size in batches:
        rows = ids[start : start + size]
        for place in range(rows.shape[1]):
            kept = rows[-1:, place] if last_only and place == rows.shape[1] - 1 else rows[:, place]
            written = kept.ravel()
            if copied and len(kept) > 1:
                ranking = np.concatenate([rng.permutation(16) for _ in range(size)])
                written = ranking[: kept.size]
            lines += [f"{place + 1},{expert}" for expert in written.tolist()]
        start += size
    return ("\n".join(lines) + "\n").encode()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def usage_history(counts: np.ndarray, num_layers: int = 5, first: int = 1, headers: bool = True) -> bytes:
    """colibri's .coli_usage: `counts` [moe_layer, expert] from layer `first` on; the engine is olmoe."""
    lines = [f"-1 {num_layers} {counts.shape[1]}", "-2 1 3841822045"] if headers else []
    cells = ((layer, expert) for layer, expert in np.argwhere(counts).tolist())
    lines += [f"{first + layer} {expert} {counts[layer, expert]}" for layer, expert in cells]
    return ("\n".join(lines) + "\n").encode()


def route_trace(ids: np.ndarray, weights: np.ndarray, batches: tuple[int, ...] = (4, 1, 1), first: int = 1) -> bytes:
    """colibri's ROUTE_TRACE of [token, moe_layer, slot]: a call is a layer of one forward pass."""
    lines, call, start = [], 0, 0
    for size in batches:
        for layer in range(ids.shape[1]):
            for row in range(size):
                pairs = zip(ids[start + row, layer], weights[start + row, layer], strict=True)
                lines.append(f"{call} {row} {first + layer} " + " ".join(f"{expert}:{w:.4f}" for expert, w in pairs))
            call += 1
        start += size
    return ("\n".join(lines) + "\n").encode()


def gguf(values: dict[str, Any], tensors: dict[str, np.ndarray], alignment: int = 32) -> bytes:
    """A GGUF file of version 3; values are texts, uint32 or lists of texts, and tensors float32."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    header = b"GGUF" + number(3) + number(len(tensors), 8) + number(len(values), 8)
    for key, value in values.items():
        if isinstance(value, str):
            header += text(key) + number(8) + text(value)
        elif isinstance(value, list):
            header += text(key) + number(9) + number(8) + number(len(value), 8) + b"".join(map(text, value))
        else:
            header += text(key) + number(4) + number(value)
    data = b""
    for name, array in tensors.items():
        sizes = b"".join(number(size, 8) for size in reversed(array.shape))
        header += text(name) + number(array.ndim) + sizes + number(0) + number(len(data), 8)
        data += array.astype("<f4").tobytes()
        data += b"\0" * (-len(data) % alignment)
    return header + b"\0" * (-len(header) % alignment) + data


def imatrix(counts: np.ndarray, first: int = 1, parts: tuple[str, ...] = ("gate", "up", "down")) -> bytes:
    """llama.cpp's importance matrix with `counts` [moe_layer, expert] for each part of the experts."""
    values = {
        "general.type": "imatrix", "imatrix.datasets": ["a.txt", "b.txt"], "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }  # fmt: skip
    tensors = {"blk.0.attn_q.weight.in_sum2": np.ones((1, 3)), "blk.0.attn_q.weight.counts": np.ones((1, 1))}
    for layer, row in enumerate(counts):
        for part in parts:
            name = f"blk.{first + layer}.ffn_{part}_exps.weight"
            tensors[f"{name}.in_sum2"] = np.ones((len(row), 2))
            tensors[f"{name}.counts"] = row[:, None]
    return gguf(values, tensors)

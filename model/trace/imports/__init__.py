"""Read what other engines recorded: traces, and counts of experts. This file names the formats.

`formats.py` reads a trace of any format, `count_formats.py` counts of any format.
"""

AUTO, OURS, VLLM, SGLANG, RECORDER, LOGITS, LLAMA_CPP, COLIBRI = FORMATS = (
    "auto", "moe-loupe", "vllm", "sglang", "recorder", "router-logits", "llama-cpp", "colibri",
)  # fmt: skip
# Format -> name on pages.
NAMES = {
    AUTO: "find out",
    OURS: "MoE Loupe trace",
    VLLM: "vLLM routed_experts",
    SGLANG: "SGLang routed_experts",
    RECORDER: "SGLang expert-distribution recorder, as JSON",
    LOGITS: "Hugging Face router_logits, as safetensors",
    LLAMA_CPP: "llama.cpp moe-trace CSV",
    COLIBRI: "colibri ROUTE_TRACE",
}

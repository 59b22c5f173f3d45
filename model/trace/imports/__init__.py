"""Traces that other engines recorded, turned into ours. Start at `formats.py`; the names of the formats are here."""

AUTO, OURS, VLLM, SGLANG, RECORDER, LOGITS, LLAMA_CPP = FORMATS = (
    "auto", "moe-loupe", "vllm", "sglang", "recorder", "router-logits", "llama-cpp",
)  # fmt: skip
# Format -> what it is called on screen.
NAMES = {
    AUTO: "find out",
    OURS: "MoE Loupe trace",
    VLLM: "vLLM routed_experts",
    SGLANG: "SGLang routed_experts",
    RECORDER: "SGLang expert-distribution recorder, as JSON",
    LOGITS: "Hugging Face router_logits, as safetensors",
    LLAMA_CPP: "llama.cpp moe-trace CSV",
}

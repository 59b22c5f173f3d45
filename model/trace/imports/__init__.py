"""Read traces that other engines recorded. This file names the formats; `formats.py` reads a file of any format."""

AUTO, OURS, VLLM, SGLANG, RECORDER, LOGITS, LLAMA_CPP = FORMATS = (
    "auto", "moe-loupe", "vllm", "sglang", "recorder", "router-logits", "llama-cpp",
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
}

"""Recognise files that cannot be read, and say what they are and what to do."""

from model.trace.imports import count_formats, imatrix
from model.trace.imports.sglang_dump import HINT
from model.trace.trace import TraceError

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # .npz files, and files of torch.save
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_GGUF, _GZIP, _ZSTD, _PARQUET = b"GGUF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_LFS = b"version https://git-lfs"


def refuse_wrong_files(content: bytes) -> None:
    """Refuse an empty file, and kinds of files that cannot be read.

    Raises:
        TraceError: the file cannot be read; the message says what kind of file it is, and what to do.
    """
    if not content:
        raise TraceError("the file is empty")
    if count_formats.holds_counts(content):
        raise TraceError(count_formats.ONLY_COUNTS)
    if imatrix.is_legacy(content):
        raise TraceError(imatrix.LEGACY)
    if content.startswith(_ZIP) and b".npy" in content[:200]:
        raise TraceError(
            "this is a NumPy .npz archive; save its array by itself: numpy.save('rows.npy', archive['routed_experts'])"
        )
    if content.startswith((*_ZIP, *_PICKLE)):
        raise TraceError(f"this is a pickled file, which could run code when read; {HINT}")
    begins = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if begins.startswith((b"data:", b"event:")):
        raise TraceError("this is a stream of events; send the request without stream, or with stream: false")
    if begins.startswith((b"{'", b"[{'")):
        raise TraceError("this is how Python prints a value, and no JSON; write it with json.dump")
    kinds = {_GGUF: "a GGUF model", _GZIP: "compressed by gzip", _ZSTD: "compressed by zstd", _PARQUET: "Parquet"}
    for mark, kind in kinds.items():
        if content.startswith(mark):
            raise TraceError(f"this file is {kind}; give what the engine wrote: JSON, .npy, CSV or safetensors")
    if content.startswith(_LFS):
        raise TraceError("this is a Git-LFS pointer, not the file itself; fetch it with git lfs pull")

"""The command `trace`: what it writes, and that unusable input ends with status 2, one line and no file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.header import read_header
from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import FIELDS, RunRequest
from model.trace.file import load
from tests.model.cli.command_line import VOCABULARY, refused, run
from tests.models import random_model, tiny_config
from tests.requests import other_value


def test_trace_writes_what_the_engine_returns(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.safetensors"
    result = run("trace", folder, "--prompt", "The moon", "--new-tokens", 3, "--out", out)
    assert result.exit_code == 0, result.output
    expected = Engine.load(folder, device="cpu").run(RunRequest(prompt="The moon", max_new_tokens=3))
    written = load(out)
    assert written.tokens == expected.tokens
    assert written.request == expected.request
    assert written.tokens[0].id == 0
    assert written.text.startswith(b"The moon")
    for name, values in expected.data.items():
        np.testing.assert_array_equal(written.data[name].values, values.values)


def test_trace_prints_a_short_table(folder: Path, tmp_path: Path) -> None:
    result = run("trace", folder, "--ids", "5,6,7", "--out", tmp_path / "run.safetensors")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny on ")
    assert "3 tokens (3 of the prompt, 0 new)" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["layer", "1", "2", "3", "4", "written"]
    written = load(tmp_path / "run.safetensors")
    counts = np.bincount(written.data["expert_id"].sel(moe_layer=2).values.ravel(), minlength=16)
    row = lines[3].split()
    assert float(row[1]) == pytest.approx(counts.max() / counts.mean() - 1, abs=0.005)
    assert row[2] == f"L2E{counts.argmax()}"
    assert row[-3:] == [str((counts == 0).sum()), "of", "16"]


def test_every_field_of_a_request_has_an_option(folder: Path, tmp_path: Path) -> None:
    options = [
        part
        for field in FIELDS.values()
        for part in ((field.option,) if field.kind is bool else (field.option, other_value(field)))
    ]
    drafting = tmp_path / "drafting"  # drafts can be verified only if a module makes them
    save_model(random_model(tiny_config(has_mtp=True)), drafting, torch.float32)
    shutil.copy(folder / "tokenizer.json", drafting)
    capture = ("--capture", "router,drafts")
    result = run("trace", drafting, *options, *capture, "--out", tmp_path / "run.safetensors")
    assert result.exit_code == 0, result.output
    request = load(tmp_path / "run.safetensors").request
    assert {name: request[name] for name in FIELDS} == {name: other_value(field) for name, field in FIELDS.items()}


def test_question_is_framed(folder: Path, tmp_path: Path) -> None:
    assert run("trace", folder, "--prompt", "a", "--chat", "--out", tmp_path / "run").exit_code == 0
    pieces = [token.piece for token in load(tmp_path / "run").tokens]
    assert pieces == ["<｜begin▁of▁sentence｜>", "<｜User｜>", "a", "<｜Assistant｜>"]


def test_trace_feeds_ids_exactly_and_needs_no_tokenizer(wordless: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.safetensors"
    assert run("trace", wordless, "--ids", "5, 6,7", "--out", out).exit_code == 0
    written = load(out)
    assert [token.id for token in written.tokens] == [5, 6, 7]
    assert {(token.piece, token.start, token.end) for token in written.tokens} == {("", 0, 0)}
    assert written.text == b""


def test_trace_records_the_layers_and_heads_asked_for(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.safetensors"
    options = ["--capture", "attention,inputs,logits", "--layers", "0,2", "--heads", "1"]
    assert run("trace", folder, "--ids", "5,6,7", *options, "--out", out).exit_code == 0
    data = load(out).data
    assert data["attention"].dims == ("attention_layer", "head", "query", "key")
    assert data["attention"].shape == (2, 1, 3, 3)
    assert list(data["attention_layer"].values) == [0, 2]
    assert list(data["head"].values) == [1]
    assert data["logits"].shape == (3, VOCABULARY)
    assert "router_score" not in data


def test_trace_knocks_experts_out(folder: Path, tmp_path: Path) -> None:
    plain, without = tmp_path / "plain.safetensors", tmp_path / "without.safetensors"
    ids = ["--ids", "5,6,7,8,9,10"]
    assert run("trace", folder, *ids, "--out", plain).exit_code == 0
    expert = int(load(plain).data["expert_id"].sel(moe_layer=1)[0, 0])
    assert run("trace", folder, *ids, "--knock-out", f"1:{expert}", "--out", without).exit_code == 0
    assert expert not in load(without).data["expert_id"].sel(moe_layer=1)
    assert load(without).request["interventions"] == [{"kind": "KnockOut", "layer": 1, "expert": expert}]


def test_trace_changes_the_routing_as_asked(folder: Path, tmp_path: Path) -> None:
    ids = ["--ids", "5,6,7,8,9,10", "--capture", "router,logits"]
    out, plain = tmp_path / "changed", tmp_path / "plain"

    def interventions(*options: object) -> list[dict]:
        result = run("trace", folder, *ids, *options, "--out", out)
        assert result.exit_code == 0, result.output
        return load(out).request["interventions"]

    assert interventions("--knock-out-group", "2:1") == [
        {"kind": "KnockOut", "layer": 2, "expert": expert} for expert in (4, 5, 6, 7)
    ]
    options = ["--force", "3:5", "--top-k-experts", 3, "--bias-off", "--gate-temperature", 2, "--score-threshold", 0.1]
    assert interventions(*options, "--group-limit-off", "--change-layers", "1,4") == [
        {"kind": "ForceExpert", "layer": 3, "expert": 5},
        {"kind": "TopK", "k": 3},
        *(
            {"kind": kind, **values, "layer": layer}
            for layer in (1, 4)
            for kind, values in (
                ("BiasOff", {}),
                ("GroupLimitOff", {}),
                ("GateTemperature", {"temperature": 2.0}),
                ("ScoreThreshold", {"threshold": 0.1}),
            )
        ),
    ]
    assert run("trace", folder, *ids, "--out", plain).exit_code == 0
    (replay,) = interventions("--replay", plain)
    assert (replay["kind"], replay["layers"], replay["num_tokens"]) == ("Replay", [1, 2, 3, 4], 6)
    assert load(out).data.identical(load(plain).data)  # to the bit
    assert interventions("--replay", plain, "--change-layers", "2")[0]["layers"] == [2]


def test_prompt_file_is_taken_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    text = "  wolf\r\n\tmoon é\n"
    (tmp_path / "prompt.txt").write_bytes(text.encode())
    out = tmp_path / "run.safetensors"
    assert run("trace", folder, "--prompt-file", tmp_path / "prompt.txt", "--out", out).exit_code == 0
    assert load(out).text == text.encode()


def test_special_tokens_in_a_prompt_are_said_to_be_text_and_read_where_asked(folder: Path, tmp_path: Path) -> None:
    out, prompt = tmp_path / "run.safetensors", "<｜begin▁of▁sentence｜><｜User｜>The moon"
    result = run("trace", folder, "--prompt", prompt, "--out", out)
    notes = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    assert [note.split(",")[0] for note in notes] == [
        "note: <｜begin▁of▁sentence｜> in the prompt is read as text",
        "note: <｜User｜> in the prompt is read as text",
    ]
    assert notes[1].endswith("not as token 3; --parse-special reads it as that token")
    assert 3 not in [token.id for token in load(out).tokens]
    result = run("trace", folder, "--prompt", prompt, "--parse-special", "--out", out)
    assert "note: " not in result.stdout
    assert [token.id for token in load(out).tokens] == [0, 3, *Tokenizer.load(folder).encode("The moon")]
    result = run("trace", folder, "--prompt", "The moon", "--chat", "--parse-special", "--out", out)
    ids = [token.id for token in load(out).tokens]
    assert (ids[:2], ids[-1]) == ([0, 3], 4)
    refused(run("trace", folder, "--ids", "5", "--parse-special", "--out", out), "--parse-special reads a prompt")


def test_byte_order_mark_of_a_prompt_file_is_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "prompt.txt", tmp_path / "run.safetensors"
    path.write_bytes(b"\xef\xbb\xbfThe moon")
    result = run("trace", folder, "--prompt-file", path, "--out", out)
    assert result.stderr.strip() == f"note: {path} begins with a byte order mark, which is left out"
    assert load(out).text == b"The moon"


def test_trace_says_what_lies_beside_the_weights(tmp_path: Path) -> None:
    model = tmp_path / "m"
    save_model(random_model(tiny_config()), model, torch.float32)
    (model / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    result = run("trace", model, "--ids", "5,6", "--out", tmp_path / "run.safetensors")
    assert result.stdout.splitlines()[-2].startswith(
        "note: the adapter beside the weights (LORA, rank 4) is not applied"
    )


def test_same_command_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        options = ["--prompt", "wolf", "--new-tokens", 5, "--temperature", 0.9, "--seed", 4]
        assert run("trace", folder, *options, "--out", tmp_path / name).exit_code == 0
    first, second = load(tmp_path / "a"), load(tmp_path / "b")
    assert first.tokens == second.tokens
    assert first.data.identical(second.data)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "Give one of --prompt, --prompt-file and --ids"),
        (["--prompt", "a", "--ids", "1"], "Give one of"),
        (["--prompt", ""], "prompt is empty"),
        (["--ids", "1,x"], "not a list of whole numbers"),
        (["--ids", "1,-2"], "not a list of whole numbers"),
        (["--ids", ""], "not a list of whole numbers"),
        (["--ids", "1,320"], "token id 320 does not exist"),
        (["--ids", "1", "--capture", "routers"], "cannot capture routers"),
        (["--ids", "1", "--capture", "indexer"], "no indexer"),
        (["--ids", "1", "--capture", "attention", "--layers", "5"], "layer 5 does not exist"),
        (["--ids", "1", "--capture", "attention", "--heads", "4"], "head 4 does not exist"),
        (["--ids", "1", "--new-tokens", "256"], "do not fit the model's context of 256"),
        (["--ids", "1", "--new-tokens", "-1"], "-1"),
        (["--ids", "1", "--temperature", "-1"], "temperature must be 0 or more"),
        (["--ids", "1", "--temperature", "nan"], "temperature must be 0 or more"),
        (["--ids", "1", "--device", "abacus"], "no device 'abacus'"),
        (["--ids", "1", "--dtype", "int8"], "dtype 'int8' is not known"),
        (["--ids", "1", "--knock-out", "1"], "not a layer and its expert"),
        (["--ids", "1", "--knock-out", "0:1"], "layer 0 has no router"),
        (["--ids", "1", "--knock-out", "1:16"], "expert 16 does not exist"),
        (["--ids", "1", "--knock-out-group", "1:4"], "group 4 does not exist; groups are 0 to 3"),
        (["--ids", "1", "--force", "x:4"], "not a layer and its expert"),
        (["--ids", "1", "--top-k-experts", "17"], "top-k 17"),
        (["--ids", "1", "--gate-temperature", "0"], "temperature must be above 0"),
        (["--ids", "1", "--score-threshold", "2"], "an affinity from 0 to 1"),
        (["--ids", "1", "--bias-off", "--change-layers", "0"], "layer 0 has no router"),
        (["--ids", "1", "--replay", "absent.safetensors"], "absent.safetensors cannot be read"),
        (["--prompt-file", "absent.txt"], "absent.txt: No such file"),
    ],
)
def test_unusable_options_end_with_one_line_and_no_file(
    folder: Path, tmp_path: Path, options: list[str], complaint: str
) -> None:
    refused(run("trace", folder, *options, "--out", tmp_path / "run.safetensors"), complaint)
    assert list(tmp_path.iterdir()) == []


def test_too_many_experts_knocked_out_are_refused(folder: Path, tmp_path: Path) -> None:
    options = [part for expert in range(13) for part in ("--knock-out", f"1:{expert}")]
    refused(run("trace", folder, "--ids", "1", *options, "--out", tmp_path / "run"), "layer 1")
    assert list(tmp_path.iterdir()) == []


def test_prompt_file_that_is_not_text_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.bin").write_bytes(b"ab\xff")
    result = run("trace", folder, "--prompt-file", tmp_path / "prompt.bin", "--out", tmp_path / "run")
    refused(result, "prompt.bin is not UTF-8 text (byte 2)")


def test_text_without_a_tokenizer_is_refused(wordless: Path, tmp_path: Path) -> None:
    refused(run("trace", wordless, "--prompt", "a", "--out", tmp_path / "run"), "has no tokenizer.json; give token ids")


def test_output_needs_a_folder_that_exists(folder: Path, tmp_path: Path) -> None:
    refused(run("trace", folder, "--ids", "1", "--out", tmp_path / "absent" / "run"), "absent does not exist")
    refused(run("trace", folder, "--ids", "1", "--out", tmp_path), "is a folder")
    refused(run("trace", folder, "--ids", "1"), "--out")
    assert list(tmp_path.iterdir()) == []


def test_attention_that_would_not_fit_is_refused_with_the_estimate(tmp_path: Path) -> None:
    model = random_model(tiny_config(num_heads=64, max_positions=1 << 20))
    save_model(model, tmp_path / "wide", torch.float32)
    ids = ",".join(["1"] * 100_000)
    out = tmp_path / "run"
    refused(run("trace", tmp_path / "wide", "--ids", ids, "--capture", "attention", "--out", out), "12800.0 GB")
    assert not out.exists()


def test_a_run_from_disk_that_fails_says_which_layers_are_kept(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "run"
    save_model(random_model(tiny_config()), folder, torch.bfloat16, fp8_scales=torch.float32)
    for layer, kept in ((4, "4 finished layers"), (0, "")):
        stored = read_header(folder / "model.safetensors")[f"model.layers.{layer}.self_attn.kv_b_proj.weight"]
        with stored.file.open("r+b") as file:
            file.seek(stored.offset)
            file.write(b"\x7f")  # NaN in FP8
        out = tmp_path / f"run-{layer}"
        result = run("trace", folder, "--ids", "1,2", "--stream", "--out", out)
        assert result.exit_code == 2
        assert "a weight is NaN" in result.stderr
        note = f"note: {out}.partial keeps {kept}; the same command goes on from there, or remove the folder"
        assert (note in result.stderr) == bool(kept)
        assert Path(f"{out}.partial").exists() == bool(kept)
        assert not out.exists()

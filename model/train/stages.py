"""The training stages of the embedded models, in order, with their commands: `python -m model train --list`.

The first stage starts from random weights. The TOML file of every other stage names its base model, the model of an
earlier stage in `runs/NAME/model`.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
RUNS = "runs"


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training: a TOML file and its command."""

    config: str  # name of the TOML file in `CONFIGS`, without the suffix
    run: str  # folder in `RUNS`
    description: str
    start: str = ""  # run of the base model; if it equals `run`, the stage resumes its saved state
    corpus: str = "SHARDS"  # folder with the shards of CORPUS/train, or with pairs

    @property
    def command(self) -> str:
        """The command line of the stage; the user replaces SHARDS and CORPUS by folders."""
        words = ["python -m model train", f"model/train/configs/{self.config}.toml"]
        if self.start == self.run:
            words.append("--resume")
        return " ".join([*words, f"--corpus {self.corpus}", f"--out {RUNS}/{self.run}"])


STAGES = (
    Stage("mini-v3", "v3", "pre-training: random weights, constant rate, short windows"),
    Stage("mini-v3-decay", "v3", "pre-training continues: longer windows, the rate falls to zero", "v3"),
    Stage("mini-v3-mtp", "mtp", "multi-token-prediction module; all else is frozen", "v3"),
    Stage("mini-v3-continue", "continue", "more text for the model and the module together", "mtp"),
    Stage("mini-v3-extend", "extend", "four times the context, by YaRN and long windows", "continue"),
    Stage("mini-v3-muon", "muon", "more text for the model by Muon, short windows; the module is frozen", "extend"),
    Stage("mini-v3-muon-decay", "muon", "the same continues: longer windows, the rate falls to zero", "muon"),
    Stage("mini-v3-long", "long", "the whole context again, at a low rate", "muon"),
    Stage("mini-v3-mtp-again", "mtp-again", "the module learns the changed model; all else is frozen", "long"),
    Stage("mini-v3-mixture", "mixture", "more text by Muon, more of code and mathematics; no module", "mtp-again"),
    Stage("mini-v3-mixture-decay", "mixture", "the same continues: long windows, the rate falls to zero", "mixture"),
    Stage(
        "mini-v3-finish",
        "finish",
        "a last mixture at a low rate; weights averaged half and half with the base model",
        "mixture",
    ),
    Stage("mini-v3-mtp-last", "mtp-last", "the module learns the changed model again; all else is frozen", "finish"),
    Stage("mini-v3-mtp-muon", "mtp-muon", "the module trains on by Muon; all else is frozen", "mtp-last"),
    Stage("mini-v32", "indexers", "V3.2: new indexers learn the attention of the frozen model", "mixture"),
    Stage(
        "mini-v32-sparse", "sparse", "V3.2: key selection on; all weights learn, indexers by their own loss", "indexers"
    ),
    Stage("mini-v32-instruct", "instruct", "instruction tuning on example answers", "sparse", "CORPUS/sft"),
    Stage("mini-v32-preference", "preference", "the better of two answers (DPO)", "instruct", "CORPUS/preference"),
    Stage("mini-v32-reward", "reward", "reward model that scores answers", "instruct", "CORPUS/preference"),
    Stage("mini-v32-grpo", "grpo", "reinforcement of right results (GRPO)", "preference", "CORPUS/sft"),
)


def listed() -> Iterator[str]:
    """Yield two lines for each stage: its number and description, and its command."""
    for number, stage in enumerate(STAGES, 1):
        yield f"{number:>2}. {stage.description}"
        yield f"    {stage.command}"

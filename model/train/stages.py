"""The embedded models' stages in order, and the command of each: `python -m model train --list`.

Every stage but the first begins with the model that an earlier one left in `runs/NAME/model`, as its TOML file says.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
RUNS = "runs"


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One TOML file."""

    config: str  # its name in `CONFIGS`, without the suffix
    run: str  # folder in `RUNS`
    says: str
    start: str = ""  # run that it begins with; its own: the state there is resumed
    corpus: str = "SHARDS"  # made by the tokenize command from CORPUS/train; or a folder of pairs

    @property
    def command(self) -> str:
        """What to type; SHARDS and CORPUS are folders of one's own."""
        words = ["python -m model train", f"model/train/configs/{self.config}.toml"]
        if self.start == self.run:
            words.append("--resume")
        return " ".join([*words, f"--corpus {self.corpus}", f"--out {RUNS}/{self.run}"])


STAGES = (
    Stage("mini-v3", "v3", "pre-training: drawn weights, constant rate, short windows"),
    Stage("mini-v3-decay", "v3", "pre-training goes on: longer windows, the rate falls to zero", "v3"),
    Stage("mini-v3-mtp", "mtp", "a module that predicts the token after the next one; all else is frozen", "v3"),
    Stage("mini-v3-continue", "continue", "more text for the model and the module together", "mtp"),
    Stage("mini-v3-extend", "extend", "four times the context, by YaRN and long windows", "continue"),
    Stage("mini-v3-muon", "muon", "more text for the model by Muon, short windows; the module rests", "extend"),
    Stage("mini-v3-muon-decay", "muon", "that goes on: longer windows, the rate falls to zero", "muon"),
    Stage("mini-v3-long", "long", "the whole context again, at a low rate", "muon"),
    Stage("mini-v3-mtp-again", "mtp-again", "the module catches up; all else is frozen", "long"),
    Stage("mini-v3-mixture", "mixture", "more text by Muon, more of code and mathematics; no module", "mtp-again"),
    Stage("mini-v3-mixture-decay", "mixture", "that goes on: long windows, the rate falls to zero", "mixture"),
    Stage("mini-v3-finish", "finish", "a last mixture at a low rate, half the way back", "mixture"),
    Stage("mini-v3-mtp-last", "mtp-last", "the module catches up once more; all else is frozen", "finish"),
    Stage("mini-v3-mtp-muon", "mtp-muon", "the module goes on by Muon; all else is frozen", "mtp-last"),
    Stage("mini-v32", "indexers", "V3.2: new indexers learn the attention of the frozen model", "mixture"),
    Stage("mini-v32-sparse", "sparse", "V3.2: selection on, all weights learn, indexers by their own loss", "indexers"),
    Stage("mini-v32-instruct", "instruct", "answers to prompts, by examples", "sparse", "CORPUS/sft"),
    Stage("mini-v32-preference", "preference", "the better of two answers (DPO)", "instruct", "CORPUS/preference"),
    Stage("mini-v32-reward", "reward", "a model that scores answers, beside", "instruct", "CORPUS/preference"),
    Stage("mini-v32-grpo", "grpo", "right results are rewarded (GRPO)", "preference", "CORPUS/sft"),
)


def listed() -> Iterator[str]:
    """Lines to print: each stage and its command."""
    for number, stage in enumerate(STAGES, 1):
        yield f"{number:>2}. {stage.says}"
        yield f"    {stage.command}"

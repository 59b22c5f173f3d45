"""The lessons of the app, computed on the embedded models: every answer, every claim and every number in their texts.

A retrained model that makes a claim false fails here.
"""

import dataclasses
import functools
import inspect
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.checkpoint.named_sizes import sizes_of
from model.run.attention import head_attention
from model.run.counterfactual import Counterfactual, Question
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import Capture, RunRequest
from model.trace.facts.facts import FACTS, facts_of
from model.trace.facts.sources import FactError, Sources
from model.trace.trace import Trace
from pages.common.runs import Run, fit
from pages.common.session import PAGE_CAPTURE
from pages.learn.collapse import runs as collapse
from pages.learn.lessons import expressions, lesson
from pages.learn.lessons.lesson import Lesson, Step

FILES = sorted(lesson.CONTENT.glob("*.toml"))
CHECKED = Path(__file__).with_name("right_options.toml")  # lesson -> question -> its right option, as in the files
GUIDE = (Path(__file__).parents[4] / "docs" / "lessons.md").read_text(encoding="utf-8")
ROUTER = Capture(frozenset({"router"}))


class Runs:
    """The runs that the lessons' views ask for, each done once, and the facts of each view."""

    @functools.cache  # noqa: B019 - one instance, for the whole session
    def engine(self, model: str, dtype: str = "float32") -> Engine:
        return Engine.load(model, dtype=dtype)

    @functools.cache  # noqa: B019
    def trace(self, model: str, prompt: str) -> Trace:
        run = Run(0, "run", RunRequest(prompt=prompt, capture=PAGE_CAPTURE))
        fit(run, self.engine(model))
        assert run.request is not None
        return self.engine(model).run(run.request)

    @functools.cache  # noqa: B019
    def _sources(self, model: str, prompt: str) -> Sources:
        trace = self.trace(model, prompt)
        outcomes = {side: run.outcome() for side, run in collapse.recorded().items()}
        dense = functools.cache(functools.partial(head_attention, self.engine(model), trace))
        return Sources(trace, dense=dense, sizes=sizes_of, collapse=outcomes)

    @functools.cache  # noqa: B019
    def _experiment(self, model: str, prompt: str, layer: int, expert: int) -> Counterfactual:
        result = Counterfactual(Question.about(self.trace(model, prompt), (KnockOut(layer, expert),)))
        for _ in result.run(self.engine(model), threading.Event()):
            pass
        return result

    @functools.cache  # noqa: B019
    def _run_b(self, model: str, prompt: str, kind: str, dtype: str, other: str | None) -> Trace:
        if kind == "another prompt":
            return self.trace(model, str(other))
        ids = tuple(token.id for token in self.trace(model, prompt).tokens)
        return self.engine(model, dtype).run(RunRequest(token_ids=ids, capture=ROUTER))

    def facts(self, step: Step) -> dict:
        """The facts of a step's view, after the student has done on the page what the step says."""
        view = step.view
        assert view["new"] == "0"
        model, prompt = view.get("model", "mini-v3"), view["prompt"]
        sources = self._sources(model, prompt)
        if step.page == "compare":
            b = self._run_b(view["with"], prompt, view["right"], view["dtype"], view.get("other"))
            sources = dataclasses.replace(sources, compared=b)
        if step.page == "counterfactual":
            chosen = opened(step, facts_of(sources))
            experiment = self._experiment(model, prompt, int(chosen["layer"]), int(chosen["expert"]))
            sources = dataclasses.replace(sources, experiment=experiment)
        return facts_of(sources)


@pytest.fixture(scope="session")
def runs() -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expressions, "SECONDS", 60.0)  # the machine may be busy
        yield Runs()


def opened(step: Step, facts: dict) -> dict[str, str]:
    """The view with the values of its expressions."""
    return {
        name: str(expressions.evaluate(value[1:], facts)) if value.startswith("=") else value
        for name, value in step.view.items()
    }


def faults(step: Step, facts: dict) -> Iterator[str]:
    """What is wrong with a step on the model's own numbers."""
    trace = facts["tokens"].args[0].trace
    for name, most in (("token", trace.num_tokens), ("layer", trace.shape.num_layers), ("expert", facts["experts"]())):
        if (number := opened(step, facts).get(name)) is not None and not 0 <= int(number) < most:
            yield f"there is no {name} {number}"
    for text in (step.text, step.do):
        expressions.fill(text, facts)
    for claim in step.claims:
        if expressions.evaluate(claim.true, facts) is not True:
            yield f"it is not so: {expressions.fill(claim.text, facts)}"
    if step.ask is not None:
        expressions.fill(step.ask.question + step.ask.why, facts)
        answer = expressions.evaluate(step.ask.answer, facts)
        options = [expressions.fill(option, facts) for option in step.ask.options]
        if len(set(options)) < len(options):
            yield f"two options are alike: {options}"
        most = {"choice": len(options), "token": trace.num_tokens, "expert": facts["experts"]()}.get(step.ask.kind)
        if most is not None and not (isinstance(answer, int) and 0 <= answer < most):
            yield f"the answer {answer!r} is no {step.ask.kind}"


def wrong(lesson: Lesson, runs: Runs) -> list[str]:
    """What is wrong with a lesson on the embedded models, with the number of the step or question."""
    found = []
    for number, step in enumerate(lesson.pages):
        facts = runs.facts(step)
        found += [f"{lesson.question(number)}: {fault}" for fault in faults(step, facts)]
    return found


def load(name: str) -> Lesson:
    return lesson.load(lesson.CONTENT / f"{name}.toml")


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_every_answer_and_claim_holds_on_the_embedded_models(name: str, runs: Runs) -> None:
    assert wrong(load(name), runs) == []


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_right_options_are_those_that_a_reader_has_checked(name: str, runs: Runs) -> None:
    """An expression that yields the place of another option is no fault that `wrong` could see."""
    checked, computed = tomllib.loads(CHECKED.read_text(encoding="utf-8"))[name], {}
    for step in load(name).pages:
        if step.ask is not None and step.ask.options:
            place = expressions.evaluate(step.ask.answer, runs.facts(step))
            computed[step.ask.question] = step.ask.options[place]
    assert computed == checked


def test_a_claim_that_is_false_is_found(runs: Runs) -> None:
    whole = load("2-experts")
    first = whole.steps[0]
    claim = dataclasses.replace(first.claims[0], true="experts_per_token() == experts()")
    changed = dataclasses.replace(first, claims=(claim,))
    assert wrong(dataclasses.replace(whole, steps=(changed,), test=()), runs) == [
        "2-experts/1: it is not so: Each row has 4 chosen experts out of 32."
    ]


def test_an_answer_that_is_no_option_is_found(runs: Runs) -> None:
    whole = load("2-experts")
    first = whole.steps[0]
    assert first.ask is not None
    changed = dataclasses.replace(first, ask=dataclasses.replace(first.ask, answer="experts_per_token()"))
    assert wrong(dataclasses.replace(whole, steps=(changed,), test=()), runs) == [
        "2-experts/1: the answer 4 is no choice"
    ]


def test_there_are_seven_lessons_of_the_planned_length() -> None:
    lessons = [lesson.load(path) for path in FILES]
    assert len(lessons) == 7
    for each in lessons:
        assert 5 <= len(each.steps) <= 8
        assert 4 <= len(each.test) <= 6
        assert 10 <= each.minutes <= 20
        assert each.say
        assert each.errors


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_answer_is_canned(path: Path) -> None:
    for step in lesson.load(path).pages:
        asked = [step.ask.answer] if step.ask else []
        for expression in (*asked, *(claim.true for claim in step.claims)):
            assert set(re.findall(r"(\w+)\(", expression)) & set(FACTS), expression
        assert step.claims or step in lesson.load(path).test


def test_the_example_of_the_guide_is_a_lesson_that_holds(tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "own.toml").write_text(re.findall("```toml\n(.*?)```", GUIDE, re.DOTALL)[0], encoding="utf-8")
    assert wrong(lesson.load(tmp_path / "own.toml"), runs) == []


def test_the_guide_lists_every_fact() -> None:
    assert [row for row in map(row_of, FACTS) if row not in GUIDE] == []


def row_of(name: str) -> str:
    """The row of a fact in the guide."""
    takes = list(inspect.signature(FACTS[name]).parameters.values())[1:]
    arguments = ", ".join(
        each.name if each.default is each.empty else f"{each.name} = {each.default!r}".replace("None", "none")
        for each in takes
    )
    meaning = (inspect.getdoc(FACTS[name]) or "").splitlines()[0].removeprefix("Return ").removesuffix(".")
    return f"| `{name}({arguments})` | {meaning} |"


def test_what_needs_a_button_says_so_before_it_was_pressed(runs: Runs) -> None:
    step = next(step for step in load("7-trust").steps if step.page == "counterfactual")
    facts = runs.facts(dataclasses.replace(step, page="routing"))
    with pytest.raises(FactError, match="press Run"):
        expressions.fill(step.claims[0].text, facts)

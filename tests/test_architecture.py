"""The arrows between the parts, and what no part may do, read from the source and not by importing it."""

import ast
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("model", "viz", "pages")
FILES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py")) + [ROOT / "app.py"]

# A file's place -> which modules of ours it may import. The longest prefix of the path decides.
MAY_IMPORT = {
    "app.py": ("pages", "viz", "model"),
    "pages": ("pages", "viz", "model"),
    "viz": ("viz",),
    "model/network": ("model.network",),
    "model/trace": ("model.trace",),
    "model/checkpoint": ("model.checkpoint", "model.network", "model.trace"),
    "model/run": ("model.run", "model.checkpoint", "model.network", "model.trace"),
    "model/families": ("model.families", "model.run", "model.checkpoint", "model.trace"),
    "model/families/choose.py": ("model.families", "model.run", "model.checkpoint", "model.network"),
    "model/atlas": ("model.atlas", "model.trace"),
    "model/sweep": (
        *("model.sweep", "model.atlas", "model.families", "model.run", "model.checkpoint", "model.network"),
        "model.trace",
    ),
    "model/train": ("model.train", "model.checkpoint", "model.network", "model.trace"),
    "model/doctor": (
        *("model.doctor", "model.families", "model.run", "model.checkpoint", "model.network", "model.trace"),
    ),
    "model/report": ("model.report", "model.trace", "viz"),
    "model/cli/report.py": ("model.report", "model.trace", "model.cli.options", "model.cli.terminal"),
    "model/cli/doctor.py": (
        *("model.doctor", "model.families", "model.run", "model.checkpoint", "model.trace"),
        *("model.cli.options", "model.cli.terminal"),
    ),
    "model": ("model",),
}
# A place -> packages of others that it must not know.
MUST_NOT_IMPORT = {
    "model": {"streamlit", "plotly"},
    "model/trace": {"torch", "streamlit", "plotly"},
    "model/atlas": {"torch", "streamlit", "plotly"},
    "model/report": {"torch", "streamlit", "plotly"},
    "model/run/request.py": {"torch"},
    "model/run/request_fields.py": {"torch", "click"},
    "model/run/interventions.py": {"torch"},
    "model/run/step.py": {"torch"},
    "model/run/protocol.py": {"torch"},
    "model/run/abilities.py": {"torch"},
    "model/cli/doctor.py": {"torch"},
    "model/families/choose.py": {"torch", "transformers"},
    "model/checkpoint/embedded.py": {"torch"},
    "viz": {"torch", "streamlit"},
    "viz/report": {"torch", "streamlit", "plotly"},
    "pages": {"torch"},
    "app.py": {"torch"},
}
NETWORK = {
    "socket",
    "ssl",
    "http",
    "urllib",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "websockets",
}
SPEAKS_HTTP = "model/run/remote.py"  # the only file that does; to an address that the operator set
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
HEAVY = (
    *("model.run.engine", "model.run.attention", "model.run.head_vectors"),
    *("model.network", "model.checkpoint", "model.train", "model.families"),
)
LIGHT = ("model.checkpoint.embedded", "model.checkpoint.costs")  # within them, but without torch

# What `pages` may take from numpy: types, layout, selection and order. Statistics come from `model/trace`, with a test.
NUMPY_IN_PAGES = {
    *("ndarray", "nan"),
    *("arange", "array", "full", "repeat", "tile", "where"),
    *("flatnonzero", "nonzero", "count_nonzero", "isfinite", "isnan", "argmax", "argsort", "lexsort", "atleast_1d"),
}
ARITHMETIC = {
    *("sum", "mean", "median", "quantile", "percentile", "std", "var", "prod", "cumsum", "cumprod", "dot"),
    *("min", "max", "ptp", "diff", "clip", "abs", "agg", "aggregate", "groupby", "rolling", "corr"),
}
MASKING = (ast.BitAnd, ast.BitOr, ast.BitXor)

# A source file of more than 40 lines has a test file of its name at the same path under tests/. The others are parts
# that only their entry point uses: the test file of the entry point tests them. Test file -> such parts.
MIRRORED_FROM = 40
TESTED_IN = {
    "model/checkpoint/test_files.py": ("model/checkpoint/header.py",),
    "model/checkpoint/test_weights.py": ("model/checkpoint/names.py",),
    "model/cli/test_import_file.py": ("model/checkpoint/named.py",),
    "model/cli/test_info.py": ("model/cli/family_report.py",),
    "model/cli/test_main.py": ("model/cli/options.py",),
    "model/cli/test_compare.py": ("model/cli/changes.py",),
    "model/cli/test_plan.py": ("model/cli/plan_text.py",),
    "model/doctor/test_report.py": ("model/cli/doctor.py", "model/doctor/findings.py", "model/doctor/manifest.py"),
    "model/doctor/test_weights.py": (
        *("model/doctor/bias.py", "model/doctor/blocks.py", "model/doctor/experts.py", "model/doctor/gate.py"),
        *("model/doctor/tensors.py", "model/doctor/values.py", "model/checkpoint/disk.py"),
    ),
    "model/doctor/test_text.py": ("model/doctor/load.py", "model/doctor/prompts.py", "model/doctor/reference.py"),
    "model/families/test_edit.py": ("model/families/block_edit.py",),
    "model/families/test_folder.py": (*("model/families/placement.py", "model/families/stored.py"),),
    "model/families/test_rule.py": ("model/families/found.py", "model/families/rule_notes.py"),
    "model/families/test_seam.py": ("model/families/tape.py",),
    "model/network/test_parity.py": (
        *("model/network/block.py", "model/network/transformer.py", "model/network/rope.py", "model/network/cache.py"),
    ),
    "model/report/test_page.py": (
        *("model/report/attention.py", "model/report/load.py", "model/report/parts.py", "model/report/routing.py"),
        *("model/report/settings.py", "model/report/subject.py", "model/report/text.py", "viz/report/style.py"),
    ),
    "model/run/test_routing_edit.py": ("model/network/edit.py",),
    "model/run/test_engine.py": (
        *("model/run/capture.py", "model/run/decoding.py", "model/run/entries.py", "model/run/recorder.py"),
    ),
    "model/run/test_attention.py": ("model/run/head_vectors.py",),
    "model/run/test_from_disk.py": ("model/run/on_demand.py", "model/run/partial.py"),
    "model/run/test_served.py": ("model/run/remote.py", "model/run/step.py"),
    "model/cli/test_sweep.py": ("model/sweep/estimate.py",),
    "model/sweep/test_network.py": ("model/sweep/source.py", "model/sweep/tape.py"),
    "model/sweep/test_run.py": (
        *("model/sweep/examples.py", "model/sweep/loaded.py", "model/sweep/merge.py", "model/sweep/parts.py"),
        *("model/sweep/plan.py", "model/sweep/progress.py", "model/sweep/routing.py", "model/sweep/sums.py"),
        *("model/sweep/sweeper.py", "model/sweep/tables.py"),
    ),
    "model/trace/test_comparison.py": ("model/trace/comparison_report.py",),
    "model/sweep/test_plan_check.py": ("model/sweep/plan_runs.py",),
    "model/trace/test_rollout.py": ("model/trace/comparison_measures.py", "model/trace/pairing.py"),
    "model/trace/imports/test_decision_tables.py": (
        *("model/trace/imports/table_rows.py", "model/trace/imports/verl.py"),
    ),
    "model/trace/imports/test_formats.py": ("model/trace/imports/building.py", "model/trace/imports/reading.py"),
    "model/trace/imports/test_imatrix.py": ("model/trace/imports/counts.py", "model/trace/imports/count_formats.py"),
    "model/trace/imports/test_sglang.py": ("model/trace/imports/sglang_dump.py",),
    "model/train/data/curation/test_run.py": (
        *("model/train/data/curation/features.py", "model/train/data/curation/measures.py"),
        *("model/train/data/curation/steps.py", "model/train/data/curation/tally.py"),
    ),
    "model/train/demo/test_nano.py": ("model/train/demo/sample.py",),
    "model/train/evaluation/test_heldout.py": (
        *("model/train/evaluation/heldout_report.py", "model/train/evaluation/progress.py", "model/cli/evaluate.py"),
    ),
    "model/train/post_training/test_tuning.py": ("model/train/freezing.py",),
    "model/train/post_training/test_grpo.py": ("model/train/post_training/draws.py",),
    "model/train/post_training/test_preference.py": ("model/train/post_training/pairs.py",),
    "model/train/pretraining/test_loop.py": ("model/train/state.py", "model/train/tapes.py"),
    "pages/common/test_kept.py": ("app.py",),
    "pages/frame/room/test_bar.py": ("pages/frame/room/follow.py", "pages/frame/room/panel.py"),
    "pages/frame/lesson/test_panel.py": (
        *("pages/frame/lesson/question.py", "pages/frame/lesson/style.py", "pages/learn/lessons/facts.py"),
        "pages/learn/lessons/walk.py",
    ),
    "pages/learn/lessons/test_page.py": ("pages/learn/lessons/overview.py",),
    "pages/observe/atlas/test_page.py": ("pages/observe/atlas/choices.py",),
    "pages/observe/atlas/test_finding.py": ("pages/observe/atlas/texts.py",),
    "pages/observe/atlas/test_purpose.py": ("pages/observe/atlas/tables.py",),
    "pages/intervene/counterfactual/test_importance.py": ("pages/intervene/counterfactual/importance_runs.py",),
    "viz/test_architecture.py": (
        *("viz/architecture_cost.py", "viz/architecture_layout.py", "viz/architecture_paint.py"),
    ),
    "viz/report/test_routing.py": ("viz/report/colors.py", "viz/report/figure.py"),
    "viz/test_load.py": ("viz/axis.py",),
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each_file(*places: str) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Check all files in one test, which names each file with a fault. A test per file would cost pytest 20 s."""
    chosen = [path for path in FILES if path.exists() and name_of(path).startswith(places)]

    def checked(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            faults: dict[str, str] = {}
            for path in chosen:
                try:
                    check(path)
                except AssertionError as fault:
                    faults[name_of(path)] = str(fault)
            assert chosen
            assert faults == {}

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return checked


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported module, with the statement; `from a import b` counts as `a.b`, since b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def is_within(module: str, packages: tuple[str, ...] | set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@each_file("app.py", "pages", "viz", "model")
def test_arrows_point_one_way(path: Path) -> None:
    place = max((key for key in MAY_IMPORT if name_of(path).startswith(key)), key=len)
    ours = [module for _, module in imports(parse(path)) if is_within(module, {"app", "tests", *PARTS})]
    assert [module for module in ours if not is_within(module, MAY_IMPORT[place])] == []


@each_file("app.py", "pages", "viz", "model")
def test_parts_do_not_know_what_they_must_not(path: Path) -> None:
    banned = set().union(*(names for place, names in MUST_NOT_IMPORT.items() if name_of(path).startswith(place)))
    assert [module for _, module in imports(parse(path)) if is_within(module, banned)] == []


@each_file("app.py", "pages", "viz", "model")
def test_no_network_no_pickle_no_eval(path: Path) -> None:
    tree = parse(path)
    banned = PICKLING if name_of(path) == SPEAKS_HTTP else NETWORK | PICKLING
    assert [module for _, module in imports(tree) if is_within(module, banned)] == []
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [func.id for func in called if isinstance(func, ast.Name) and func.id in {"eval", "exec", "print"}] == []
    loads = [func for func in called if isinstance(func, ast.Attribute) and ast.unparse(func) == "torch.load"]
    assert loads == []
    assert "allow_pickle=True" not in ast.unparse(tree)


@each_file("viz", "pages", "app.py")
def test_nothing_drawn_is_made_up(path: Path) -> None:
    tree = parse(path)
    assert [module for _, module in imports(tree) if is_within(module, {"random", "secrets", "numpy.random"})] == []
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [name for name in attributes if re.match(r"(np|numpy)\.random\b", name)] == []


@each_file("pages", "app.py")
def test_pages_import_the_engine_only_where_it_is_made(path: Path) -> None:
    tree = parse(path)
    top_level = set(ast.walk(ast.Module([node for node in tree.body if not _is_function_or_guard(node)], [])))
    heavy = [module for node, module in imports(tree) if node in top_level and is_within(module, HEAVY)]
    assert [module for module in heavy if not is_within(module, LIGHT)] == []


def _is_function_or_guard(node: ast.stmt) -> bool:
    guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return guard or isinstance(node, ast.FunctionDef)


@pytest.mark.parametrize("part", PARTS)
def test_no_modules_import_each_other_in_a_circle(part: str) -> None:
    """Imports inside functions do not count. What neither needs nor is needed is dropped until circles are left."""
    modules = {_module_name(path): path for path in (ROOT / part).rglob("*.py")}
    needs = {name: _imported_at_top(path, modules.keys()) - {name} for name, path in modules.items()}
    while free := {name for name, needed in needs.items() if not needed or name not in set().union(*needs.values())}:
        needs = {name: needed - free for name, needed in needs.items() if name not in free}
    assert needs == {}


def _module_name(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported_at_top(path: Path, modules: Collection[str]) -> set[str]:
    """Modules among those given that a file imports outside its functions."""
    tree = parse(path)
    inside = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    named = [module for node, module in imports(tree) if node not in inside]
    return {name if name in modules else name.rpartition(".")[0] for name in named} & set(modules)


def test_model_package_is_empty() -> None:
    assert (ROOT / "model" / "__init__.py").read_text() == ""


def test_no_module_lies_directly_in_pages() -> None:
    assert list((ROOT / "pages").glob("*.py")) == []


def test_pages_and_frame_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in (ROOT / "pages").rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if name.endswith("/page.py") and lines > 100} == {}
    assert len((ROOT / "app.py").read_text().splitlines()) <= 75


@each_file("pages")
def test_no_page_imports_another_pages_folder(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    own = "pages.common" if parts[1] == "common" else ".".join(parts[:3])
    of_frame = {"pages.frame", "pages.learn.lessons", "pages.learn.glossary"} if parts[1] == "frame" else set()
    ours = [module for _, module in imports(parse(path)) if is_within(module, {"pages"})]
    assert [module for module in ours if not is_within(module, {"pages.common", own, *of_frame})] == []


@each_file("pages")
def test_pages_do_no_arithmetic_on_arrays(path: Path) -> None:
    """Pages format, select and order what `model/trace` computed: the numbers on a page have a test without it.

    Scalars may be added and divided; of arrays that shows where an operand is written as `.values`.
    """
    nodes = list(ast.walk(parse(path)))
    methods = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    called = [node for node in methods if ast.unparse(node.func.value) != "math" and node.func.attr in ARITHMETIC]
    assert [ast.unparse(node) for node in called] == []
    numpy = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert {name for name in numpy if re.fullmatch(r"np\.\w+", name)} <= {f"np.{name}" for name in NUMPY_IN_PAGES}
    combined = [node for node in nodes if isinstance(node, ast.BinOp) and not isinstance(node.op, MASKING)]
    assert [ast.unparse(node) for node in combined if _is_array(node.left) or _is_array(node.right)] == []
    assert [node for node in nodes if isinstance(node, ast.MatMult)] == []


def _is_array(node: ast.expr) -> bool:
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr == "values"


def test_pages_common_holds_little() -> None:
    lengths = [len(path.read_text().splitlines()) for path in (ROOT / "pages" / "common").glob("*.py")]
    assert len(lengths) <= 24
    assert sum(lengths) <= 2900


def test_tests_mirror_the_source() -> None:
    long = {name_of(path) for path in FILES if len(path.read_text().splitlines()) > MIRRORED_FROM}
    untested = {name for name in long if not (ROOT / "tests" / name).with_name(f"test_{Path(name).name}").exists()}
    listed = [name for names in TESTED_IN.values() for name in names]
    assert untested - set(listed) == set()
    assert set(listed) - untested == set()  # the list holds no file that needs no place in it
    assert [name for name in TESTED_IN if not (ROOT / "tests" / name).exists()] == []


def test_no_source_file_is_a_god_file() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES if path.exists()}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


@each_file("app.py", "pages", "viz", "model")
def test_functions_are_short(path: Path) -> None:
    """At most 40 lines without the docstring."""
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {node.name: lines for node in functions if (lines := _code_lines(node)) > 40} == {}


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    return lines if ast.get_docstring(function) is None else lines - (first.end_lineno - first.lineno + 1)


@pytest.mark.parametrize("suffix", [".js", ".css", ".html"])
def test_browser_parts_load_nothing_and_invent_nothing(suffix: str) -> None:
    for path in (path for part in ("viz", "pages") for path in (ROOT / part).rglob(f"*{suffix}")):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert re.findall(r"https?://|Math\.random|\beval\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", text) == []

"""Chat templates are found where transformers writes them; only the turns of DeepSeek-V3 are known."""

import json
from pathlib import Path

import pytest

from model.checkpoint.chat_template import ASSISTANT, USER, takes_questions, template_file
from model.train.post_training.pairs import write_template


def test_template_is_found_where_transformers_writes_it(tmp_path: Path) -> None:
    assert template_file(tmp_path) == ""
    settings = tmp_path / "tokenizer_config.json"
    for content in ("{", "[]", "{}", '{"chat_template": ""}'):
        settings.write_text(content)
        assert template_file(tmp_path) == ""
    settings.write_text('{"chat_template": "{{ x }}"}')
    assert template_file(tmp_path) == "tokenizer_config.json"
    (tmp_path / "chat_template.jinja").write_text("{{ x }}")
    assert template_file(tmp_path) == "chat_template.jinja"


def test_questions_are_put_where_the_turns_are_known(tmp_path: Path) -> None:
    assert not takes_questions(tmp_path)
    write_template(tmp_path)
    assert takes_questions(tmp_path)


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        ("<|im_start|>user", False),
        (f"{USER}{{{{ x }}}}", False),
        (f"{USER}{{{{ x }}}}{ASSISTANT}", True),
        ([{"name": "default", "template": f"{USER}{ASSISTANT}"}], True),
        (7, False),
    ],
)
def test_turns_of_other_templates_are_not_guessed(tmp_path: Path, template: object, takes: bool) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert template_file(tmp_path) == "tokenizer_config.json"
    assert takes_questions(tmp_path) is takes
    if isinstance(template, str):
        (tmp_path / "tokenizer_config.json").unlink()
        (tmp_path / "chat_template.jinja").write_text(template)
        assert takes_questions(tmp_path) is takes

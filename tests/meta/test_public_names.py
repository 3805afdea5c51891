"""The public names: complete, sorted, importable, documented, each with an example."""

import ast
import re
from importlib import import_module
from types import ModuleType

import pytest
import repository

import polyphase


def public_modules() -> list[str]:
    """The modules that say what they offer."""
    return [
        repository.module_name(path)
        for path in repository.source_files()
        if re.search(r"^__all__\b", path.read_text(), re.M)
    ]


def type_checking_names() -> dict[str, str]:
    """What the root tells type checkers: each name and where it is imported from."""
    body = ast.parse((repository.PACKAGE / "__init__.py").read_text()).body
    [block] = [node for node in body if isinstance(node, ast.If)]
    return {
        alias.name: f"{node.module}.{alias.name}" if node.module == "polyphase" else node.module
        for node in block.body
        for alias in node.names
    }


@pytest.mark.parametrize("module", public_modules())
def test_all_is_sorted_and_importable(module):
    loaded = import_module(module)
    assert loaded.__all__ == sorted(set(loaded.__all__))
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_the_tables_of_the_root_agree():
    assert sorted(polyphase._HOMES) == polyphase.__all__
    assert type_checking_names() == polyphase._HOMES


def test_dir_shows_every_public_name():
    assert set(polyphase.__all__) | {"__version__"} <= set(dir(polyphase))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'polyphase' has no attribute 'deconvolve'"):
        polyphase.deconvolve  # noqa: B018


@pytest.mark.parametrize("name", polyphase.__all__)
def test_every_public_name_has_a_text_and_an_example(name):
    value = getattr(polyphase, name)
    assert value.__doc__
    assert isinstance(value, ModuleType) or ">>> " in value.__doc__


@pytest.mark.parametrize("name", polyphase.__all__)
def test_every_public_member_has_a_text(name):
    value = getattr(polyphase, name)
    own = vars(value) if isinstance(value, type) else {}
    bare = [
        member
        for member, thing in own.items()
        if not member.startswith("_")
        and (callable(thing) or isinstance(thing, property | classmethod | staticmethod))
        and not thing.__doc__
    ]
    assert bare == []


@pytest.mark.parametrize("name", polyphase.__all__)
def test_every_public_name_is_in_the_reference(name):
    page = (repository.ROOT / "docs" / "api.md").read_text()
    assert re.search(rf"^::: {re.escape(polyphase._HOMES[name])}(\.{name})?$", page, re.M)

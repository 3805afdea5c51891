"""The page about other frameworks holds what the modules say, and can be made anew."""

import pytest
import repository

from polyphase import interop
from polyphase.interop import page

PAGE = repository.ROOT / "docs" / "interop.md"


def test_the_page_is_what_the_code_says():
    text = PAGE.read_text()
    # otherwise: .venv/bin/python -m polyphase.interop.page docs/interop.md
    assert page.filled(text) == text


def test_every_framework_is_in_every_table():
    for make in page.SECTIONS.values():
        for module in interop.FRAMEWORKS.values():
            assert module.CONVENTION.title in make()


def test_a_page_that_differs_is_mended(tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text().replace("`(C_out, *kernel, C_in)`", "unknown"))
    assert page.filled(copy.read_text()) != copy.read_text()
    page.main(str(copy))
    assert copy.read_text() == PAGE.read_text()


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="the page must have the marks"):
        page.filled("# Other frameworks\n")

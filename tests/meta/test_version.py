"""One version: the package and the newest entry of the changelog."""

import re

import repository

import polyphase


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (.*)$", (repository.ROOT / "CHANGELOG.md").read_text(), re.M)
    found = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2}|unreleased)", headings[0])
    assert found, f"write '## [1.2.3] - 2026-01-31' or '... - unreleased', got {headings[0]!r}"
    assert found[1] == polyphase.__version__

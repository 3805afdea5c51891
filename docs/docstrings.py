"""Docstrings as Markdown, for the reference page: roles become links, doctests code blocks."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`~?([\w.]+)`")
DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*(?:\n\n>>> .*(?:\n(?!\s*$).*)*)*", re.M)


def link(role: re.Match[str]) -> str:
    """A link to the object that a role names; plain code where no page describes it."""
    name = role[1].split(".")[-1]
    return f'<autoref optional identifier="{role[1]}"><code>{name}</code></autoref>'


def markdown(text: str) -> str:
    """One docstring, rewritten.

    >>> print(markdown("See :class:`~polyphase.Phase`."))
    See <autoref optional identifier="polyphase.Phase"><code>Phase</code></autoref>.
    """
    text = ROLE.sub(link, text)
    text = DOCTEST.sub(lambda session: f"```pycon\n{session[0]}\n```", text)
    return re.sub(r"::$", ":", text, flags=re.M)


class Docstrings(griffe.Extension):
    """Rewrites every docstring once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each object that is not an alias."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

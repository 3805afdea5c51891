"""A bar where a person looks on, and nothing elsewhere."""

import io

from rich.console import Console

from polyphase.tools.progress import bar


def shown(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with bar(console) as say:
        say("Loading")
        say("Trying sizes", 3, 16)
        say("Trying sizes", 16, 16)
        say("Looking")
    return console.file.getvalue()


def test_a_terminal_shows_what_is_going_on_and_is_left_empty():
    text = shown(terminal=True)
    assert "Looking" in text
    # the line is erased at the end
    assert text.rstrip().endswith("\x1b[2K")


def test_a_pipe_gets_nothing():
    assert shown(terminal=False).strip() == ""

"""The command line as ``python -m polyphase``."""

import sys

from polyphase.cli import main

sys.exit(main())

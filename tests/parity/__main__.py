"""``python -m tests.parity``."""

import sys

from tests.parity.replay import main

sys.exit(main())

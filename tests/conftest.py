"""What all tests share."""

from __future__ import annotations

import signal

# Started in the background, a shell has SIGINT ignored, and nohup SIGHUP; kshark leaves ignored signals
# alone, and the tests of signals would wait for ever. The children of the tests inherit it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

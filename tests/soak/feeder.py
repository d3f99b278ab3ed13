"""Feeds the simulated readings to the gateway's standard input, as a device that resends does.

After a kill -9 it feeds again what it wrote in the last RESEND_S seconds, and nothing older. So a run
without loss shows that a kill costs no more than what docs/operations.md grants: the open batch
(`age_ms_max`, here AGE_MS) and what waits in the pipe.
"""

import asyncio
import bisect
import time

AGE_MS = 250
RESEND_S = 5.0


class Feeder:
    def __init__(self, lines, seconds):
        self.lines, self.per_second = lines, len(lines) / seconds
        self.written = []  # of each line, in order: when it was written last
        self.again = 0
        self.stdin = None

    def attach(self, stdin):
        stdin.transport.set_write_buffer_limits(high=0)  # drain() returns when the pipe has all
        self.stdin = stdin

    def detach(self):
        """The gateway was killed: what was written just before counts as not taken."""
        self.stdin = None
        taken = bisect.bisect_left(self.written, time.monotonic() - RESEND_S)
        self.again += len(self.written) - taken
        del self.written[taken:]

    async def run(self):
        """Returns when every line was written and no kill took it back."""
        begin = time.monotonic()
        while len(self.written) < len(self.lines):
            await asyncio.sleep(0.02)
            due = min(len(self.lines), int((time.monotonic() - begin) * self.per_second))
            while len(self.written) < due and (stdin := self.stdin):
                piece = self.lines[len(self.written) :][: min(100, due - len(self.written))]
                try:
                    stdin.write(b"".join(piece))
                    await stdin.drain()
                except OSError:
                    break
                if self.stdin is not stdin:
                    break  # killed while it waited: detach() did not count this piece as written
                self.written += [time.monotonic()] * len(piece)

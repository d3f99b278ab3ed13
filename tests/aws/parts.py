"""A program of the run: started with its log in a file, and ended by its own id."""

import os
import subprocess
import time


PATIENCE_S = 300  # on a machine that has much else to do


class Part:
    def __init__(self, name, logs, *command, env=None, stdin=subprocess.DEVNULL):
        self.name, self.log, self.out = name, logs / f"{name}.log", logs / f"{name}.out"
        with self.log.open("ab") as log, self.out.open("ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin,
                stdout=out,
                stderr=log,
                env=env if env is None else {"PATH": os.environ["PATH"], **env},
            )

    def wait(self, seconds, code=0):
        """For its end by itself; another exit code is an error."""
        if (ended := self.process.wait(seconds)) != code:
            raise AssertionError(f"{self.name} exited with {ended}, see {self.log}: {self.tail()}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]


def until(what, done, seconds=PATIENCE_S):
    """Waits for `done()` to be true, and returns it; `what` names it where that takes too long."""
    end = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s: not {what}")
        time.sleep(0.1)
    return found

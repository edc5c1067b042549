"""A child process that is always stopped, and whose last words are kept."""

import os
import signal
import subprocess
import tempfile

from lib.problem import Problem

STOP_SECONDS = 10


class Process:
    """A context: the process runs inside it, with `env` beside what the environment holds. Its output goes to a log, unless
    `talks`: then it is a pipe."""

    def __init__(self, command, cwd=None, talks=False, env=None):
        self.command = [str(part) for part in command]
        self.cwd = cwd
        self.talks = talks
        self.env = env or {}
        self.popen = None

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        try:
            self.popen = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env={**os.environ, **{name: str(value) for name, value in self.env.items()}},
                stdin=subprocess.PIPE if self.talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.talks else self.log,
                stderr=self.log,
                text=self.talks,
                # Ctrl-C reaches bench/run alone, which then stops its children in order.
                start_new_session=True,
            )
        except OSError as error:
            self.log.close()
            raise Problem(f"cannot start {self.command[0]}: {error}") from error
        return self

    def __exit__(self, *_):
        self.popen.terminate()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # The group, for what the process may have left behind.
            try:
                os.killpg(self.popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.popen.wait()
            for pipe in (self.popen.stdin, self.popen.stdout):
                if pipe:
                    pipe.close()
            self.log.close()

    @property
    def pid(self):
        return self.popen.pid

    def check(self):
        """Raises if the process has ended."""
        if self.popen.poll() is not None:
            raise Problem(f"{self.command[0]} ended with {self.popen.returncode}: {self.last_lines()}")

    def last_lines(self, count=5):
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        return " / ".join(lines[-count:])


def output_of(command, cwd=None, timeout=60):
    """What a short-lived program prints."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise Problem(f"{command[0]} did not end within {timeout} s") from error
    except OSError as error:
        raise Problem(f"cannot start {command[0]}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # What compilers say of an error comes first, what most others say comes last.
        told = [line for line in lines if line.startswith("error")] or lines
        raise Problem(f"{command[0]} ended with {done.returncode}: {' / '.join(told[-3:])}")
    return done.stdout

"""The contenders of one comparison that could be started, and why the others could not."""

from contextlib import ExitStack

from lib.problem import Problem


class Field:
    """A context: every contender that can be started runs inside it."""

    def __init__(self, contenders):
        self.contenders = contenders
        self.running = []
        self.notes = []

    def __enter__(self):
        with ExitStack() as stack:
            for contender in self.contenders:
                try:
                    stack.enter_context(contender)
                except Problem as problem:
                    self.drop(contender, problem)
                else:
                    self.running.append(contender)
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()

    def drop(self, contender, problem):
        """Leaves it out from here on."""
        self.notes.append(f"{contender.name} left out: {problem}")
        print(f"  {self.notes[-1]}", flush=True)
        if contender in self.running:
            self.running.remove(contender)

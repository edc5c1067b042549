"""Interleaved rounds: in each, every contender is measured once, and the one that begins changes."""

import statistics
import time

from lib.problem import Problem

# For what the last load left in sockets and queues.
PAUSE = 0.2


class Rounds:
    """What the contenders of a field measured, by name, one sample (a dict) for each round."""

    def __init__(self, field, count, measure):
        self.samples = {contender.name: [] for contender in field.running}
        for i in range(count):
            for contender in _rotated(field.running, i):
                try:
                    self.samples[contender.name].append(measure(contender, i))
                except Problem as problem:
                    field.drop(contender, problem)
                    del self.samples[contender.name]
                time.sleep(PAUSE)

    def median(self, name, key):
        """None if that contender was not measured."""
        if name not in self.samples:
            return None
        return statistics.median(sample[key] for sample in self.samples[name])

    def ratio(self, name, other, key):
        """The median of the rounds' own ratios, for what disturbs a whole round then cancels out."""
        if name not in self.samples or other not in self.samples:
            return None
        pairs = zip(self.samples[name], self.samples[other])
        return statistics.median(one[key] / two[key] if two[key] else float("inf") for one, two in pairs)

    def ratios(self, name, others, key):
        """Those that were measured."""
        found = [self.ratio(name, other, key) for other in others]
        return [ratio for ratio in found if ratio is not None]


def _rotated(contenders, by):
    by %= max(len(contenders), 1)
    return contenders[by:] + contenders[:by]

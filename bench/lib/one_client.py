"""One client that acknowledges at once what it gets (`TCP_QUICKACK`), as httpuv's writes wait for that."""

import statistics

from lib.load import latency


class OneClient:
    """What it measured of the contenders of a field, which it asks in turns: a sample for each name, in each round. Further
    arguments are those of `latency`."""

    def __init__(self, field, timing, path, **asked):
        targets = {contender.name: f"quick:{contender.address}" for contender in field.running}
        latency(targets, 1, path, **asked)
        self.rounds = [latency(targets, timing.seconds, path, **asked) for _ in range(timing.rounds)]

    def rate(self, name):
        """Requests/s: of one client, what its mean time leaves room for. None if that contender was not measured."""
        if name not in self.rounds[0]:
            return None
        return statistics.median(1000 / sample[name]["mean_ms"] for sample in self.rounds)

    def ratio(self, name, other, key="mean_ms"):
        """Of the requests/s, or of what another time would leave room for: the median of the rounds' own ratios."""
        if not {name, other} <= self.rounds[0].keys():
            return None
        return statistics.median(sample[other][key] / sample[name][key] for sample in self.rounds)

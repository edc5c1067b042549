"""What can go wrong with a contender without ending the whole run."""


class Problem(Exception):
    """A contender is missing, did not start, or failed under load."""

"""R workers that dial in, beside those of `faucet::run()`."""

from lib.faucet import Faucet, FaucetHub
from lib.field import Field
from lib.load import closed
from lib.rounds import Rounds
from lib.table import number, table

CLIENTS = 32
NAMES = ("run_hub", "run")


def run(plan, section):
    timing = plan.plumber_reach
    with Field([FaucetHub(plan.workers), Faucet(plan.workers, "run")]) as field:
        Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 1))
        rounds = Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds))
        section.notes += field.notes
    rates = [number(rounds.median(name, "rate"), 0) for name in NAMES]
    head = [f"{plan.workers} R workers, {CLIENTS} clients", *NAMES, "to run"]
    section.tables.append(table(head, [["fast, requests/s", *rates, number(rounds.ratio(*NAMES, "rate"), 2, "x")]]))

"""The parts of bench/run, a noun each."""

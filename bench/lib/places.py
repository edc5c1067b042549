"""Where things are."""

from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
API = BENCH / "api"
CONFIG = BENCH / "config"
LUA = BENCH / "lua"
PRELOAD = BENCH / "preload"
RESULTS = BENCH / "RESULTS.md"
STORM = BENCH / "storm"
TOOLS = BENCH / "tools"
BEFORE = BENCH.parent / ".build" / "bench"
RUST = BENCH.parent / "src" / "rust"
FRONT = RUST / "target" / "release" / "examples" / "front"

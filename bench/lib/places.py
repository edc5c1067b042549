"""Where things are."""

from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
API = BENCH / "api"
COMPILED = BENCH / "compiled"
CONFIG = BENCH / "config"
FUNCTIONS = BENCH / "functions"
LUA = BENCH / "lua"
PRELOAD = BENCH / "preload"
RESULTS = BENCH / "RESULTS.md"
STORM = BENCH / "storm"
TOOLS = BENCH / "tools"
WSGI = BENCH / "wsgi"
BEFORE = BENCH.parent / ".build" / "bench"
POTHEAD = BENCH.parent / ".build" / "pothead"
RUST = BENCH.parent / "src" / "rust"
EXAMPLES = RUST / "target" / "release" / "examples"

"""What schemathesis asks of an agent, made harmless and quick: nothing that it makes up is run, or called, or waited for.

What the document allows stays allowed, and what it forbids forbidden. What JSON Schema cannot say is added: that the least is not
above the most, that no two functions of a request have one name, how variables of the environment are named, and what is a chain.
"""

import io
import tarfile

import schemathesis
from schemathesis.generation import GenerationMode

LONGEST_WAIT = 0.5


@schemathesis.serializer("application/gzip")
def archive(context, value):
    """An archive with any content where the document asks for one, and any bytes where it does not."""
    content = value if isinstance(value, bytes) else str(value).encode()
    if not is_positive(context.case):
        return content
    bytes_of_it = io.BytesIO()
    with tarfile.open(fileobj=bytes_of_it, mode="w:gz") as tar:
        entry = tarfile.TarInfo("input")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return bytes_of_it.getvalue()


def is_positive(case):
    return case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE


def is_text(value):
    return isinstance(value, str) and value != ""


def are_texts(value):
    return isinstance(value, list) and value != [] and all(is_text(word) for word in value)


def harmless(definition):
    for field in ("dir", "packageDir"):
        if is_text(definition.get(field)) and definition[field].startswith("/"):
            definition[field] = "/nowhere"
    url = definition.get("url")
    if is_text(url) and url.lower().startswith(("http://", "https://")):
        definition["url"] = "http://127.0.0.1:9/"
    if is_text(url) and url.lower().startswith("grpc://"):
        definition["url"] = "grpc://127.0.0.1:9"
    command = definition.get("command")
    if is_text(command) or are_texts(command):
        definition["command"] = ["cat"]


def valid(definition):
    workers = definition.get("workers")
    if isinstance(workers, list):
        definition["workers"] = [min(workers), max(max(workers), 1)]
    # Enough for a program to run with.
    for field, least in (("memory", 1 << 30), ("cpuTime", 60)):
        if definition.get(field) is not None:
            definition[field] = max(definition[field], least)
    if definition.get("env"):
        names = [name for name in definition["env"] if name and "=" not in name]
        definition["env"] = {name: definition["env"][name] for name in names}
    # A text, or texts: each name once.
    options = definition.get("options")
    if options is not None:
        named = {option.removesuffix("="): option for option in ([options] if isinstance(options, str) else options)}
        definition["options"] = list(named.values()) if definition.get("command") else []
    if not (definition.get("url") or "").startswith("grpc://"):
        definition.pop("services", None)
    if definition.get("toAgent") and definition.get("agentAddr"):
        del definition["agentAddr"]


def once_each(definitions):
    names = set()
    for definition in definitions:
        if definition["name"] not in names:
            names.add(definition["name"])
            yield definition


def deploy(case):
    # As RYO-FaaS's files have it.
    wrapped = isinstance(case.body, dict) and isinstance(case.body.get("deploy"), list)
    body = case.body["deploy"] if wrapped else case.body
    several = body if isinstance(body, list) else [body]
    definitions = [dict(one) if isinstance(one, dict) else one for one in several]
    positive = is_positive(case)
    for definition in definitions:
        if isinstance(definition, dict):
            harmless(definition)
            if positive:
                valid(definition)
    if not isinstance(body, list):
        case.body = definitions[0]
        return
    definitions = list(once_each(definitions)) if positive else definitions
    case.body = {**case.body, "deploy": definitions} if wrapped else definitions


def called(query):
    """A chain that can be read, with time for it, and nobody who is told of its end: none may be."""
    query["chain"] = "nowhere n=3 | nowhere"
    query.pop("callback", None)
    if "timeout" in query:
        query["timeout"] = 1


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path == "/deploy" and case.method.upper() == "POST":
        deploy(case)
    query = dict(case.query or {})
    wait = query.get("wait")
    try:
        if wait is not None and float(wait) > LONGEST_WAIT:
            query["wait"] = LONGEST_WAIT
    except (TypeError, ValueError):
        pass
    if case.path in ("/invoke", "/async") and is_positive(case):
        called(query)
    # Which options there are is each function's to say: the document cannot.
    if case.path.startswith("/functions/") and is_positive(case):
        query = {}
    # It would go on.
    if query.get("follow") in ("1", "true", ""):
        query["follow"] = "0"
    if query != (case.query or {}):
        case.query = query

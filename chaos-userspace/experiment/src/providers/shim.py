"""Carries Python activities and controls out for murphy.

Reads a JSON object a line, answers one a line, in any order: the requests have ids. What the called functions
print goes to standard error.
"""

import importlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback

sys.path[:] = [folder for folder in sys.path if folder]
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
lock = threading.Lock()


def load(request):
    return getattr(importlib.import_module(request["module"]), request["func"], None)


def run(request):
    func = load(request)
    parameters = inspect.signature(func).parameters
    arguments = dict(request["arguments"])
    if request["secrets"] is not None and "secrets" in parameters:
        arguments["secrets"] = request["secrets"]
    if "configuration" in parameters:
        arguments["configuration"] = request["configuration"]
    try:
        return {"result": func(**arguments)}
    except Exception as error:
        return {"failed": traceback.format_exception_only(type(error), error)[0].strip()}


def check(request):
    """What is wrong with an activity, as Chaos Toolkit sees it."""
    try:
        module = importlib.import_module(request["module"])
    except ImportError as error:
        return {"problem": ["module", f"Python cannot import `{request['module']}`: {error}"]}
    functions = inspect.getmembers(module, inspect.isroutine)
    func = dict(functions).get(request["func"])
    if func is None:
        return {"problem": ["func", f"`{request['module']}` has no function `{request['func']}`"]}
    try:
        signature = inspect.signature(func)
    except ValueError:
        return {}
    arguments = dict(request["arguments"])
    for name in ("secrets", "configuration"):
        if name in signature.parameters:
            arguments[name] = None
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return {"problem": ["arguments", f"`{request['func']}{signature}`: {error}"]}
    return {}


def control(request):
    """Calls a control's function, if its module has it, with what it asks for."""
    try:
        func = load(request)
    except ImportError:
        return {"result": None}
    if func is None:
        return {"result": None}
    parameters = inspect.signature(func).parameters
    arguments = dict(request["arguments"])
    arguments.update({k: v for k, v in request["offers"].items() if k in parameters})
    try:
        func(**arguments)
    except Exception as error:
        name = type(error).__name__
        if name == "InterruptExecution":
            return {"interrupt": str(error)}
        return {"failed": traceback.format_exception_only(type(error), error)[0].strip()}
    return {"result": None}


OPERATIONS = {"run": run, "check": check, "control": control}


def serve(request):
    try:
        answer = OPERATIONS[request["op"]](request)
    except BaseException as error:
        answer = {"broken": traceback.format_exception_only(type(error), error)[0].strip()}
    answer["id"] = request["id"]
    try:
        line = json.dumps(answer, default=str)
    except (TypeError, ValueError) as error:
        line = json.dumps({"id": request["id"], "broken": f"the result is not JSON: {error}"})
    with lock:
        answers.write(line + "\n")


def main():
    # chaoslib.exit asks its own process to leave: that is murphy here.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: os.kill(os.getppid(), number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


main()

"""Chaos Toolkit itself, many times over: imported once, forked for each run.

Reads a JSON object a line, {"cwd", "args", "env"}; answers {"pid"} when the run has begun and {"code"} when it
has ended. What a run says goes to `chaos.log` in its folder.
"""

import json
import os
import sys

# Everything a run imports, once.
import chaoslib.provider.http  # noqa: F401
import chaoslib.provider.process  # noqa: F401
import chaoslib.provider.python  # noqa: F401
import jsonpath2.path  # noqa: F401
from chaostoolkit.cli import cli


def run(job):
    log = os.open(os.path.join(job["cwd"], "chaos.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    # As a program started in its folder, not from this one.
    sys.path[0] = job["cwd"]
    cli(["--no-version-check", "--no-log-file", *job["args"]])


def main():
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(job)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


main()

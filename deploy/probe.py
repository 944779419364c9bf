"""Ask this machine's own web server how it is. Status 0: well.

    python deploy/probe.py PATH PORT [BIND]

With the standard library alone, so that it takes some hundredths of a second, and past every proxy in the environment,
which would look for the server on a machine of its own.
"""

from __future__ import annotations

import http.client
import sys

TIMEOUT_S = 2.0
# What stands for all addresses is none to call.
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main(path: str, port: str, bind: str = "") -> int:
    first = bind.replace(",", " ").partition(" ")[0].strip("[]")
    connection = http.client.HTTPConnection(WILDCARDS.get(first, first), int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(status)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

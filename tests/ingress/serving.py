"""An ingress in a process of its own, run by test_kills.py. Argument: the database's URL. Prints its port."""

from __future__ import annotations

import sys

from console.web.ingress.serving import listen, serve
from ipaas_resources.core.platform import run_async

if __name__ == "__main__":
    with listen(0) as listening:

        def tell():
            sys.stdout.write(f"{listening.getsockname()[1]}\n")
            sys.stdout.flush()

        run_async(serve(sys.argv[1], listening, tell))

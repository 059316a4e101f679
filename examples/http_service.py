"""A small HTTP service: POST a Python program, get what it prints. One container a request.

    python examples/http_service.py 8080 &
    curl --data-binary 'print(6 * 7)' http://localhost:8080/

Anyone who reaches it may use the machine's processors: it listens on localhost only.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyrunc

LARGEST_PROGRAM = 100_000


class Handler(BaseHTTPRequestHandler):
    """Runs what is posted."""

    def do_POST(self) -> None:
        """Run a program and answer with its result as JSON."""
        length = int(self.headers.get("Content-Length", 0))
        if length > LARGEST_PROGRAM:
            self.send_error(413)
            return
        result = pyrunc.run(
            ["python3", "-"], input=self.rfile.read(length), timeout=5, memory="64M", output="64K",
            best_effort=True,
        )  # fmt: skip
        answer = {
            "status": result.status,
            "returncode": result.returncode,
            "stdout": result.stdout.decode(errors="replace"),
            "stderr": result.stderr.decode(errors="replace"),
            "seconds": round(result.duration, 3),
        }
        content = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("localhost", int(sys.argv[1])), Handler)
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()

"""A web server of our own that serves a folder, slowly: Debian's nginx with its echo module, on a free port."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")

CONFIG = """
load_module {echo};
{user}
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path {home}/1;
  proxy_temp_path {home}/2;
  fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4;
  scgi_temp_path {home}/5;
  types {{ image/jpeg jpg; application/json json; }}
  server {{
    listen 127.0.0.1:{port};
    location /bucket/ {{ echo_sleep {delay}; echo_exec /slept$uri; }}
    location /slept/bucket/ {{ internal; alias {folder}/; }}
  }}
}}
"""


@contextlib.contextmanager
def serving(folder: Path, *, delay_s: float) -> Iterator[str]:
    """Serves `folder` under `/bucket/`, every answer `delay_s` late. Gives the server's URL.

    Raises:
        SystemExit: nginx or its module is not installed, or does not start.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None or not ECHO.is_file():
        raise SystemExit("this benchmark needs nginx: apt-get install nginx-light libnginx-mod-http-echo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""  # else nginx becomes "nobody", who may not see the folder
        config.write_text(
            CONFIG.format(echo=ECHO, user=user, home=home, port=port, delay=delay_s, folder=folder.resolve())
        )
        server = subprocess.Popen([program, "-c", str(config), "-e", f"{home}/error.log"], stderr=subprocess.PIPE)
        try:
            _wait(server, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.communicate(timeout=10)


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(100):
        if server.poll() is not None:
            raise SystemExit(f"nginx does not start: {server.communicate()[1].decode()[-500:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("nginx does not answer")

"""What every nginx of these tests is told: one worker, all its files in a folder of the test."""

from __future__ import annotations

from pathlib import Path


def configure(folder: Path, served: str, connections: int = 64) -> str:
    """Write the configuration, with `served` in its http block; the command that runs it."""
    (folder / "nginx.conf").write_text(
        f"user root; worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections {connections}; }}\n"
        f"http {{ access_log off; root {folder};\n"
        f"  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;\n"
        f"  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n{served}\n}}\n"
    )
    return f"nginx -p {folder} -c {folder}/nginx.conf"

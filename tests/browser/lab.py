"""A real JupyterLab on its own port, folders and settings, and what a person does in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page

from workshop_lib import places

CHROMIUM = Path("/usr/bin/chromium")
TOKEN = "t"
READY_MS = 30_000


class Lab:
    """A running server; `folder` holds the notebooks.

    Attributes:
        url: address without a slash at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "notebooks"
        self.folder.mkdir(parents=True)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = [
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            f"--IdentityProvider.token={TOKEN}",
            "--allow-root",
            f"--ServerApp.root_dir={self.folder}",
            "--LabApp.expose_app_in_browser=True",
        ]
        isolated = {
            f"JUPYTER{name}": str(folder / name.lower().removeprefix("_"))
            for name in ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
        }
        self._settings = folder / "lab_settings_dir"
        self.set("apputils-extension", "notification", {"fetchNews": "false", "checkForUpdates": False})
        environment = {
            **os.environ,
            **isolated,
            "JUPYTER_PREFER_ENV_PATH": "1",
            "PYTHONPATH": places.search_path(),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log, cwd=folder
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(300):
            try:
                self.ask("/api/status")
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"JupyterLab did not start: {self.log.read_text('utf-8', 'replace')[-2000:]}")

    def set(self, extension: str, name: str, values: dict[str, Any]) -> None:
        """Store a setting of JupyterLab; pages loaded from now on have it."""
        path = self._settings / "@jupyterlab" / extension / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")

    def ask(self, path: str, method: str = "GET") -> Any:
        """Call the server's API."""
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
        return json.loads(text) if text else None

    def kernel_processes(self) -> list[int]:
        """Process ids of the kernels: the server's own children."""
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def kill_kernels(self) -> None:
        """End every kernel at once, as a crash or a closed lid with an empty battery does."""
        import psutil

        for pid in self.kernel_processes():
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                continue

    def restart_kernels(self) -> None:
        """Start all kernels anew, dead or alive, without waiting for the server to notice a death."""
        for kernel in self.ask("/api/kernels"):
            self.ask(f"/api/kernels/{kernel['id']}/restart", "POST")

    def shut_down_kernels(self) -> None:
        """Stop all kernels by the server's API."""
        for kernel in self.ask("/api/kernels"):
            self.ask(f"/api/kernels/{kernel['id']}", "DELETE")

    def close(self) -> None:
        """Stop the server and its kernels."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def write_notebook(self, name: str, *cells: str) -> str:
        """Store a notebook with these code cells."""
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return name

    def open(self, page: Page, name: str) -> None:
        """Open a notebook and wait until its kernel is ready; run nothing."""
        page.goto(f"{self.url}/doc/tree/{name}?token={TOKEN}&reset")
        page.wait_for_function("window.jupyterapp !== undefined", timeout=READY_MS)
        page.evaluate(
            """async () => {
                const app = window.jupyterapp;
                await app.started;
                let panel = null;
                while (!(panel = app.shell.currentWidget)?.context) await new Promise(done => setTimeout(done, 20));
                await panel.revealed;
                await panel.sessionContext.ready;
                await panel.sessionContext.session.kernel.info;
            }"""
        )

    def run_all(self, page: Page) -> Locator:
        """Run every cell and return the widget once it is drawn."""
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        widget = page.locator(".ws-annotation").first
        widget.wait_for(timeout=READY_MS)
        return widget

    def save(self, page: Page) -> None:
        """Save the notebook, outputs and all."""
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")


def cells_of(page: Page) -> list[list[str]]:
    """Type and source of each cell as the page holds them now."""
    return page.evaluate(
        "() => [...window.jupyterapp.shell.currentWidget.content.model.cells]"
        ".map(cell => [cell.type, cell.sharedModel.getSource()])"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def contrasts(widget: Locator) -> dict[str, float]:
    """WCAG contrast of each text with what is behind it."""
    return widget.evaluate(
        """root => {
            const rgba = text => text.match(/[\\d.]+/g).map(Number);
            const over = (top, under) => {
                const a = top[3] ?? 1;
                return [0, 1, 2].map(i => a * top[i] + (1 - a) * under[i]);
            };
            const light = rgb => {
                const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
                const [r, g, b] = rgb.map(v => linear(v / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = each => {
                if (!each) return [255, 255, 255];
                const own = rgba(getComputedStyle(each).backgroundColor);
                return own[3] === 0 ? behind(each.parentElement) : over(own, behind(each.parentElement));
            };
            const found = {};
            for (const each of root.querySelectorAll('*')) {
                const owns = [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
                if (!owns || each.closest('[hidden], :disabled')) continue;
                const back = behind(each), front = over(rgba(getComputedStyle(each).color), back);
                const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
                found[`${each.className} ${each.textContent.slice(0, 20)}`] = (high + 0.05) / (low + 0.05);
            }
            return found;
        }"""
    )

"""Runs scripts/notebook/resnet.ipynb in Jupyter's Deno kernel, and stores it with its outputs.

    deno jupyter --install
    python3 -m venv /tmp/nb && /tmp/nb/bin/pip install nbclient==0.11.0 ipykernel==7.4.0
    NO_COLOR=1 /tmp/nb/bin/python -B tests/reference/run_notebook.py
    deno fmt --no-config --line-width 100 scripts/notebook

NO_COLOR keeps escape sequences out of what is stored. `deno.json` excludes the notebook from `deno fmt`.
"""

import contextlib
import queue
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.util import ensure_async


class Client(NotebookClient):
    """Waits for results that come late: Deno 2.9's kernel may say that it is idle before it sends one."""

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)
        with contextlib.suppress(queue.Empty):
            while True:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=1))
                if message["parent_header"].get("msg_id") == parent_msg_id:
                    self.process_message(message, cell, cell_index)


path = Path(__file__).parents[2] / "scripts/notebook/resnet.ipynb"
notebook = nbformat.read(path, as_version=4)
Client(
    notebook,
    kernel_name="deno",
    timeout=None,
    record_timing=False,
    coalesce_streams=True,
    resources={"metadata": {"path": str(path.parent)}},
).execute()
nbformat.write(notebook, path)
